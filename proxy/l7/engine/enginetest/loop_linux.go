package enginetest

import (
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/proxy/l7/engine"
)

var loopTests = map[string]func(*testing.T, Engine){
	"post runs each function once in order":   testPost,
	"post wakes a sleeping loop":              testPostWakes,
	"what was posted before the end runs":     testPostBeforeEnd,
	"a loop that never ran can be ended":      testNeverNeeded,
	"timers fire not too early":               testTimers,
	"timers are moved and disarmed":           testTimersMove,
	"the end resets what is left":             testEnd,
	"time stands still during a round":        testNow,
	"a loop under load runs posts and timers": testBusy,
}

func testPost(t *testing.T, e Engine) {
	l := e.start(t)
	const posters, each = 16, 500
	next := make([]int, posters) // the loop's: the race detector sees to it
	var group sync.WaitGroup
	for p := range posters {
		group.Go(func() {
			for i := range each {
				if !l.Post(func() {
					if next[p] != i {
						t.Errorf("post %d of %d ran as number %d", i, p, next[p])
					}
					next[p]++
				}) {
					t.Error("a running loop refused a post")
				}
			}
		})
	}
	group.Wait()
	l.do(func() {
		for p, n := range next {
			if n != each {
				t.Errorf("%d posts of %d ran, want %d", n, p, each)
			}
		}
	})
}

func testPostWakes(t *testing.T, e Engine) {
	l := e.start(t)
	for range 20 {
		// Each time the loop has gone to sleep, or is about to.
		l.do(func() {})
		l.settle()
	}
}

func testPostBeforeEnd(t *testing.T, e Engine) {
	d, err := e()
	if err != nil {
		t.Fatal(err)
	}
	var ran atomic.Int32
	for range 3 {
		d.Post(func() { ran.Add(1) })
	}
	d.Post(func() {
		d.Post(func() { ran.Add(1) }) // in the next round, or at the end
	})
	if err := d.Run(func() bool { return true }); err != nil {
		t.Fatal(err)
	}
	if n := ran.Load(); n != 4 {
		t.Errorf("%d posted functions ran, want 4", n)
	}
	if d.Post(func() {}) {
		t.Error("a loop that has ended takes posts")
	}
}

func testNeverNeeded(t *testing.T, e Engine) {
	d, err := e()
	if err != nil {
		t.Fatal(err)
	}
	d.Post(func() {})
	if err := d.Run(func() bool { return true }); err != nil {
		t.Fatal(err)
	}
}

func testTimers(t *testing.T, e Engine) {
	l := e.start(t)
	const timers = 20
	fired := make(chan time.Duration, timers)
	l.do(func() {
		began := l.Now()
		for i := range timers {
			after := time.Duration(i*5) * time.Millisecond
			tm := &engine.Timer{}
			tm.Fire = func() { fired <- l.Now() - began - after }
			l.Arm(tm, after)
		}
	})
	for range timers {
		if d := wait(t, "a timer", fired); d < 0 {
			t.Errorf("a timer fired %v too early", -d)
		}
	}
}

func testTimersMove(t *testing.T, e Engine) {
	l := e.start(t)
	fired := make(chan string, 4)
	var a, b, c engine.Timer
	a.Fire = func() { t.Error("a timer that was disarmed fired") }
	b.Fire = func() { fired <- "b" }
	c.Fire = func() {
		fired <- "c"
		c.Fire = func() { fired <- "c again" }
		l.Arm(&c, 20*time.Millisecond)
	}
	l.do(func() {
		l.Arm(&a, 20*time.Millisecond)
		l.Arm(&b, time.Hour)
		l.Arm(&b, 30*time.Millisecond)
		l.Arm(&c, 100*time.Millisecond)
		l.Disarm(&a)
		l.Disarm(&a)
	})
	for _, want := range []string{"b", "c", "c again"} {
		if got := wait(t, "timer "+want, fired); got != want {
			t.Errorf("%s fired, want %s", got, want)
		}
	}
}

func testEnd(t *testing.T, e Engine) {
	ln, addr := listen(t)
	held, peers := []*check{}, []*net.TCPConn{}
	t.Run("loop", func(t *testing.T) { // ends the loop with the test
		l := e.start(t)
		for i := range 10 {
			c := newCheck(t)
			l.do(func() { c.Conn = l.Dial(addr, c) })
			peer, err := ln.AcceptTCP()
			if err != nil {
				t.Fatal(err)
			}
			wait(t, "the connection to open", c.opened)
			if i%2 == 0 {
				l.do(func() { c.Send(make([]byte, 8<<20)); c.Pause() })
			}
			held, peers = append(held, c), append(peers, peer)
		}
	})
	for i, c := range held {
		select {
		case err := <-c.closed:
			t.Errorf("a handler heard of the loop's end: %v", err)
		default:
		}
		_ = peers[i].SetDeadline(time.Now().Add(patience))
		if err := drainPeer(peers[i]); !isReset(err) {
			t.Errorf("the peer's connection ended with %v, want a reset", err)
		}
		_ = peers[i].Close()
	}
}

func drainPeer(c net.Conn) error {
	b := make([]byte, 64<<10)
	for {
		if _, err := c.Read(b); err != nil {
			return err
		}
	}
}

func testNow(t *testing.T, e Engine) {
	l := e.start(t)
	l.do(func() {
		began := l.Now()
		busy := time.Now()
		for time.Since(busy) < 3*time.Millisecond {
		}
		if l.Now() != began {
			t.Errorf("time went on by %v during a round", l.Now()-began)
		}
	})
	var before time.Duration
	for range 100 {
		l.do(func() {
			if l.Now() < before {
				t.Errorf("time went back by %v", before-l.Now())
			}
			before = l.Now()
		})
	}
}

// testBusy keeps the loop so busy that it waits for several events at once.
func testBusy(t *testing.T, e Engine) {
	l := e.start(t)
	const conns = 40
	var stop atomic.Bool
	var group sync.WaitGroup
	for range conns {
		c := newCheck(t)
		c.data = func(b []byte) { c.Send(b) }
		peer := l.adopted(c)
		group.Go(func() {
			b := make([]byte, 100)
			for !stop.Load() {
				if err := roundTrip(peer, b); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 50 {
		l.settle()
	}
	stop.Store(true)
	group.Wait()
}

func isReset(err error) bool {
	return errorsIsAny(err, syscall.ECONNRESET, syscall.EPIPE)
}
