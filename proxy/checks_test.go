package proxy

import (
	cryptotls "crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/proxy/check"
	"github.com/pharos-lb/pharos/proxy/policy"
	"github.com/pharos-lb/pharos/proxy/policy/health"
	"github.com/pharos-lb/pharos/proxy/proxytest"
	"github.com/pharos-lb/pharos/proxy/tls"
)

func TestFaultsOfChecksAndHealthHaveTheirPaths(t *testing.T) {
	config := oneListener(TCP, Server{Name: "a", Address: netip.MustParseAddrPort("10.0.0.1:80"), Weight: 257, State: "off", MaxInFlight: -1})
	config.Pools[0].Check = &check.Spec{Kind: check.KindHTTP, Path: "x", Headers: [][2]string{{"a", "b"}, {"", ""}}}
	config.Pools[0].Health = health.Config{Fall: -1, Outlier: &health.Outlier{MaxShare: 2}}
	var got []string
	err := config.Validate()
	for _, e := range err.(interface{ Unwrap() []error }).Unwrap() {
		var fault *policy.Fault
		if !errors.As(e, &fault) || fault.Reason == "" {
			t.Errorf("fault %v", e)
			continue
		}
		got = append(got, fault.Field)
	}
	want := []string{
		"pools[0].check.path", "pools[0].check.headers[1]", "pools[0].health.fall", "pools[0].health.outlier.max_share",
		"pools[0].servers[0].weight", "pools[0].servers[0].state", "pools[0].servers[0].max_in_flight",
	}
	if !slices.Equal(got, want) {
		t.Errorf("faults in %v, want %v", got, want)
	}
}

// asked counts which paths a server is asked for.
type asked struct {
	mu    sync.Mutex
	paths map[string]int
}

func (a *asked) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.paths == nil {
		a.paths = map[string]int{}
	}
	a.paths[r.URL.Path]++
}

func (a *asked) count(path string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.paths[path]
}

