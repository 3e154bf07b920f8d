package node

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/pharos-lb/pharos/cluster/registry"
	"github.com/pharos-lb/pharos/node/probe"
	"github.com/pharos-lb/pharos/proxy"
	"github.com/pharos-lb/pharos/proxy/accesslog"
	"github.com/pharos-lb/pharos/proxy/l7/engine/choice"
	"github.com/pharos-lb/pharos/proxy/l7/engine/uring"
	"github.com/pharos-lb/pharos/proxy/policy/shed"
	"github.com/pharos-lb/pharos/proxy/site"
	"github.com/pharos-lb/pharos/proxy/tls"
)

// certificate is for a server or an authority, as PEM.
func certificate(t testing.TB) (chain, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"web.example"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(365 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
}

// everyListener has one listener of each kind, each hard to come by: the server is
// dead, clients must have a certificate and begin with a PROXY header, and one
// request in a thousand seconds is all that they may make.
func everyListener(t testing.TB, address netip.Addr) proxy.Config {
	chain, key := certificate(t)
	at := []netip.AddrPort{netip.AddrPortFrom(address, 0)}
	anywhere := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	limit := func() *shed.ClientConfig {
		return &shed.ClientConfig{Rate: 0.001, Burst: 1, Connections: 1, PrefixV6: 64}
	}
	c := proxy.Config{
		Certificates: []tls.Certificate{{Name: "web", Chain: chain, Key: key}},
		TicketKeys:   []tls.TicketKey{{ID: "one", Key: [32]byte{1}, Encrypt: true}},
		Pools:        []proxy.Pool{{Name: "dead", FailClosed: true, Servers: []proxy.Server{{Name: "a", Address: netip.MustParseAddrPort("127.0.0.1:1"), Weight: 1}}}},
	}
	for _, p := range []proxy.Protocol{proxy.TCP, proxy.TLS, proxy.HTTP, proxy.HTTPS, proxy.UDP} {
		l := proxy.Listener{Name: string(p), Addresses: at, Protocol: p, Pool: "dead", Clients: limit()}
		switch p {
		case proxy.HTTP:
			l.AcceptProxy, l.HTTP = anywhere, site.HTTP{Log: true}
		case proxy.HTTPS:
			l.AcceptProxy, l.HTTP = anywhere, site.HTTP{Log: true}
			l.TLS = &tls.ServerConfig{Certificates: []string{"web"}, ClientAuth: tls.RequireClientCert, ClientCA: chain}
		case proxy.TCP, proxy.TLS:
			l.AcceptProxy, l.Log = anywhere, true
		default:
			l.Log = true
		}
		c.Listeners = append(c.Listeners, l)
	}
	return c
}

// serve runs a proxy until the test ends.
func serve(t testing.TB, opts proxy.Options, c proxy.Config) *proxy.Proxy {
	t.Helper()
	p, err := proxy.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	if err := p.Apply(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	return p
}

// targetsOf are all addresses that a proxy listens on.
func targetsOf(p *proxy.Proxy, interval, timeout time.Duration) []probe.Target {
	var out []probe.Target
	for _, l := range p.Status().Listeners {
		for _, a := range l.Addresses {
			out = append(out, probe.Target{
				Key: probe.Key{Listener: l.Name, Address: a}, Kind: probeKind(registry.Protocol(l.Protocol)),
				Interval: interval, Timeout: timeout, Fall: 3,
			})
		}
	}
	return out
}

// watchOver runs a vigil on a proxy until the test ends.
func watchOver(t testing.TB, p *proxy.Proxy) *probe.Vigil {
	v := newVigil(p, t.TempDir(), slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = v.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return v
}

type lines struct {
	mu sync.Mutex
	bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(b)
}

func TestEveryListenerIsProvenAndNoProbeIsTraffic(t *testing.T) {
	for _, engine := range []choice.Kind{choice.Epoll, choice.IOUring} {
		for _, address := range []string{"127.0.0.1", "::1"} {
			t.Run(fmt.Sprintf("%s/%s", engine, address), func(t *testing.T) {
				var refused *uring.NotAllowedError
				if _, err := choice.Make(engine); errors.As(err, &refused) {
					t.Skip(err)
				}
				var log lines
				p := serve(t, proxy.Options{Engine: engine, AccessLog: accesslog.New(&log)}, everyListener(t, netip.MustParseAddr(address)))
				v := watchOver(t, p)
				targets := targetsOf(p, 20*time.Millisecond, time.Minute)
				v.Follow(targets)
				limit := time.After(time.Minute)
				for !allProven(v.State(), targets) {
					select {
					case <-v.Changes():
					case <-limit:
						t.Fatalf("%+v", v.State())
					}
				}
				v.Follow(nil)
				st := p.Status()
				for _, l := range st.Listeners {
					if l.Accepted+l.Requests+l.Failed+l.Handshakes+l.Unintroduced != 0 || l.Connections != 0 {
						t.Errorf("%s counts %+v", l.Name, l)
					}
				}
				if st.Connections != 0 || st.InFlight != 0 || st.Datagrams != (proxy.DatagramStatus{}) {
					t.Errorf("%d connections, %d in flight, %+v", st.Connections, st.InFlight, st.Datagrams)
				}
				if n := st.Pools[0].Servers[0].Connections; n != 0 {
					t.Errorf("the server was given %d", n)
				}
				log.mu.Lock()
				defer log.mu.Unlock()
				if log.Len() != 0 {
					t.Errorf("the access log has %s", log.String())
				}
			})
		}
	}
}

func allProven(s probe.State, targets []probe.Target) bool {
	for _, t := range targets {
		if !s.Targets[t.Key].Proven {
			return false
		}
	}
	return true
}

// fakeVitals are what the test says.
type fakeVitals struct {
	mu       sync.Mutex
	state    probe.State
	followed []probe.Target
	paused   bool
	changes  chan struct{}
}

func (f *fakeVitals) Follow(t []probe.Target) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.followed = t
}

func (f *fakeVitals) Pause(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.paused = on
}

func (f *fakeVitals) State() probe.State {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state
}

func (f *fakeVitals) Changes() <-chan struct{} { return f.changes }

func (f *fakeVitals) say(s probe.State) {
	f.mu.Lock()
	f.state = s
	f.mu.Unlock()
	f.changes <- struct{}{}
	synctest.Wait()
}

func (f *fakeVitals) now() (followed []probe.Target, paused bool) {
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.followed, f.paused
}

func TestAGateFollowsWhatTheNodeFindsOutOfItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParts()
		f := &fakeVitals{changes: make(chan struct{})}
		p.vitals = f
		r := reconcilerFor(t, p, false)
		key := probe.Key{Listener: "http-a", Address: netip.MustParseAddrPort("198.51.100.1:80")}
		said := func(v probe.Verdict) probe.State { return probe.State{Targets: map[probe.Key]probe.Verdict{key: v}} }
		f.state = said(probe.Verdict{})
		r.Offer(oneVIP(1, "a"))
		gate := func() []ReasonCode { synctest.Wait(); return codes(r.View().Gates["a"]) }
		want := func(when string, w ...ReasonCode) {
			t.Helper()
			if diff := cmp.Diff(w, gate()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", when, diff)
			}
		}
		want("before the first probe", ReasonUnproven)
		targets, _ := f.now()
		wantTargets := []probe.Target{{Key: key, Kind: probe.HTTP, Interval: 100 * time.Millisecond, Timeout: 100 * time.Millisecond, Fall: 3}}
		if diff := cmp.Diff(wantTargets, targets, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
			t.Errorf("probed (-want +got):\n%s", diff)
		}
		f.say(said(probe.Verdict{Proven: true}))
		want("proven")
		f.say(said(probe.Verdict{Fallen: true, Why: "no answer within 100ms"}))
		want("fallen", ReasonProbeFailed)
		if got := r.View().Gates["a"].Reasons[0].Message; got != "the node's own probe failed: listener http-a at 198.51.100.1:80: no answer within 100ms" {
			t.Error(got)
		}
		f.say(said(probe.Verdict{Proven: true}))
		want("proven again", ReasonHoldDown)
		time.Sleep(holdDownMin)
		want("after the hold-down")
		stalled := said(probe.Verdict{Proven: true})
		stalled.Owed = time.Second
		f.say(stalled)
		want("an event loop hangs", ReasonStalled)
		f.say(said(probe.Verdict{Proven: true}))
		time.Sleep(2 * holdDownMin)
		want("after a longer hold-down")

		full := said(probe.Verdict{Proven: true})
		full.Disk = "the disk is full"
		f.say(full)
		time.Sleep(2 * failOpenDelay)
		if g := r.View().Gates["a"]; !g.Open || len(g.Overruled) != 1 || g.Overruled[0].Code != ReasonDisk {
			t.Errorf("nobody else is there: %+v", g)
		}
		others := func(string) bool { return true }
		r.others.Store(&others)
		time.Sleep(stepInterval)
		want("somebody else is there", ReasonDisk)
	})
}

