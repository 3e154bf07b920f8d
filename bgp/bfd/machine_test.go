package bfd

import (
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var begin = time.Unix(1_000_000, 0)

const ms = time.Millisecond

// side is a Machine with a clock of its own.
type side struct {
	*Machine
	t   reporter
	now time.Time
}

// reporter is a test, also one of rapid's.
type reporter interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func newSide(t reporter, c Config) *side {
	return &side{NewMachine(c, 0xaaaa, rand.New(rand.NewPCG(1, 2)), begin), t, begin}
}

func config() Config { return Config{Interval: 50 * ms, Multiplier: 3} }

// hear gives it a packet of a peer with the same timers.
func (s *side) hear(state State, change ...func(*Packet)) Change {
	p := Packet{
		State: state, DetectMult: 3, MyDiscriminator: 0xbbbb, YourDiscriminator: s.localDiscr,
		DesiredMinTx: 50 * ms, RequiredMinRx: 50 * ms,
	}
	if state != Up {
		p.DesiredMinTx = time.Second
	}
	for _, c := range change {
		c(&p)
	}
	return s.Receive(s.now, p)
}

// next lets time pass up to the next packet and returns it, how long that
// took, and what became of the state meanwhile.
func (s *side) next() (Packet, time.Duration, Change) {
	s.t.Helper()
	start := s.now
	var last Change
	for range 1000 {
		at := s.Next(s.now)
		if at.IsZero() {
			s.t.Fatal("nothing is planned")
		}
		s.now = at
		p, send, _, change := s.Advance(s.now)
		if change != Unchanged {
			last = change
		}
		if send {
			return p, s.now.Sub(start), last
		}
	}
	s.t.Fatal("no packet, whatever time passes")
	return Packet{}, 0, 0
}

// up brings it Up, with its poll sequence done.
func (s *side) up() *side {
	s.t.Helper()
	s.next()
	if c := s.hear(Down); c != Moved || s.state != Init {
		s.t.Fatalf("after Down: %v, %v", c, s.state)
	}
	s.next()
	if c := s.hear(Up); c != WentUp || s.state != Up {
		s.t.Fatalf("after Up: %v, %v", c, s.state)
	}
	if p, _, _ := s.next(); !p.Poll || p.State != Up || p.DesiredMinTx != s.config.Interval {
		s.t.Fatalf("the first packet in Up: %v", p)
	}
	s.hear(Up, func(p *Packet) { p.Final = true })
	return s
}

func TestRFC5880Section6_1ActiveRoleSendsUnasked(t *testing.T) {
	s := newSide(t, config())
	p, after, _ := s.next()
	if p.State != Down || p.YourDiscriminator != 0 || p.MyDiscriminator != 0xaaaa || after > 10*ms {
		t.Errorf("first packet after %v: %v", after, p)
	}
}

func TestRFC5880Section6_2StateMachine(t *testing.T) {
	for name, c := range map[string]struct {
		from, hears, to State
		change          Change
		diag            Diag
	}{
		"Down hears Down":      {Down, Down, Init, Moved, DiagNone},
		"Down hears Init":      {Down, Init, Up, WentUp, DiagNone},
		"Down hears Up":        {Down, Up, Down, Unchanged, DiagNone},
		"Down hears AdminDown": {Down, AdminDown, Down, Unchanged, DiagNone},
		"Init hears Down":      {Init, Down, Init, Unchanged, DiagNone},
		"Init hears Init":      {Init, Init, Up, WentUp, DiagNone},
		"Init hears Up":        {Init, Up, Up, WentUp, DiagNone},
		"Init hears AdminDown": {Init, AdminDown, Down, Moved, DiagNeighborDown},
		"Up hears Down":        {Up, Down, Down, Failed, DiagNeighborDown},
		"Up hears Init":        {Up, Init, Up, Unchanged, DiagNone},
		"Up hears Up":          {Up, Up, Up, Unchanged, DiagNone},
		"Up hears AdminDown":   {Up, AdminDown, Down, Withdrawn, DiagNeighborDown},
		"AdminDown hears Down": {AdminDown, Down, AdminDown, Unchanged, DiagAdministrative},
		"AdminDown hears Up":   {AdminDown, Up, AdminDown, Unchanged, DiagAdministrative},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSide(t, config())
			switch c.from {
			case Init:
				s.next()
				s.hear(Down)
			case Up:
				s.up()
			case AdminDown:
				s.up()
				s.Disable(s.now)
			case Down:
			}
			if got := s.hear(c.hears); got != c.change || s.state != c.to || s.localDiag != c.diag {
				t.Errorf("%v, now %v (%v)", got, s.state, s.localDiag)
			}
		})
	}
}

