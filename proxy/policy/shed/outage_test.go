package shed

import (
	"slices"
	"testing"
	"time"
)

// The classic outage. Five servers carry 70 % of what they can. Two are lost,
// so that the load is 117 % of what is left. Requests queue in the servers,
// which slow down as they do; clients give up after a second, and ask again, up
// to three times; servers go on working for those who have left. From then on
// most work is done for nobody, and retries keep it so: a metastable failure
// (Bronson, Aghayev, Charapko, Zhu, "Metastable Failures in Distributed
// Systems", HotOS 2021), which outlasts its cause. The proxy's part is to keep
// what the servers cannot do from them.
const (
	fleet       = 5
	lostServers = 2
	perServer   = 200. // requests a second of one server
	load        = 0.7 * fleet * perServer
	patience    = time.Second      // of a client, for each attempt
	attempts    = 4                // of a client
	toNotice    = 2 * time.Second  // until the checks find a server lost
	loseAt      = 30 * time.Second // virtual time
	restoreAt   = 90 * time.Second
	endAt       = 180 * time.Second
)

// backend is a server as the proxy knows it.
type backend struct {
	station *station
	slot    Slot
	alive   bool // in truth
	usable  bool // as the checks say
}

// outage is the clients, the proxy and the servers.
type outage struct {
	w        *world
	servers  []*backend
	next     int
	shedding bool

	gate     *Gate
	gradient *Gradient
	budget   *RetryBudget
	config   Config

	good     [endAt / time.Second]int             // answers that a client waited for, by second
	sent     [endAt / time.Second]int             // attempts of clients
	latency  [endAt / time.Second][]time.Duration // of good answers, since they came to the proxy
	verdicts map[Verdict]int
}

func newOutage(seed uint64, shedding bool) *outage {
	o := &outage{w: newWorld(seed), shedding: shedding, verdicts: map[Verdict]int{}}
	o.config = Config{
		ServerMaxInFlight: 40,
		Queue:             100,
		QueueTimeout:      250 * ms,
		Adaptive:          &Adaptive{},
	}.WithDefaults()
	for range fleet {
		b := &backend{alive: true, usable: true, station: &station{w: o.w, workers: 10, service: 50 * ms, burden: 0.1}}
		b.slot.SetLimit(o.config.ServerMaxInFlight)
		o.servers = append(o.servers, b)
	}
	o.gradient = NewGradient(*o.config.Adaptive)
	o.budget = NewRetryBudget(o.config)
	o.gate = NewGate(o.limit(), o.config.Queue, o.config.QueueTimeout)
	o.w.arrivals(func() float64 { return load }, func() { o.ask(attempts) })
	o.w.after(loseAt, func() { o.switchServers(false) })
	o.w.after(restoreAt, func() { o.switchServers(true) })
	return o
}

// switchServers loses or restores some, which the checks notice a little later.
func (o *outage) switchServers(alive bool) {
	for _, b := range o.servers[:lostServers] {
		b.alive = alive
		b.station.queue = nil
		o.w.after(toNotice, func() {
			b.usable = alive
			o.adjust()
		})
	}
}

func (o *outage) limit() int {
	slots := make([]*Slot, len(o.servers))
	for i, b := range o.servers {
		slots[i] = &b.slot
	}
	capacity := Capacity(slots, func(i int) bool { return o.servers[i].usable })
	return Least(o.config.MaxInFlight, o.gradient.Limit(), capacity)
}

func (o *outage) adjust() { wake(o.gate.SetLimit(o.limit(), o.w.now, nil)...) }

func (o *outage) second() int { return min(int(o.w.now/time.Second), len(o.good)-1) }

// ask is one attempt of a client, which has so many in all.
func (o *outage) ask(left int) {
	o.sent[o.second()]++
	c := &call{o: o, began: o.w.now}
	again := func() {
		if left > 1 {
			o.w.after(o.w.exponential(100*ms), func() { o.ask(left - 1) })
		}
	}
	c.answered = func(ok bool) {
		if c.gone {
			return
		}
		c.gone = true
		if !ok {
			again()
			return
		}
		o.good[o.second()]++
		o.latency[o.second()] = append(o.latency[o.second()], o.w.now-c.began)
	}
	o.w.after(patience, func() {
		if c.gone {
			return
		}
		c.gone = true
		c.clientGone()
		again()
	})
	c.arrive()
}

// call is one request at the proxy, as the engine would keep it.
type call struct {
	o        *outage
	began    time.Duration
	answered func(ok bool)
	gone     bool // the client has its answer, or has left

	waiter  Waiter
	holding bool // a slot of the gate
	server  *backend
	sent    time.Duration
	tried   int
}

func (c *call) arrive() {
	o := c.o
	if !o.shedding {
		c.try()
		return
	}
	o.budget.Request(o.w.now)
	c.waiter.Wake = func() {
		if c.waiter.Claim() {
			c.admitted()
		}
	}
	switch v := o.gate.Admit(&c.waiter, o.w.now); v {
	case Admitted:
		c.admitted()
	case Queued:
		o.w.after(o.config.QueueTimeout, func() {
			if c.holding || c.gone {
				return
			}
			if v := o.gate.Cancel(&c.waiter, o.w.now); v == Admitted {
				c.admitted()
			} else if v.Refused() {
				c.refuse(v)
			}
		})
	default:
		c.refuse(v)
	}
}

