package l4

import (
	"net/netip"
	"time"

	"github.com/pharos-lb/pharos/proxy/l7/engine"
	"github.com/pharos-lb/pharos/proxy/listener"
	"github.com/pharos-lb/pharos/proxy/policy/shed"
	"github.com/pharos-lb/pharos/proxy/pool"
	"github.com/pharos-lb/pharos/proxy/site"
)

// phase is how far a relay has come.
type phase uint8

const (
	awaitHeader phase = iota // the client is to say whom it speaks for
	awaitHello               // the client is to name its server
	waiting                  // for a slot of the pool
	connecting               // the client waits
	relaying
	over
)

// relay is one client connection and its server's.
type relay struct {
	crew  *crew
	l     *listener.Listener
	site  *site.Site // of the listener, when the client came
	index int        // in crew.relays
	began time.Time

	client, server side
	source, target netip.AddrPort // who the client is, and whom it connected to (not valid: not asked yet)
	proxied        netip.Addr     // the other end, if it speaks for source
	place          shed.ClientSlot
	placed         bool   // place is to be given back
	name           string // of the server, that the client asks for
	said           []byte // until it was sent to the server

	pool       *pool.Pool  // nil: not chosen
	waiter     shed.Waiter // for the pool's gate
	queued     bool        // waits for it
	admitted   bool        // holds a slot of it
	pick       pick
	serverName string // of the one that took the connection

	phase phase
	timer engine.Timer // bounds the phase

	// On the loop's clock.
	start, dialled    time.Duration
	waited, connected time.Duration
	moved             time.Duration // when something last did

	left int // pending when the timer last looked
}

// side is one end of a relay, and the handler of its connection.
type side struct {
	r    *relay
	conn engine.Conn
	held bool  // paused, until the other side has taken what came before
	eof  bool  // it sends no more
	busy uint8 // how often in a row it moved much, up to spliceAfter

	bytes int64 // that it has sent
}

const (
	// much at once is what a direction that is busy moves: less is a message.
	much = 32 << 10
	// spliceAfter is how often in a row much must move before it is spliced. A
	// spliced direction that moves little as often is copied again.
	spliceAfter = 4
)

func (s *side) other() *side {
	if s == &s.r.client {
		return &s.r.server
	}
	return &s.r.client
}

// Data implements [engine.Handler].
func (s *side) Data(b []byte) {
	r := s.r
	switch r.phase {
	case awaitHeader, awaitHello:
		r.listen(b)
		return
	case relaying:
	default:
		return
	}
	s.bytes += int64(len(b))
	r.moved = r.crew.loop.Now()
	if len(b) < much {
		s.busy = 0
	} else {
		s.busy = min(s.busy+1, spliceAfter)
	}
	other := s.other()
	other.conn.Send(b)
	if other.conn.Pending() > 0 {
		s.held = true
		s.conn.Pause()
		return
	}
	s.splice()
}

// splice hands a busy direction over to the system, if it takes it.
func (s *side) splice() {
	if s.busy < spliceAfter {
		return
	}
	if c, ok := s.conn.(engine.Splicer); !ok || !c.SpliceTo(s.other().conn) {
		s.busy = 0
	}
}

// Spliced implements [engine.SpliceHandler].
func (s *side) Spliced(n int) (more bool) {
	s.r.moved = s.r.crew.loop.Now()
	s.bytes += int64(n)
	if n >= much {
		s.busy = spliceAfter
	} else if s.busy > 0 {
		s.busy--
	}
	return s.busy > 0
}

// Drained implements [engine.Handler].
func (s *side) Drained() {
	if s.r.phase != relaying {
		return
	}
	s.r.moved = s.r.crew.loop.Now()
	s.taken()
	s.r.finish()
}

// taken lets the other side send on when nothing is pending here.
func (s *side) taken() {
	from := s.other()
	if s.conn.Pending() > 0 || !from.held {
		return
	}
	from.held = false
	from.splice()
	from.conn.Resume()
}

// EOF implements [engine.Handler].
func (s *side) EOF() {
	switch s.r.phase {
	case awaitHeader:
		s.r.notIntroduced(errNoHeader)
		return
	case awaitHello:
		s.r.cut(noHello)
		return
	case over:
		return
	}
	s.eof = true
	s.other().conn.CloseWrite()
	s.r.finish()
}

// finish ends the relay when all that both sides had to say was passed on.
func (r *relay) finish() {
	if !r.client.eof || !r.server.eof || r.client.conn.Pending() > 0 || r.server.conn.Pending() > 0 {
		return
	}
	r.client.conn.Close()
	r.server.conn.Close()
	r.end(noReason)
}

// Closed implements [engine.Handler].
func (s *side) Closed(err error) {
	r := s.r
	switch {
	case r.phase == over:
	case s == &r.client:
		if r.phase == awaitHeader {
			r.notIntroduced(errNoHeader)
			return
		}
		r.cut(clientGone)
	case r.phase == connecting:
		r.refused(err)
	case s.eof:
		// It had said all that it has to say, and refuses what came after, as
		// servers do that close: the client gets its answer whole.
		r.client.conn.Close()
		r.end(noReason)
	default:
		r.cut(serverBroke)
	}
}

// cut resets both sides, so that neither takes a truncated stream for a
// complete one.
func (r *relay) cut(why reason) {
	r.client.conn.Abort()
	if r.server.conn != nil {
		r.server.conn.Abort()
	}
	r.end(why)
}

// end is the end of the relay.
func (r *relay) end(why reason) {
	if r.phase == over {
		return
	}
	kind := r.outcome(why)
	r.phase = over
	r.crew.loop.Disarm(&r.timer)
	r.leave(kind)
	if why != noReason {
		r.l.Failed.Add(1)
	}
	r.l.Requests.Add(1)
	r.l.Open.Add(-1)
	r.record(why)
	r.said = nil
	r.crew.forget(r)
}

// outcome is what the end of the relay says of its server. One that breaks off
// what it has begun to answer may do so on purpose; one that breaks a
// connection before it said anything has failed.
func (r *relay) outcome(why reason) pool.OutcomeKind {
	switch {
	case why == noReason || r.server.bytes > 0:
		return pool.OK
	case why == serverBroke:
		return pool.Broken
	}
	return pool.Cancelled
}

// watch arms the timer for the next look at whether anything moves.
func (r *relay) watch() { r.crew.loop.Arm(&r.timer, r.site.Stream.Idle/4) }

// expired is the timer's.
func (r *relay) expired() {
	switch r.phase {
	case awaitHeader:
		r.notIntroduced(errNoHeader)
	case awaitHello:
		r.cut(noHello)
	case waiting:
		r.overdue()
	case connecting:
		r.server.conn.Abort()
		r.refused(errTimeout)
	case relaying:
		// A slow receiver moves the stream before all has drained.
		left := r.client.conn.Pending() + r.server.conn.Pending()
		now := r.crew.loop.Now()
		if left != r.left {
			r.left, r.moved = left, now
		}
		if now-r.moved >= r.site.Stream.Idle {
			r.cut(idle)
			return
		}
		r.watch()
	}
}
