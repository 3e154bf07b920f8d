package bfd

import (
	"errors"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// aheadLoop is a loop that has one session up, with nobody who runs it: what is
// sent, the kernel sends.
func aheadLoop(t *testing.T, p *fakePeer, c Config) (*loop, *session) {
	t.Helper()
	r, err := newRing()
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EOPNOTSUPP) {
		t.Skipf("this kernel sends nothing ahead: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	l, err := newLoop(New(p.options(nil, nil)))
	if err != nil {
		t.Fatal(err)
	}
	l.ring = r
	l.set([]Peer{p.peer(c)}, nil)
	s := l.sessions["tor1"]
	t.Cleanup(func() {
		l.reserve(false)
		l.shut(s)
		l.ring.close()
		l.closeReceivers()
		l.close()
	})
	calmly := func(state State) []byte {
		return Packet{State: state, DetectMult: 10, MyDiscriminator: 1, YourDiscriminator: s.machine.localDiscr, DesiredMinTx: 5 * time.Second, RequiredMinRx: 10 * ms}.Append(nil)
	}
	l.deliver(calmly(Init), s.source, hopLimit, time.Now())
	final, _ := Parse(calmly(Up))
	final.Final = true // ends the poll sequence for the timers of Up
	l.turn()
	l.deliver(final.Append(nil), s.source, hopLimit, time.Now())
	return l, s
}

func TestTheKernelGoesOnSendingForAHorizon(t *testing.T) {
	for _, address := range []string{"127.0.0.1", "::1"} {
		p := newFakePeer(t, address)
		l, s := aheadLoop(t, p, Config{Interval: 40 * ms, Multiplier: 3})
		for s.ahead.count == 0 {
			l.turn() // one packet at least goes out before: what is up is said at once
		}
		count, first := s.ahead.count, s.ahead.oldest().at
		if last := s.ahead.newest().at; count < 5 || count > 7 || last.Sub(first) > horizon {
			t.Fatalf("the kernel has %d packets, from %s to %s", count, first, last)
		}
		// Nobody turns now.
		for got := p.read(); !time.Now().After(s.ahead.newest().at); got = p.read() {
			if got.State != Up || got.MyDiscriminator != s.machine.localDiscr {
				t.Fatalf("it sends %v", got)
			}
		}
		for s.ahead.count == count {
			l.turn()
		}
		sum := uint64(0)
		for _, n := range l.engine.Sender().Lateness {
			sum += n
		}
		if sum < uint64(count) {
			t.Errorf("the lateness of %d packets is known, of %d", sum, count)
		}
		if s.ahead.count == 0 {
			t.Error("the kernel has no more packets")
		}
	}
}

func TestWhatIsSentAheadIsTakenBack(t *testing.T) {
	for name, change := range map[string]func(l *loop, s *session){
		"another multiplier": func(_ *loop, s *session) {
			s.machine.Configure(time.Now(), Config{Interval: 5 * time.Second, Multiplier: 9})
		},
		"a silence": func(_ *loop, s *session) { s.machine.expire = time.Now() },
		"the neighbor says that it is down": func(l *loop, s *session) {
			down := Packet{State: Down, DetectMult: 3, MyDiscriminator: 1, YourDiscriminator: s.machine.localDiscr, DesiredMinTx: time.Second, RequiredMinRx: 10 * ms}
			l.deliver(down.Append(nil), s.source, hopLimit, time.Now())
		},
		"the neighbor wants to hear less": func(l *loop, s *session) {
			slow := Packet{State: Up, DetectMult: 3, MyDiscriminator: 1, YourDiscriminator: s.machine.localDiscr, DesiredMinTx: time.Second, RequiredMinRx: 9 * time.Second}
			l.deliver(slow.Append(nil), s.source, hopLimit, time.Now())
		},
		"the end of the session": func(l *loop, s *session) { l.farewell(s, time.Now()) },
	} {
		t.Run(name, func(t *testing.T) {
			p := newFakePeer(t, "127.0.0.1")
			// So slow that none of it is sent meanwhile.
			l, s := aheadLoop(t, p, Config{Interval: 5 * time.Second, Multiplier: 3})
			for s.ahead.count == 0 {
				l.turn()
			}
			if s.ahead.count != 1 {
				t.Errorf("the kernel has %d packets of a slow session", s.ahead.count)
			}
			given := s.ahead.oldest().id
			change(l, s)
			l.advance(s, time.Now())
			if s.ahead.count > 0 && s.ahead.oldest().id == given {
				t.Error("the kernel still has it")
			}
			if at := s.machine.sendAt; s.machine.state != Up && s.ahead.count > 0 {
				t.Errorf("the kernel has something to say of a session that is %v; next at %s", s.machine.state, at)
			}
		})
	}
}

// A packet that is taken back leaves the session as if it had not been given.
func TestAheadAndBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		side := newSide(t, Config{Interval: time.Duration(rapid.IntRange(10, 300).Draw(t, "interval")) * ms, Multiplier: 3})
		if side.up(); rapid.Bool().Draw(t, "sends") {
			side.next()
		}
		a, now := side.Machine, side.now
		b := *a
		marks := []plan{a.plan}
		for range rapid.IntRange(1, aheadOf).Draw(t, "ahead") {
			p, at, ok := a.Ahead(now)
			if !ok || p.State != Up || !at.After(a.lastSent.Add(-time.Nanosecond)) {
				t.Fatalf("ahead: %v at %s, %v", p, at, ok)
			}
			if d := a.sendAt.Sub(at); d > a.transmitInterval() || d < a.transmitInterval()*3/4 {
				t.Fatalf("the next one is planned %s later, at an interval of %s (RFC 5880 6.8.7)", d, a.transmitInterval())
			}
			marks = append(marks, a.plan)
		}
		if !slices.IsSortedFunc(marks, func(a, b plan) int { return a.sendAt.Compare(b.sendAt) }) {
			t.Fatalf("plans: %v", marks)
		}
		a.plan = marks[0]
		if a.plan != b.plan || a.Next(now) != b.Next(now) {
			t.Fatalf("taken back: %+v, before %+v", a.plan, b.plan)
		}
	})
}