func (c *call) refuse(v Verdict) {
	c.o.verdicts[v]++
	c.answered(false)
}

func (c *call) admitted() {
	c.holding = true
	c.try()
}

// try sends the request to the next server that can take it.
func (c *call) try() {
	o := c.o
	for range o.servers {
		b := o.servers[o.next%fleet]
		o.next++
		if !b.usable || o.shedding && !b.slot.TryAcquire() {
			continue
		}
		c.tried++
		if !b.alive { // refuses connections, until it is noticed
			if o.shedding {
				b.slot.Release()
				if !o.budget.Retry(o.w.now) {
					break
				}
			}
			continue
		}
		c.server, c.sent = b, o.w.now
		b.station.serve(func() { c.response(b) })
		return
	}
	if o.shedding && c.tried == 0 {
		o.verdicts[ServersFull]++
	}
	c.release()
	c.answered(false)
}

func (c *call) response(b *backend) {
	if !b.alive {
		return // its answer is lost with it
	}
	c.sample()
	c.release()
	c.answered(true)
}

// clientGone: nobody waits any more. A server notices nothing of it.
func (c *call) clientGone() {
	if !c.o.shedding {
		return
	}
	if !c.holding && c.o.gate.Cancel(&c.waiter, c.o.w.now) == Admitted {
		c.holding = true
	}
	c.sample()
	c.release()
}

// sample tells the gradient how long the server has taken.
func (c *call) sample() {
	if !c.holding || c.server == nil {
		return
	}
	if _, closed := c.o.gradient.Sample(c.o.w.now-c.sent, c.o.gate.InFlight(), c.o.w.now); closed {
		c.o.adjust()
	}
}

// release gives back the server's slot first: who is let in by the gate finds
// it free.
func (c *call) release() {
	if !c.holding {
		return
	}
	c.holding = false
	if c.server != nil {
		c.server.slot.Release()
		if !c.server.usable {
			c.o.adjust()
		}
		c.server = nil
	}
	wake(c.o.gate.Release(c.o.w.now))
}

// phase is the figures of a span of an outage.
type phase struct {
	good, sent float64 // a second
	p50, p99   time.Duration
}

func (o *outage) phase(from, to time.Duration) (p phase) {
	var all []time.Duration
	for s := from / time.Second; s < to/time.Second; s++ {
		p.good += float64(o.good[s])
		p.sent += float64(o.sent[s])
		all = append(all, o.latency[s]...)
	}
	p.good /= (to - from).Seconds()
	p.sent /= (to - from).Seconds()
	if len(all) > 0 {
		slices.Sort(all)
		p.p50, p.p99 = all[len(all)/2], all[len(all)*99/100]
	}
	return p
}

func TestSheddingKeepsAnOutageFromSpreading(t *testing.T) {
	const (
		settle = 20 * time.Second
		left   = (fleet - lostServers) * perServer
	)
	for seed := range uint64(3) {
		run := func(shedding bool) (before, first, during, after phase) {
			o := newOutage(seed, shedding)
			o.w.run(endAt)
			before = o.phase(10*time.Second, loseAt)
			first = o.phase(loseAt, loseAt+settle)
			during = o.phase(loseAt+settle, restoreAt)
			after = o.phase(restoreAt+settle, endAt)
			t.Logf("seed %d, shedding %v: refused %v", seed, shedding, o.verdicts)
			for _, p := range []struct {
				name string
				phase
			}{{"before", before}, {"first 20 s", first}, {"during", during}, {"after", after}} {
				t.Logf("  %-10s good %4.0f/s of %4.0f/s sent, p50 %v, p99 %v", p.name, p.good, p.sent, p.p50.Round(ms), p.p99.Round(ms))
			}
			if held := o.held(); shedding && o.gate.InFlight() != held {
				t.Errorf("seed %d: %d slots of the gate are taken, and %d of servers", seed, o.gate.InFlight(), held)
			}
			return before, first, during, after
		}
		before, first, during, after := run(false)
		within(t, "without, first 20 s: good", first.good, 0, 0.5*left)
		within(t, "without, before: good", before.good, 0.9*load, 1.1*load)
		within(t, "without, during: good", during.good, 0, 0.25*left)
		within(t, "without, servers long back: good", after.good, 0, 0.25*load)
		within(t, "without, servers long back: sent", after.sent, 3*load, 4.4*load)

		before, first, during, after = run(true)
		within(t, "with, before: good", before.good, 0.9*load, 1.1*load)
		within(t, "with, first 20 s: good", first.good, 0.7*left, load)
		within(t, "with, during: good", during.good, 0.75*left, left)
		within(t, "with, during: p99", during.p99, 0, 700*ms)
		within(t, "with, servers back: good", after.good, 0.9*load, 1.1*load)
		within(t, "with, servers back: p99", after.p99, 0, 400*ms)
	}
}

// held is the number of slots of servers that are taken.
func (o *outage) held() (n int) {
	for _, b := range o.servers {
		n += b.slot.InFlight()
	}
	return n
}