func TestRFC5880Section6_3DiscriminatorIsReflected(t *testing.T) {
	s := newSide(t, config()).up()
	if p, _, _ := s.next(); p.YourDiscriminator != 0xbbbb {
		t.Errorf("%v", p)
	}
	s.hear(Up, func(p *Packet) { p.MyDiscriminator = 0xcccc })
	if p, _, _ := s.next(); p.YourDiscriminator != 0xcccc {
		t.Errorf("after a change: %v", p)
	}
}

func TestRFC5880Section6_5PollIsAnsweredAtOnce(t *testing.T) {
	s := newSide(t, config()).up()
	s.next()
	s.hear(Up, func(p *Packet) { p.Poll = true })
	p, after, _ := s.next()
	if !p.Final || p.Poll || after != 0 {
		t.Errorf("answer after %v: %v", after, p)
	}
	if p, after, _ := s.next(); p.Final || after == 0 {
		t.Errorf("then, after %v: %v", after, p)
	}
}

func TestRFC5880Section6_5PollsCrossing(t *testing.T) {
	s := newSide(t, config()).up()
	s.Configure(s.now, Config{Interval: 100 * ms, Multiplier: 3})
	s.hear(Up, func(p *Packet) { p.Poll = true })
	if p, _, _ := s.next(); !p.Final || p.Poll {
		t.Errorf("answer: %v", p)
	}
	if p, after, _ := s.next(); p.Final || !p.Poll || after != 0 {
		t.Errorf("poll of ours, after %v: %v", after, p)
	}
}

func TestRFC5880Section6_5ChangeDuringAPollNeedsAnother(t *testing.T) {
	s := newSide(t, config()).up()
	s.Configure(s.now, Config{Interval: 100 * ms, Multiplier: 3})
	s.next()
	s.Configure(s.now, Config{Interval: 200 * ms, Multiplier: 3})
	s.hear(Up, func(p *Packet) { p.Final = true }) // to the first poll, perhaps
	if s.txInUse != 50*ms {
		t.Errorf("in use after the first answer: %v", s.txInUse)
	}
	if p, _, _ := s.next(); !p.Poll || p.DesiredMinTx != 200*ms {
		t.Errorf("%v", p)
	}
	s.hear(Up, func(p *Packet) { p.Final = true })
	if p, _, _ := s.next(); p.Poll || s.txInUse != 200*ms {
		t.Errorf("after the second answer: %v, in use %v", p, s.txInUse)
	}
}

func TestRFC5880Section6_8_2IntervalIsTheSlowerOfBoth(t *testing.T) {
	s := newSide(t, config()).up()
	s.hear(Up, func(p *Packet) { p.RequiredMinRx = 400 * ms })
	s.next()
	if _, after, _ := s.next(); after < 300*ms {
		// The peer has fallen silent, but sends at 50 ms: the session ends first.
		if s.state == Up {
			t.Errorf("sent after %v", after)
		}
	}
	if got := s.transmitInterval(); got != 400*ms && s.state == Up {
		t.Errorf("interval %v", got)
	}
}

