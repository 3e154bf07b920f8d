package metrics

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/pharos-lb/pharos/bgp"
	"github.com/pharos-lb/pharos/bgp/bfd"
	"github.com/pharos-lb/pharos/cluster/lease/agent"
	"github.com/pharos-lb/pharos/node/holder"
	"github.com/pharos-lb/pharos/proxy"
	"github.com/pharos-lb/pharos/proxy/policy/balance"
)

// sample is a node with one of everything.
func sample() Snapshot {
	return Snapshot{
		Version: "v1", Applied: 7, Failing: true, HasLeader: true,
		VIPs:     map[string]bool{"web": true, "dns": false},
		Sessions: []bgp.SessionStatus{{Neighbor: "tor1", Established: true, Flaps: 2, BFD: &bfd.Status{State: bfd.Up, Failures: 3}}},
		Sender:   bfd.Sender{Priority: bfd.RealTime, Lateness: [9]uint64{90, 7, 0, 2, 0, 0, 0, 0, 1}, Sum: 250 * time.Millisecond, Max: 130 * time.Millisecond, Unsent: 4, Refused: 5},
		Held:     []holder.Status{{VIP: "office", Held: true, Transitions: 3, Conflicts: 1}},
		Leases:   agent.Lateness{Count: 100, Sum: 50 * time.Millisecond, Max: 20 * time.Millisecond},
		Proxy: proxy.Status{
			Connections: 5, InFlight: 3, Warnings: []string{"a certificate ends"},
			Datagrams: proxy.DatagramStatus{Forwarded: 60, Dropped: 2, Evicted: 1},
			Listeners: []proxy.ListenerStatus{{Name: "http", Accepting: true, Connections: 5, Accepted: 50, Requests: 49, Failed: 4, Handshakes: 1, Unintroduced: 8}},
			Pools: []proxy.PoolStatus{{Name: "app", Healthy: 0, Tier: balance.FailOpen, Sessions: proxy.SessionsStatus{Begun: 9, Moved: 3, Unusable: 2}, Servers: []proxy.ServerStatus{{
				Name: "a", State: "UNHEALTHY", EffectiveWeight: 1.5, InFlight: 3, Connections: 45, Failures: 6, EjectedUntil: time.Now().Add(time.Hour),
			}}}},
		},
	}
}

func TestWhatIsCollected(t *testing.T) {
	want, err := os.Open("testdata/sample.prom")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = want.Close() }()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(&node{sample})
	if err := testutil.GatherAndCompare(registry, want); err != nil {
		t.Error(err)
	}
	if faults, err := testutil.GatherAndLint(registry); err != nil || len(faults) > 0 {
		t.Errorf("names: %v, %v", faults, err)
	}
}

func TestServe(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	quiet := slog.New(slog.DiscardHandler)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	taken := l.Addr().String()
	if err := Serve(ctx, taken, sample, quiet); err == nil || !strings.Contains(err.Error(), `name another address as metrics in the node file, or "off"`) {
		t.Errorf("with the port taken: %v", err)
	}
	_ = l.Close()
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, taken, sample, quiet) }()
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestHandler(t *testing.T) {
	s := httptest.NewServer(Handler(sample))
	defer s.Close()
	res, err := http.Get(s.URL + Path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 200 {
		t.Fatalf("%s, %v", res.Status, err)
	}
	for _, series := range []string{`pharos_pool_tier{pool="app",tier="fail-open"} 1`, "go_goroutines ", "process_open_fds "} {
		if !strings.Contains(string(b), "\n"+series) {
			t.Errorf("no %s", series)
		}
	}
	for path, want := range map[string]int{"/": 404, Path: 405} {
		res, err := http.Post(s.URL+path, "text/plain", nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if diff := cmp.Diff(want, res.StatusCode); diff != "" {
			t.Errorf("POST %s (-want +got):\n%s", path, diff)
		}
	}
}