func TestProbesRestWhileAnotherProcessHasTheSockets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParts()
		f := &fakeVitals{changes: make(chan struct{})}
		p.vitals = f
		r := reconcilerFor(t, p, false)
		r.Offer(oneVIP(1, "a"))
		if targets, paused := f.now(); len(targets) != 1 || paused {
			t.Fatalf("at first: %v, paused %v", targets, paused)
		}
		if err := r.freeze(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, paused := f.now(); !paused {
			t.Error("frozen, it goes on")
		}
		r.thaw(t.Context())
		if _, paused := f.now(); !paused {
			t.Error("the other process may accept still")
		}
		time.Sleep(resumeProbes + stepInterval)
		if _, paused := f.now(); paused {
			t.Error("thawed, it does not go on")
		}
		if _, err := r.Drain(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		if targets, _ := f.now(); len(targets) != 0 {
			t.Errorf("a drained node probes %v", targets)
		}
	})
}

// processorTime is what this process has used.
func processorTime(t testing.TB) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// What a probe costs, both ends: ten a second of each address of each listener is
// the default.
func BenchmarkProbe(b *testing.B) {
	p := serve(b, proxy.Options{}, everyListener(b, netip.MustParseAddr("127.0.0.1")))
	for _, target := range targetsOf(p, time.Second, time.Minute) {
		b.Run(target.Listener, func(b *testing.B) {
			once := probe.Once(target, door{p}, probe.Answers{Word: proxy.ProbeWord, Status: proxy.ProbeStatus})
			before := processorTime(b)
			for b.Loop() {
				if err := once(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((processorTime(b)-before).Microseconds())/float64(b.N), "cpu-us/op")
		})
	}
}