func TestRFC5880Section6_8_3SlowUntilUp(t *testing.T) {
	s := newSide(t, config())
	s.next()
	for range 20 {
		p, after, _ := s.next()
		if p.DesiredMinTx != time.Second || p.RequiredMinRx != 50*ms || after < 750*ms || after > time.Second {
			t.Fatalf("after %v: %v", after, p)
		}
	}
}

func TestRFC5880Section6_8_3SlowerSendingWaitsForTheAnswer(t *testing.T) {
	s := newSide(t, config()).up()
	s.Configure(s.now, Config{Interval: 200 * ms, Multiplier: 3})
	s.next()
	s.hear(Up)
	if p, after, _ := s.next(); !p.Poll || after > 50*ms || p.DesiredMinTx != 200*ms || p.RequiredMinRx != 200*ms {
		t.Errorf("before the answer, after %v: %v", after, p)
	}
	s.hear(Up, func(p *Packet) { p.Final = true })
	s.hear(Up, func(p *Packet) { p.DesiredMinTx = 200 * ms })
	s.next()
	if p, after, _ := s.next(); p.Poll || after < 150*ms {
		t.Errorf("after the answer, after %v: %v", after, p)
	}
}

func TestRFC5880Section6_8_3ShorterDetectionWaitsForTheAnswer(t *testing.T) {
	s := newSide(t, Config{Interval: 200 * ms, Multiplier: 3})
	s.next()
	s.hear(Down)
	s.next()
	s.hear(Up)
	s.next()
	s.hear(Up, func(p *Packet) { p.Final = true })
	s.Configure(s.now, config())
	if got := s.detectionTime(); got != 600*ms {
		t.Errorf("before the answer: %v", got)
	}
	if s.txInUse != 50*ms {
		t.Errorf("sending faster has to wait, too: %v", s.txInUse)
	}
	s.hear(Up, func(p *Packet) { p.Final = true })
	if got := s.detectionTime(); got != 150*ms {
		t.Errorf("after the answer: %v", got)
	}
}

func TestRFC5880Section6_8_4DetectionTime(t *testing.T) {
	s := newSide(t, config()).up()
	s.hear(Up, func(p *Packet) { p.DetectMult, p.DesiredMinTx = 5, 80*ms })
	heard := s.now
	var change Change
	for s.state == Up {
		_, _, change = s.next()
	}
	if silence := s.now.Sub(heard); silence != 400*ms || change != Failed || s.localDiag != DiagExpired {
		t.Errorf("%v after %v: %v", change, silence, s.localDiag)
	}
}

func TestRFC5880Section6_8_4InitExpiresToo(t *testing.T) {
	s := newSide(t, config())
	s.next()
	s.hear(Down)
	var change Change
	for s.state == Init {
		_, _, change = s.next()
	}
	if change != Moved || s.localDiag != DiagExpired {
		t.Errorf("%v, %v", change, s.localDiag)
	}
}

func TestRFC5880Section6_8_1DiscriminatorIsForgottenInSilence(t *testing.T) {
	s := newSide(t, config()).up()
	var p Packet
	for s.state == Up {
		p, _, _ = s.next()
	}
	if p.State != Down || p.YourDiscriminator != 0 || p.Diag != DiagExpired {
		t.Errorf("%v", p)
	}
}

// A silence after the peer has said AdminDown once is nothing that happened to
// a session: it was not Up any more.
func TestRFC5880Section6_8_16PeersAdminDownIsNoFailure(t *testing.T) {
	s := newSide(t, config()).up()
	if c := s.hear(AdminDown, func(p *Packet) { p.Diag = DiagAdministrative }); c != Withdrawn {
		t.Errorf("%v", c)
	}
	for range 5 {
		if _, _, c := s.next(); c != Unchanged {
			t.Errorf("later: %v", c)
		}
	}
	if c := s.hear(Down); c != Moved || s.state != Init {
		t.Errorf("when it returns: %v, %v", c, s.state)
	}
}

