package secure

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pharos-lb/pharos/proxy/l7/engine"
	"github.com/pharos-lb/pharos/proxy/l7/engine/inmem"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// identity is a certificate that vouches for itself, for servers and clients,
// now and in a bubble's year 2000.
var identity = sync.OnceValue(func() tls.Certificate {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, DNSNames: []string{"a.example", "b.example"},
		NotBefore: time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2190, 1, 1, 0, 0, 0, 0, time.UTC),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der := must(x509.CreateCertificate(rand.Reader, t, t, key.Public(), key))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: must(x509.ParseCertificate(der))}
})

func pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(identity().Leaf)
	return p
}

func serverConfig() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{identity()}, DynamicRecordSizingDisabled: true, NextProtos: []string{"http/1.1"}}
}

// clientConfig speaks the version alone, 0 for any.
func clientConfig(version uint16) *tls.Config {
	return &tls.Config{ServerName: "a.example", RootCAs: pool(), MinVersion: version, MaxVersion: version, DynamicRecordSizingDisabled: true}
}

// bubbleLoop is an engine in memory that takes posts from goroutines.
type bubbleLoop struct {
	*inmem.Loop
	mu     sync.Mutex
	posted []func()
}

func (l *bubbleLoop) Post(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.posted = append(l.posted, f)
	return true
}

// rig is a loop with TLS in a bubble, where everything that happens has
// happened when settle returns.
type rig struct {
	t          testing.TB
	engine     *bubbleLoop
	handshakes *Handshakes
	loop       *Loop
	ends       []*end
	failures   []*HandshakeError
}

// inBubble runs f with a rig, and checks that nothing is left afterwards.
func inBubble(t *testing.T, limits Limits, f func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, engine: &bubbleLoop{Loop: inmem.New()}, handshakes: NewHandshakes(limits)}
		r.loop = NewLoop(r.engine, r.handshakes)
		defer func() {
			for _, e := range r.ends {
				e.close()
			}
			r.handshakes.Close()
		}()
		f(r)
		r.settle()
		r.handshakes.Close()
		r.settle()
		if n := r.loop.depth + len(r.loop.gathering) + len(r.handshakes.begun) + r.handshakes.running + r.handshakes.urgent.length + r.handshakes.resting.length + r.handshakes.fresh.length; n != 0 {
			t.Errorf("something is left: %+v", r.handshakes)
		}
	})
}

// settle lets everything happen that is due.
func (r *rig) settle() {
	// Twice without news: what the engine did last may have woken a goroutine.
	for idle := 0; idle < 2; {
		synctest.Wait()
		r.engine.mu.Lock()
		posted := r.engine.posted
		r.engine.posted = nil
		r.engine.mu.Unlock()
		for _, f := range posted {
			f()
		}
		r.engine.Run()
		moved := len(posted) > 0
		for _, e := range r.ends {
			moved = e.move() || moved
		}
		if idle++; moved {
			idle = 0
		}
	}
}

// pass lets time pass.
func (r *rig) pass(d time.Duration) {
	r.settle()
	for range int(d/engine.Tick) + 1 {
		r.engine.Advance(engine.Tick)
		r.settle()
	}
}

// end is the far end of a connection: a net.Conn, which blocks.
type end struct {
	peer *inmem.Peer
	mute bool // nothing is moved

	mu      sync.Mutex
	wake    *sync.Cond
	out, in []byte
	seen    []byte // all that has come
	fin     bool   // of the other side
	shut    bool   // ours
	closed  bool
	chunk   int // out is moved in pieces of this size; 0: all at once
	told    bool
}

func newEnd(p *inmem.Peer) *end {
	e := &end{peer: p}
	e.wake = sync.NewCond(&e.mu)
	return e
}

// move carries bytes between the peer and the goroutine that uses the end.
func (e *end) move() (moved bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mute {
		return false
	}
	if n := len(e.out); n > 0 {
		if e.chunk > 0 {
			n = min(n, e.chunk)
		}
		e.peer.Write(string(e.out[:n]))
		e.out = e.out[n:]
		moved = true
	}
	if e.shut && len(e.out) == 0 && !e.told {
		e.told = true
		e.peer.CloseWrite()
		moved = true
	}
	if got := e.peer.Read(); got != "" {
		e.in = append(e.in, got...)
		e.seen = append(e.seen, got...)
		moved = true
	}
	if e.peer.EOF && !e.fin {
		e.fin = true
		moved = true
	}
	e.wake.Broadcast()
	return moved
}

