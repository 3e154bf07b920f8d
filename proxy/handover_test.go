package proxy

import (
	"bufio"
	"context"
	cryptotls "crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pharos-lb/pharos/proxy/proxytest"
)

// unstarted is a proxy that runs and serves nothing yet.
func unstarted(t *testing.T) (p *Proxy, end func()) {
	t.Helper()
	p, err := New(Options{Loops: 2})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- p.Run(ctx) }()
	end = sync.OnceFunc(func() {
		stop()
		if err := <-ran; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(end)
	return p, end
}

// succeed hands p's sockets to a new proxy, which serves config.
func succeed(t *testing.T, p *Proxy, config Config) (next *Proxy, end func()) {
	t.Helper()
	sockets, err := p.Sockets()
	if err != nil {
		t.Fatal(err)
	}
	next, end = unstarted(t)
	if err := next.Inherit(t.Context(), sockets); err != nil {
		t.Fatal(err)
	}
	if err := next.Apply(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	return next, end
}

// load asks without a pause until stop is called: on kept connections, on a new
// one for each request, and by HTTP/2; over TLS if it is given how. It sends
// what no client sends again, so that every failure is seen.
func load(t *testing.T, address string, clients int, secure *cryptotls.Config) (stop func(), answered *atomic.Int64) {
	t.Helper()
	answered = new(atomic.Int64)
	url := "http://" + address + "/"
	if secure != nil {
		url = "https://" + address + "/"
	}
	var ended atomic.Bool
	var running sync.WaitGroup
	for i := range clients {
		running.Go(func() {
			tr := &http.Transport{DisableKeepAlives: i%3 == 0, TLSClientConfig: secure.Clone(), Protocols: new(http.Protocols)}
			tr.Protocols.SetHTTP1(i%3 != 1)
			tr.Protocols.SetHTTP2(i%3 == 1 && secure != nil)
			tr.Protocols.SetUnencryptedHTTP2(i%3 == 1 && secure == nil)
			defer tr.CloseIdleConnections()
			c := &http.Client{Transport: tr, Timeout: patience}
			for !ended.Load() {
				res, err := c.Post(url, "text/plain", strings.NewReader("once"))
				if err != nil {
					t.Errorf("after %d answers: %v", answered.Load(), err)
					return
				}
				if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != http.StatusOK {
					t.Errorf("after %d answers: status %d, %v", answered.Load(), res.StatusCode, err)
				}
				_ = res.Body.Close()
				answered.Add(1)
			}
		})
	}
	stop = sync.OnceFunc(func() { ended.Store(true); running.Wait() })
	t.Cleanup(stop)
	return stop, answered
}

func TestSuccessorsTakeOverUnderLoadWithoutAFailure(t *testing.T) {
	plain := oneListener(HTTP, Server{Name: "a", Address: webServer(t, named("a")), Weight: 1})
	secure := oneHTTPS(t, named("a"))
	for _, tt := range []struct {
		name   string
		config Config
		client *cryptotls.Config
	}{{"HTTP", plain, nil}, {"HTTPS", secure, trusting(secure)}} {
		t.Run(tt.name, func(t *testing.T) {
			config := tt.config
			config.Listeners[0].Addresses[0] = deadAddress(t)
			p, end := unstarted(t)
			if err := p.Apply(t.Context(), config); err != nil {
				t.Fatal(err)
			}
			stop, answered := load(t, config.Listeners[0].Addresses[0].String(), 9, tt.client)
			for round := range 10 {
				before := answered.Load()
				proxytest.Eventually(t, fmt.Sprintf("200 answers before succession %d", round), func() bool { return answered.Load() > before+200 })
				next, endNext := succeed(t, p, config)
				if report := p.Retire(t.Context()); report.Cut != 0 {
					t.Errorf("succession %d: %+v", round, report)
				}
				end()
				p, end = next, endNext
			}
			before := answered.Load()
			proxytest.Eventually(t, "200 answers by the last one", func() bool { return answered.Load() > before+200 })
			stop()
			t.Logf("%d requests over 10 successions", answered.Load())
		})
	}
}

// A connection that nobody has accepted yet is in the socket's queue, which the
// successor shares.
func TestWhatWaitsInTheQueueIsTakenByTheSuccessor(t *testing.T) {
	s := proxytest.TCP(t, naming("a"))
	config := oneListener(TCP, Server{Name: "a", Address: s, Weight: 1})
	config.Listeners[0].Addresses[0] = deadAddress(t)
	p, end := unstarted(t)
	if err := p.Apply(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	sockets, err := p.Sockets()
	if err != nil || len(sockets) != 1 {
		t.Fatalf("sockets: %+v, %v", sockets, err)
	}
	p.Retire(t.Context())
	end()
	waiting := dial(t, config.Listeners[0].Addresses[0].String())
	next, _ := unstarted(t)
	if err := next.Inherit(t.Context(), sockets); err != nil {
		t.Fatal(err)
	}
	if err := next.Apply(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(waiting); err != nil || string(b) != "a" {
		t.Errorf("it was told %q, %v", b, err)
	}
}

func TestEstablishedConnectionsEndWithTheOldOne(t *testing.T) {
	echo := proxytest.TCP(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c); _ = c.CloseWrite() })
	config := oneListener(TCP, Server{Name: "a", Address: echo, Weight: 1})
	config.Listeners[0].Addresses[0] = deadAddress(t)
	address := config.Listeners[0].Addresses[0].String()
	p, _ := unstarted(t)
	if err := p.Apply(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	kept, cut := dial(t, address), dial(t, address)
	roundTrip(t, kept)
	roundTrip(t, cut)
	succeed(t, p, config)
	ctx, deadline := context.WithCancel(t.Context())
	report := make(chan DrainReport, 1)
	go func() { report <- p.Retire(ctx) }()
	proxytest.Eventually(t, "the old one has stopped accepting", func() bool { return !p.Status().Listeners[0].Accepting })
	roundTrip(t, kept)
	_ = kept.CloseWrite()
	if b, err := bufio.NewReader(kept).ReadByte(); err != io.EOF {
		t.Errorf("the kept one got %q, %v", b, err)
	}
	proxytest.Eventually(t, "one is left", func() bool { return p.Status().Connections == 1 })
	deadline()
	if r := <-report; r.Cut != 1 || r.Finished != 1 {
		t.Errorf("report %+v, want 1 finished and 1 cut", r)
	}
	if _, err := cut.Read(make([]byte, 1)); err == nil {
		t.Error("the cut one still reads")
	}
}

func TestInheritClosesWhatIsNotUsedAndRefusesWhatIsNotASocket(t *testing.T) {
	s := Server{Name: "a", Address: proxytest.TCP(t, naming("a")), Weight: 1}
	config := oneListener(TCP, s)
	config.Listeners[0].Addresses = []netip.AddrPort{deadAddress(t), deadAddress(t)}
	p, end := unstarted(t)
	if err := p.Apply(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	gone := config.Listeners[0].Addresses[1].String()
	config.Listeners[0].Addresses = config.Listeners[0].Addresses[:1]
	next, _ := succeed(t, p, config)
	p.Retire(t.Context())
	end()
	if c, err := net.Dial("tcp", gone); err == nil {
		_ = c.Close()
		t.Errorf("%s still listens, and no configuration names it", gone)
	}
	if got := ask(t, config.Listeners[0].Addresses[0].String()); got != "a" {
		t.Errorf("the one that is used says %q", got)
	}

	for name, open := range map[string]func() (int, error){
		"not listening": func() (int, error) { return unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0) },
		"not a stream":  func() (int, error) { return unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0) },
		"no socket":     func() (int, error) { return unix.Open("/dev/null", unix.O_RDONLY, 0) },
		"another address": func() (int, error) {
			return next.state.bindings[bindKey{address: config.Listeners[0].Addresses[0]}].socket.Dup()
		},
	} {
		fd, err := open()
		if err != nil {
			t.Fatal(err)
		}
		file, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		if err != nil {
			t.Fatal(err)
		}
		before := descriptorsOf(t, file)
		err = next.Inherit(t.Context(), []ListeningSocket{{TransportTCP, netip.MustParseAddrPort("127.0.0.1:81"), fd}})
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
		if after := descriptorsOf(t, file); after != before-1 {
			t.Errorf("%s: %d descriptors of it became %d", name, before, after)
		}
	}
}

// descriptorsOf counts this process's descriptors of a file, which is named as
// in /proc/self/fd.
func descriptorsOf(t *testing.T, file string) (n int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && target == file {
			n++
		}
	}
	return n
}

// A client of UDP is served through a succession, and its flow's last answers
// come from the old one.
func TestUDPSocketsAreHandedOver(t *testing.T) {
	config := oneListener(UDP, Server{Name: "a", Address: datagramsOn(t, "a"), Weight: 1})
	config.Listeners[0].Addresses[0] = deadAddress(t)
	config.Listeners[0].Idle = 200 * time.Millisecond
	p, end := unstarted(t)
	if err := p.Apply(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	c := flowTo(t, config.Listeners[0].Addresses[0].String())
	if got := askFlow(t, c, "x"); got != "ax" {
		t.Fatalf("answer %q", got)
	}
	for range 3 {
		next, endNext := succeed(t, p, config)
		report := make(chan DrainReport, 1)
		go func() { report <- p.Retire(t.Context()) }()
		proxytest.Eventually(t, "the old one has stopped accepting", func() bool { return !p.Status().Listeners[0].Accepting })
		if got := askFlow(t, c, "y"); got != "ay" {
			t.Errorf("after the succession: %q", got)
		}
		if r := <-report; r.Cut != 0 {
			t.Errorf("report %+v", r)
		}
		end()
		p, end = next, endNext
	}
}