func TestRFC5880Section6_8_16AdminDownIsSaidAtOnce(t *testing.T) {
	s := newSide(t, config()).up()
	s.next()
	s.Disable(s.now)
	p, after, _ := s.next()
	if p.State != AdminDown || p.Diag != DiagAdministrative || after != 0 || p.DesiredMinTx != time.Second {
		t.Errorf("after %v: %v", after, p)
	}
}

func TestRFC5880Section6_8_7Jitter(t *testing.T) {
	s := newSide(t, config()).up()
	least, most := time.Hour, time.Duration(0)
	for range 2000 {
		s.hear(Up)
		_, after, _ := s.next()
		least, most = min(least, after), max(most, after)
	}
	if s.state != Up || least < 37500*time.Microsecond || most > 50*ms {
		t.Errorf("%v: from %v to %v", s.state, least, most)
	}
	if least > 39*ms || most < 48*ms {
		t.Errorf("it does not use the whole range: from %v to %v", least, most)
	}
}

func TestRFC5880Section6_8_7StateChangeIsToldAtOnce(t *testing.T) {
	s := newSide(t, config()).up()
	s.next()
	s.hear(Down)
	if p, after, _ := s.next(); p.State != Down || p.Diag != DiagNeighborDown || after != 0 {
		t.Errorf("after %v: %v", after, p)
	}
}

func TestRFC5880Section6_8_7SilentWhereNothingIsWanted(t *testing.T) {
	s := newSide(t, config()).up()
	s.next()
	s.hear(Up, func(p *Packet) { p.RequiredMinRx = 0 })
	if next := s.Next(s.now); next.Sub(s.now) != 150*ms {
		t.Errorf("next %v: the end of the detection time is all that should be planned", next.Sub(s.now))
	}
	s.hear(Up, func(p *Packet) { p.Demand = true })
	if next := s.Next(s.now); next.Sub(s.now) != 150*ms {
		t.Errorf("in demand mode, next %v", next.Sub(s.now))
	}
	s.hear(Up, func(p *Packet) { p.Poll, p.Demand = true, true })
	if p, after, _ := s.next(); !p.Final || after != 0 {
		t.Errorf("a poll is answered all the same; after %v: %v", after, p)
	}
}

func TestShorterIntervalDoesNotWaitForTheLongOne(t *testing.T) {
	s := newSide(t, config())
	s.next() // the next one is planned in a second
	s.hear(Init)
	s.next()
	s.hear(Up)
	if next := s.Next(s.now); next.Sub(s.now) > 50*ms {
		t.Errorf("planned in %v", next.Sub(s.now))
	}
}

func TestLatenessIsMeasured(t *testing.T) {
	s := newSide(t, config()).up()
	s.hear(Up)
	at := s.Next(s.now)
	if _, send, late, _ := s.Advance(at.Add(7 * ms)); !send || late != 7*ms {
		t.Errorf("sent %v, late by %v", send, late)
	}
	s.now = at.Add(7 * ms)
	s.hear(Up, func(p *Packet) { p.Poll = true })
	if _, send, late, _ := s.Advance(s.now.Add(ms)); !send || late >= 0 {
		t.Errorf("an answer: sent %v, late by %v", send, late)
	}
}

func TestAnotherProcessGoesOn(t *testing.T) {
	s := newSide(t, config()).up()
	s.next()
	snapshot := s.Snapshot()
	s.Leave()
	if c := s.hear(Down); c != Unchanged || s.state != Up {
		t.Errorf("who leaves hears: %v, %v", c, s.state)
	}
	for range 20 {
		if p, after, _ := s.next(); p.State != Up || after > 50*ms {
			t.Fatalf("who leaves goes on sending; after %v: %v", after, p)
		}
	}
	n := &side{Resume(snapshot, rand.New(rand.NewPCG(3, 4)), begin), t, begin}
	if p, after, _ := n.next(); p.State != Up || after != 0 || p.MyDiscriminator != 0xaaaa || p.YourDiscriminator != 0xbbbb || p.DesiredMinTx != 50*ms {
		t.Errorf("the first packet, after %v: %v", after, p)
	}
	var change Change
	for n.state == Up {
		_, _, change = n.next()
	}
	if silence := n.now.Sub(begin); change != Failed || silence != 150*ms {
		t.Errorf("%v after %v", change, silence)
	}
}

