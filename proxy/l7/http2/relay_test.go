package http2

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/proxy/l7/http1"
)

// loop runs functions one after the other, as an event loop does.
type loop struct {
	work chan func()
	stop chan struct{}
}

func newLoop(t *testing.T) *loop {
	l := &loop{work: make(chan func()), stop: make(chan struct{})}
	var done sync.WaitGroup
	done.Go(func() {
		for {
			select {
			case f := <-l.work:
				f()
			case <-l.stop:
				return
			}
		}
	})
	t.Cleanup(func() {
		close(l.stop)
		done.Wait()
	})
	return l
}

// call runs f on the loop, and waits for it.
func (l *loop) call(f func()) {
	done := make(chan struct{})
	select {
	case l.work <- func() { f(); close(done) }:
		<-done
	case <-l.stop:
	}
}

// link is a connection's socket: an Output, and what reads.
type link struct {
	loop    *loop
	conn    net.Conn
	feed    func(b []byte, now time.Duration) *Error
	drained func(now time.Duration) *Error
	closed  func()
	start   time.Time

	mu     sync.Mutex
	ready  sync.Cond
	unsent []byte
	taken  int // bytes that are being written
	ended  bool
}

// socketRoom is what the system takes at once.
const socketRoom = 64 << 10

func newLink(l *loop, conn net.Conn) *link {
	k := &link{loop: l, conn: conn, start: time.Now()}
	k.ready.L = &k.mu
	return k
}

func (k *link) Send(b []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.unsent = append(k.unsent, b...)
	k.ready.Signal()
}

func (k *link) pending() int { return max(len(k.unsent)+k.taken-socketRoom, 0) }

func (k *link) Pending() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.pending()
}

// write hands what is sent to the socket, until the end.
func (k *link) write() {
	for {
		k.mu.Lock()
		for len(k.unsent) == 0 && !k.ended {
			k.ready.Wait()
		}
		b := k.unsent
		k.unsent, k.taken = nil, len(b)
		k.mu.Unlock()
		if len(b) == 0 {
			_ = k.conn.Close()
			return
		}
		_, err := k.conn.Write(b)
		k.mu.Lock()
		before := k.pending()
		k.taken = 0
		told := before > 0 && k.pending() == 0
		k.mu.Unlock()
		if err != nil {
			_ = k.conn.Close()
			return
		}
		if told {
			k.loop.call(func() { k.drained(time.Since(k.start)) })
		}
	}
}

func (k *link) finish() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ended = true
	k.ready.Signal()
}

// run serves the link until its other end closes, or it fails.
func (k *link) run() *Error {
	var writer sync.WaitGroup
	writer.Go(k.write)
	defer writer.Wait()
	defer k.finish()
	b := make([]byte, 64<<10)
	for {
		n, err := k.conn.Read(b)
		var failed *Error
		if n > 0 {
			k.loop.call(func() { failed = k.feed(b[:n], time.Since(k.start)) })
		}
		if err != nil || failed != nil {
			k.loop.call(k.closed)
			return failed
		}
	}
}

// relay is a proxy of one client and one server: what a session does.
type relay struct {
	front *ServerConn
	back  *ClientConn
}

type exchange struct {
	front, back *Stream
	up, down    flow
	headSent    bool
	requestDone bool
}

// flow is one direction of an exchange.
type flow struct {
	rest     []byte // not taken by the receiver yet
	end      bool
	late     bool
	trailers []http1.Field
}

func (f *flow) pass(from, to *Stream, b []byte, end bool) {
	if len(f.rest) == 0 {
		n := to.WriteData(b, end)
		from.Consume(n)
		if b = b[n:]; len(b) == 0 {
			return
		}
	}
	f.rest = append(f.rest, b...)
	f.end = f.end || end
}

func (f *flow) writable(from, to *Stream) {
	n := to.WriteData(f.rest, f.end)
	from.Consume(n)
	if f.rest = f.rest[n:]; len(f.rest) == 0 && f.late {
		to.WriteTrailers(f.trailers)
	}
}

func (f *flow) passTrailers(to *Stream, fields []http1.Field) {
	if len(f.rest) == 0 {
		to.WriteTrailers(fields)
		return
	}
	f.late = true
	for _, x := range fields {
		f.trailers = append(f.trailers, http1.Field{Name: bytes.Clone(x.Name), Value: bytes.Clone(x.Value), Kind: x.Kind})
	}
}