func (e *end) Read(b []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for len(e.in) == 0 {
		switch {
		case e.closed:
			return 0, net.ErrClosed
		case e.fin:
			return 0, io.EOF
		}
		e.wake.Wait()
	}
	n := copy(b, e.in)
	e.in = e.in[n:]
	return n, nil
}

func (e *end) Write(b []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || e.shut {
		return 0, net.ErrClosed
	}
	e.out = append(e.out, b...)
	return len(b), nil
}

// shutdown ends our side, without a word in TLS.
func (e *end) shutdown() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.shut = true
}

func (e *end) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	e.wake.Broadcast()
}

func (e *end) Close() error                     { e.shutdown(); return nil }
func (e *end) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (e *end) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (e *end) SetDeadline(time.Time) error      { return nil }
func (e *end) SetReadDeadline(time.Time) error  { return nil }
func (e *end) SetWriteDeadline(time.Time) error { return nil }

// session is the handler under test's hands.
type session struct {
	c       engine.Conn
	state   tls.ConnectionState
	onData  func(s *session, b []byte)
	got     bytes.Buffer
	calls   int // of Data
	opened  int
	drained int
	eof     int
	closed  []error
}

func (s *session) Opened()  { s.opened++ }
func (s *session) Drained() { s.drained++ }
func (s *session) EOF()     { s.eof++ }

func (s *session) Closed(err error) { s.closed = append(s.closed, err) }

func (s *session) Data(b []byte) {
	s.calls++
	s.got.Write(b)
	if s.onData != nil {
		s.onData(s, b)
	}
}

func echo(s *session, b []byte) { s.c.Send(b) }

// accept makes a connection to the loop. The session's Conn is nil until the
// handshake has succeeded.
func (r *rig) accept(config *tls.Config, onData func(*session, []byte)) (*end, *session) {
	s := &session{onData: onData}
	p := r.engine.Connect(netip.MustParseAddrPort("192.0.2.1:4000"), func(raw engine.Conn) engine.Handler {
		return r.loop.Accept(raw, &Acceptor{
			Config: config,
			Accepted: func(c engine.Conn, state tls.ConnectionState) engine.Handler {
				s.c, s.state = c, state
				return s
			},
			Failed: func(err *HandshakeError) { r.failures = append(r.failures, err) },
		})
	})
	e := newEnd(p)
	r.ends = append(r.ends, e)
	return e, s
}

// client is a TLS client at an end, of which each call is carried through.
type client struct {
	r *rig
	e *end
	*tls.Conn
}

// connect accepts a client whose handshake must succeed.
func (r *rig) connect(server, config *tls.Config, onData func(*session, []byte)) (*client, *session) {
	r.t.Helper()
	e, s := r.accept(server, onData)
	c := &client{r, e, tls.Client(e, config)}
	if err := c.do(c.Handshake); err != nil {
		r.t.Fatalf("handshake: %v", err)
	}
	r.settle()
	if s.c == nil {
		r.t.Fatalf("the handshake has ended at the client only; failures: %v", r.failures)
	}
	return c, s
}

// do runs f, which may block, and returns when it has ended.
func (c *client) do(f func() error) error {
	c.r.t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	c.r.settle()
	select {
	case err := <-done:
		return err
	default:
		c.r.t.Fatal("it waits for something that does not come")
		return nil
	}
}

func (c *client) send(b string) {
	c.r.t.Helper()
	if err := c.do(func() error { _, err := c.Write([]byte(b)); return err }); err != nil {
		c.r.t.Fatalf("send: %v", err)
	}
}

// receive reads n bytes.
func (c *client) receive(n int) string {
	c.r.t.Helper()
	b := make([]byte, n)
	if err := c.do(func() error { _, err := io.ReadFull(c, b); return err }); err != nil {
		c.r.t.Fatalf("receive: %v", err)
	}
	return string(b)
}

// rest reads to the end.
func (c *client) rest() (string, error) {
	c.r.t.Helper()
	var b []byte
	err := c.do(func() (err error) { b, err = io.ReadAll(c); return err })
	return string(b), err
}

func versions(t *testing.T, f func(t *testing.T, version uint16)) {
	for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(v), func(t *testing.T) { f(t, v) })
	}
}

// records counts the records in a stream, by type.
func records(b []byte) map[byte]int {
	n := map[byte]int{}
	for len(b) >= headerSize {
		n[b[0]]++
		b = b[min(len(b), headerSize+bodySize(b)):]
	}
	return n
}