// Two machines on a path that loses, doubles and delays packets: whatever
// happened, they are Up once it works, with the timers that both want, and go
// Down within the detection time when it is cut.
func TestTwoSidesAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) Config {
			return Config{
				Interval:   time.Duration(rapid.IntRange(10, 2000).Draw(t, name+" interval")) * ms,
				Multiplier: rapid.IntRange(MinMultiplier, 10).Draw(t, name+" multiplier"),
			}
		}
		seed := rapid.Uint64().Draw(t, "seed")
		random := rand.New(rand.NewPCG(seed, 1))
		now := begin
		sides := [2]*Machine{
			NewMachine(draw("a"), 1, rand.New(rand.NewPCG(seed, 2)), now),
			NewMachine(draw("b"), 2, rand.New(rand.NewPCG(seed, 3)), now),
		}
		var failed [2]bool
		flow := func(until time.Time, loss float64) {
			for {
				next := until
				for _, m := range sides {
					if n := m.Next(now); !n.IsZero() && n.Before(next) {
						next = n
					}
				}
				now = next
				if !now.Before(until) {
					return
				}
				for i, m := range sides {
					p, send, _, c := m.Advance(now)
					failed[i] = failed[i] || c == Failed
					if !send || random.Float64() < loss {
						continue
					}
					read, err := Parse(p.Append(nil))
					if err != nil {
						t.Fatalf("%v: %v", p, err)
					}
					if read.YourDiscriminator != 0 && read.YourDiscriminator != sides[1-i].localDiscr {
						continue
					}
					if sides[1-i].Receive(now, read) == Failed {
						failed[1-i] = true
					}
				}
			}
		}
		flow(now.Add(20*time.Second), rapid.Float64Range(0, 0.9).Draw(t, "loss"))
		sides[0].Configure(now, draw("a later"))
		flow(now.Add(5*time.Second), 0.3)
		sides[1].Configure(now, draw("b later"))
		flow(now.Add(time.Minute), 0)
		for i, m := range sides {
			peer := sides[1-i]
			tx := max(m.config.Interval, peer.config.Interval)
			if m.state != Up || m.polling || m.transmitInterval() != tx || peer.detectionTime() != time.Duration(m.config.Multiplier)*tx {
				t.Fatalf("side %d: %v, polling %t, sends each %v, the peer waits %v; %+v", i, m.state, m.polling, m.transmitInterval(), peer.detectionTime(), m.config)
			}
		}
		failed = [2]bool{}
		flow(now.Add(time.Minute), 0)
		if failed[0] || failed[1] {
			t.Fatal("a session failed although nothing was lost")
		}
		flow(now.Add(max(sides[0].detectionTime(), sides[1].detectionTime())+time.Second), 1)
		if !failed[0] || !failed[1] {
			t.Fatalf("a cut was not noticed: %v", failed)
		}
	})
}

func TestSessionDoesNotAllocate(t *testing.T) {
	s := newSide(t, config()).up()
	b := make([]byte, 0, lengthMandatory)
	heard, err := Parse(good())
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(1000, func() {
		s.Receive(s.now, heard)
		s.now = s.Next(s.now)
		p, _, _, _ := s.Advance(s.now)
		b = p.Append(b[:0])
		_, _ = Parse(b)
	}); n != 0 {
		t.Errorf("%v allocations for each packet", n)
	}
}
