package epoll

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/proxy/l7/engine"
)

const patience = 20 * time.Second

// runLoop runs a loop until the test ends.
func runLoop(t *testing.T) *Loop {
	t.Helper()
	l, err := New()
	if err != nil {
		t.Fatal(err)
	}
	var done atomic.Bool
	ended := make(chan error, 1)
	go func() { ended <- l.Run(done.Load) }()
	t.Cleanup(func() {
		done.Store(true)
		l.Post(func() {})
		if err := <-ended; err != nil {
			t.Errorf("Run = %v", err)
		}
		if l.Post(func() {}) {
			t.Error("a loop that has ended takes posts")
		}
	})
	return l
}

// recorder passes events on to the test.
type recorder struct {
	data   func([]byte)
	opened chan struct{}
	eof    chan struct{}
	closed chan error
}

func newRecorder() *recorder {
	return &recorder{func([]byte) {}, make(chan struct{}, 1), make(chan struct{}, 1), make(chan error, 1)}
}

func (r *recorder) Opened()        { r.opened <- struct{}{} }
func (r *recorder) Data(b []byte)  { r.data(b) }
func (r *recorder) Drained()       {}
func (r *recorder) EOF()           { r.eof <- struct{}{} }
func (r *recorder) Closed(e error) { r.closed <- e }

func wait[T any](t *testing.T, what string, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Fatalf("waited %v in vain: %s", patience, what)
	}
	return v
}

func listen(t *testing.T) (*net.TCPListener, netip.AddrPort) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln.(*net.TCPListener), ln.Addr().(*net.TCPAddr).AddrPort()
}

func TestDialRefused(t *testing.T) {
	l := runLoop(t)
	ln, addr := listen(t)
	_ = ln.Close()
	r := newRecorder()
	l.Post(func() { l.Dial(addr, r) })
	if err := wait(t, "the refusal", r.closed); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("closed with %v, want refused", err)
	}
	if l.Load() != 0 {
		t.Errorf("%d connections are counted", l.Load())
	}
}

// What was sent before Close arrives whole, however slowly it is read.
func TestCloseSendsWhatIsPending(t *testing.T) {
	l := runLoop(t)
	ln, addr := listen(t)
	r := newRecorder()
	payload := bytes.Repeat([]byte("0123456789"), 1<<20)
	pending := make(chan int, 1)
	l.Post(func() {
		c := l.Dial(addr, r)
		c.Send(payload[:5]) // before it is connected
		c.Send(payload[5:])
		c.Send(nil)
		pending <- c.Pending()
	})
	if n := wait(t, "sending", pending); n != len(payload) {
		t.Errorf("%d bytes pending before the connection stands, want %d", n, len(payload))
	}
	peer, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = peer.Close() }()
	wait(t, "the connection", r.opened)
	l.Post(func() {
		for i := range l.slots {
			if c := l.slots[i].conn; c != nil {
				c.Close()
			}
		}
	})
	_ = peer.SetReadDeadline(time.Now().Add(patience))
	got, err := io.ReadAll(peer)
	if err != nil || !bytes.Equal(got, payload) {
		t.Errorf("%d bytes came, %v; want %d unchanged", len(got), err, len(payload))
	}
}

func TestPauseHoldsDataAndEOFBack(t *testing.T) {
	l := runLoop(t)
	ln, addr := listen(t)
	r := newRecorder()
	var got atomic.Int64
	var c engine.Conn
	first := make(chan struct{}, 1)
	r.data = func(b []byte) {
		if got.Add(int64(len(b))) == int64(len(b)) {
			c.Pause()
			first <- struct{}{}
		}
	}
	l.Post(func() { c = l.Dial(addr, r) })
	peer, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = peer.Close() }()
	_, _ = io.WriteString(peer, "a")
	wait(t, "the first byte", first)
	_, _ = peer.Write(make([]byte, 100000))
	_ = peer.(*net.TCPConn).CloseWrite()
	settled := make(chan int64, 1)
	l.Post(func() { settled <- got.Load() })
	if n := wait(t, "a round", settled); n != 1 {
		t.Errorf("%d bytes came while paused, want 1", n)
	}
	l.Post(func() { c.Resume() })
	wait(t, "the end", r.eof)
	if n := got.Load(); n != 100001 {
		t.Errorf("%d bytes came, want 100001", n)
	}
}

// A server may answer and close before it has read all: the answer must be
// read although sending fails.
func TestAnswerBeforeResetIsRead(t *testing.T) {
	l := runLoop(t)
	ln, addr := listen(t)
	r := newRecorder()
	var got atomic.Value
	r.data = func(b []byte) { got.Store(string(b)) }
	var c engine.Conn
	l.Post(func() { c = l.Dial(addr, r) })
	peer, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	wait(t, "the connection", r.opened)
	// The loop is held up while the peer answers and resets.
	held, free := make(chan struct{}), make(chan struct{})
	l.Post(func() {
		close(held)
		<-free
		c.Send(make([]byte, 1000))
	})
	wait(t, "the loop", held)
	_, _ = io.WriteString(peer, "answer")
	_ = peer.(*net.TCPConn).SetLinger(0)
	_ = peer.Close()
	close(free)
	wait(t, "the reset", r.closed)
	if got.Load() != "answer" {
		t.Errorf("read %v, want the answer", got.Load())
	}
}

func TestTimersFire(t *testing.T) {
	l := runLoop(t)
	fired := make(chan time.Duration, 1)
	var tm engine.Timer
	l.Post(func() {
		began := l.Now()
		tm.Fire = func() { fired <- l.Now() - began }
		l.Arm(&tm, 30*time.Millisecond)
	})
	if d := wait(t, "the timer", fired); d < 30*time.Millisecond {
		t.Errorf("fired after %v, want at least 30ms", d)
	}
}