type relayFront struct{ *relay }

func (r relayFront) Request(s *Stream, req *Request, end bool) {
	x := &exchange{front: s, requestDone: end}
	x.back = r.back.NewStream(req, end)
	if x.back == nil {
		x.fail(503)
		return
	}
	s.User, x.back.User = x, x
}

// fail answers what cannot be sent, or completed.
func (x *exchange) fail(status int) {
	if x.headSent {
		x.front.Reset(InternalError)
		return
	}
	x.front.WriteHeaders(status, nil, true)
	x.front.Reset(NoError)
}

func (r relayFront) Data(s *Stream, b []byte, end bool) {
	if x, ok := s.User.(*exchange); ok {
		x.requestDone = end
		x.up.pass(s, x.back, b, end)
	}
}

func (r relayFront) Trailers(s *Stream, fields []http1.Field) {
	x := s.User.(*exchange)
	x.requestDone = true
	x.up.passTrailers(x.back, fields)
}

func (r relayFront) Reset(s *Stream, _ Reset) {
	if x, ok := s.User.(*exchange); ok {
		x.back.Reset(Cancel)
	}
}

func (r relayFront) Writable(s *Stream) {
	x := s.User.(*exchange)
	x.down.writable(x.back, s)
}

func (r relayFront) Refused(*Error) {}

type relayBack struct{ *relay }

func (r relayBack) Response(s *Stream, res *Response, end bool) {
	x := s.User.(*exchange)
	if res.Status < 200 {
		x.front.WriteInformational(res.Status, res.Fields)
		return
	}
	x.headSent = true
	x.front.WriteHeaders(res.Status, res.Fields, end)
	x.done(end)
}

// done: the response is complete. A request that is not is given up.
func (x *exchange) done(end bool) {
	if end && !x.requestDone && len(x.down.rest) == 0 {
		x.front.Reset(NoError)
		x.back.Reset(NoError)
	}
}

func (r relayBack) Data(s *Stream, b []byte, end bool) {
	x := s.User.(*exchange)
	x.down.pass(s, x.front, b, end)
	x.done(end)
}

func (r relayBack) Trailers(s *Stream, fields []http1.Field) {
	x := s.User.(*exchange)
	x.down.passTrailers(x.front, fields)
	x.done(true)
}

func (r relayBack) Reset(s *Stream, why Reset) {
	x := s.User.(*exchange)
	if why.Code != NoError || !x.headSent {
		x.fail(502)
	}
}

func (r relayBack) Writable(s *Stream) {
	x := s.User.(*exchange)
	x.up.writable(x.front, s)
}

func (r relayBack) GoAway(Code) {}

// startRelay serves clients on a listener, each over a connection of its own
// to the server, and returns the listener's address.
func startRelay(t *testing.T, server string, configure func(front, back *Config)) string {
	t.Helper()
	l := newLoop(t)
	shared := NewShared()
	front, back := ServerConfig(), ClientConfig()
	if configure != nil {
		configure(&front, &back)
	}
	return listen(t, func(conn net.Conn) {
		to, err := net.Dial("tcp", server)
		if err != nil {
			t.Error(err)
			_ = conn.Close()
			return
		}
		a, b := newLink(l, conn), newLink(l, to)
		r := &relay{}
		l.call(func() {
			r.front = NewServerConn(shared, a, &front, relayFront{r})
			r.back = NewClientConn(shared, b, &back, relayBack{r})
			a.feed, a.drained, a.closed = r.front.Feed, r.front.Drained, r.front.Closed
			b.feed, b.drained, b.closed = r.back.Feed, r.back.Drained, r.back.Closed
			shared.Flush()
		})
		var both sync.WaitGroup
		both.Go(func() {
			if err := b.run(); err != nil {
				t.Errorf("towards the server: %v", err)
			}
		})
		if err := a.run(); err != nil {
			t.Errorf("towards the client: %v", err)
		}
		_ = to.Close()
		both.Wait()
	})
}

// listen serves connections until the test ends.
func listen(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	var mu sync.Mutex
	var conns []io.Closer
	done.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
			done.Go(func() { serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		done.Wait()
	})
	return ln.Addr().String()
}