func TestStatesOfServersAreCheckedAndShown(t *testing.T) {
	var up, drains, repaired asked
	created := time.Unix(1_700_000_000, 0)
	config := oneListener(HTTP,
		Server{ID: "1", Name: "up", Address: webServer(t, up.ServeHTTP), Weight: 2, Created: created},
		Server{ID: "2", Name: "down", Address: deadAddress(t), Weight: 1},
		Server{ID: "3", Name: "drains", Address: webServer(t, drains.ServeHTTP), Weight: 1, State: health.Draining},
		Server{ID: "4", Name: "repaired", Address: webServer(t, repaired.ServeHTTP), Weight: 1, State: health.Maintenance})
	config.Pools[0].Check = &check.Spec{Kind: check.KindHTTP, Path: "/first"}
	config.Pools[0].Health = health.Config{Interval: 5 * time.Millisecond, Fall: 1}
	p := start(t, config)
	proxytest.Eventually(t, "the pool is checked", func() bool { st := p.Status().Pools[0]; return st.Checked && st.Tier == "primary" })
	st := p.Status().Pools[0]
	if st.Healthy != 1 || st.Warning != "" {
		t.Errorf("pool status = %+v", st)
	}
	want := []struct {
		state     string
		effective float64
		reason    string
	}{{"HEALTHY", 2, "ok"}, {"UNHEALTHY", 0, "connect: connection refused"}, {"DRAINING", 0, "ok"}, {"MAINTENANCE", 0, ""}}
	for i, s := range st.Servers {
		if s.State != want[i].state || s.EffectiveWeight != want[i].effective || s.LastReason != want[i].reason || s.Pool != "web" || s.ID != config.Pools[0].Servers[i].ID {
			t.Errorf("status = %+v, want %+v", s, want[i])
		}
	}
	if !st.Servers[0].Created.Equal(created) {
		t.Errorf("created = %v", st.Servers[0].Created)
	}

	// Another question: the answers to the one before count on.
	config.Pools[0].Check = &check.Spec{Kind: check.KindHTTP, Path: "/second"}
	if err := p.Apply(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if st := p.Status().Pools[0]; !st.Checked || st.Healthy != 1 {
		t.Errorf("status after the check changed = %+v", st)
	}
	proxytest.Eventually(t, "the new question is asked", func() bool { return up.count("/second") > 1 && drains.count("/second") > 1 })
	before := up.count("/first")
	proxytest.Eventually(t, "it is asked on", func() bool { return up.count("/second") > 5 })
	if after := up.count("/first"); after > before+1 { // one was in flight
		t.Errorf("the old question is still asked: %d times, then %d", before, after)
	}
	if n := repaired.count("/first") + repaired.count("/second"); n != 0 {
		t.Errorf("a server under maintenance was asked %d times", n)
	}

	config.Pools[0].Servers = config.Pools[0].Servers[1:2]
	if err := p.Apply(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if st := p.Status().Pools[0]; st.Tier != "fail-open" || st.Warning != "no server is healthy: failing open to all 1" {
		t.Errorf("status of a pool whose only server is down: tier %s, warning %q", st.Tier, st.Warning)
	}
	config.Pools[0].FailClosed = true
	if err := p.Apply(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if st := p.Status().Pools[0]; st.Tier != "none" || st.Warning != "no server may take work: requests are refused" {
		t.Errorf("status of one that fails closed: tier %s, warning %q", st.Tier, st.Warning)
	}
}

func TestAPoolThatIsRemovedIsNotChecked(t *testing.T) {
	var server asked
	config := oneListener(HTTP, Server{Name: "a", Address: webServer(t, server.ServeHTTP), Weight: 1})
	config.Pools[0].Check = &check.Spec{Kind: check.KindHTTP}
	config.Pools[0].Health = health.Config{Interval: time.Millisecond}
	p := start(t, config)
	proxytest.Eventually(t, "it is checked", func() bool { return server.count("/") > 0 })
	other := oneListener(HTTP)
	other.Pools[0].Name, other.Listeners[0].Pool = "other", "other"
	if err := p.Apply(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	p.checks.Wait() // returns only when no check is left
}

// Terms of TLS that change are new checks, which ask by them.
func TestChecksOverTLS(t *testing.T) {
	held := selfSigned(t, "web", "web.example", year)
	pair, err := cryptotls.X509KeyPair(held.Chain, held.Key)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(named("a"))
	server.TLS = &cryptotls.Config{Certificates: []cryptotls.Certificate{pair}}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)

	config := oneListener(HTTP, Server{Name: "a", Address: netip.MustParseAddrPort(server.Listener.Addr().String()), Weight: 1})
	pool := &config.Pools[0]
	pool.Check = &check.Spec{Kind: check.KindHTTP}
	pool.Health = health.Config{Interval: 5 * time.Millisecond, Fall: 1, Rise: 1}
	p := start(t, config)
	for _, tt := range []struct {
		tls  *tls.ClientConfig
		want string
	}{
		{&tls.ClientConfig{ServerName: "web.example", CA: held.Chain}, "ok"},
		{&tls.ClientConfig{ServerName: "other.example", CA: held.Chain}, "tls: certificate for another name"},
		{&tls.ClientConfig{CA: held.Chain}, "tls: certificate for another name"}, // the address is verified
		{&tls.ClientConfig{InsecureSkipVerify: true}, "ok"},
		{&tls.ClientConfig{ServerName: "web.example"}, "tls: certificate of an unknown authority"},
	} {
		pool.CheckTLS = tt.tls
		if err := p.Apply(t.Context(), config); err != nil {
			t.Fatal(err)
		}
		proxytest.Eventually(t, fmt.Sprintf("%+v gives %q", tt.tls, tt.want), func() bool { return p.Status().Pools[0].Servers[0].LastReason == tt.want })
	}

	pool.CheckTLS = &tls.ClientConfig{Certificate: "gone"}
	if err := p.Apply(t.Context(), config); err == nil || !strings.Contains(err.Error(), `there is no certificate "gone"`) {
		t.Errorf("a certificate that is not there: %v", err)
	}
}
