package l4

import (
	"errors"
	"time"

	"github.com/pharos-lb/pharos/proxy/l7/engine"
	"github.com/pharos-lb/pharos/proxy/listener"
	"github.com/pharos-lb/pharos/proxy/pool"
)

// phase is how far a relay has come.
type phase uint8

const (
	awaitHello phase = iota // the client is to name its server
	connecting              // the client waits
	relaying
	over
)

// relay is one client connection and its server's.
type relay struct {
	crew  *crew
	l     *listener.Listener
	index int // in crew.relays
	began time.Time

	client, server side
	pick           pick
	hello          *hello // until it was sent to the server; nil: none is looked for

	phase phase
	timer engine.Timer  // bounds the phase
	moved time.Duration // when something last did, on the loop's clock
	left  int           // pending when the timer last looked
}

// side is one end of a relay, and the handler of its connection.
type side struct {
	r    *relay
	conn engine.Conn
	held bool  // paused, until the other side has taken what came before
	eof  bool  // it sends no more
	busy uint8 // how often in a row it moved much, up to spliceAfter
}

const (
	// much at once is what a direction that is busy moves: less is a message.
	much = 32 << 10
	// spliceAfter is how often in a row much must move before it is spliced. A
	// spliced direction that moves little as often is copied again.
	spliceAfter = 4
)

var errTimeout = errors.New("no answer within the connect timeout")

func (s *side) other() *side {
	if s == &s.r.client {
		return &s.r.server
	}
	return &s.r.client
}

// choose begins to look for a server in p.
func (r *relay) choose(p *pool.Pool) {
	r.phase, r.pick = connecting, newPick(p)
	r.connect()
}

// connect dials the next server that may take the connection: nothing was
// sent yet, so a dead server costs the client no more than time.
func (r *relay) connect() {
	if !r.pick.next() {
		r.crew.log.Debug("no server took the connection", "listener", r.l.Name, "pool", r.pick.pool.Name())
		// Reset: the client must not take this for an empty answer.
		r.cut()
		return
	}
	r.server.conn = r.crew.loop.Dial(r.pick.server.Address, &r.server)
	r.crew.loop.Arm(&r.timer, r.crew.timeouts.Connect)
}

// refused notes why a server did not take the connection, and goes on.
func (r *relay) refused(err error) {
	s := r.pick.server
	if muted, log := s.LogFailure(time.Now()); log {
		r.crew.log.Warn("connecting to a server failed", "listener", r.l.Name, "pool", r.pick.pool.Name(),
			"server", s.Name, "address", s.Address, "error", err, "not_logged", muted)
	}
	r.connect()
}

// Opened implements [engine.Handler].
func (s *side) Opened() {
	r := s.r
	r.phase, r.moved = relaying, r.crew.loop.Now()
	r.pick.begin()
	r.watch()
	if r.hello != nil {
		s.conn.Send(r.hello.said)
		r.hello = nil
	}
	s.taken()
}

// Data implements [engine.Handler].
func (s *side) Data(b []byte) {
	r := s.r
	switch r.phase {
	case awaitHello:
		r.listen(b)
		return
	case relaying:
	default:
		return
	}
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
	if s.r.phase == awaitHello {
		s.r.cut()
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
	r.end(true)
}

// Closed implements [engine.Handler].
func (s *side) Closed(err error) {
	if s == &s.r.server && s.r.phase == connecting {
		s.r.refused(err)
		return
	}
	s.r.cut()
}

// cut resets both sides, so that neither takes a truncated stream for a
// complete one.
func (r *relay) cut() {
	r.client.conn.Abort()
	if r.server.conn != nil {
		r.server.conn.Abort()
	}
	r.end(false)
}

// end is the end of the relay; ok says whether both sides wanted it.
func (r *relay) end(ok bool) {
	if r.phase == over {
		return
	}
	r.phase = over
	r.crew.loop.Disarm(&r.timer)
	r.pick.end()
	if !ok {
		r.l.Failed.Add(1)
	}
	r.l.Requests.Add(1)
	r.l.Open.Add(-1)
	r.crew.forget(r)
}

// watch arms the timer for the next look at whether anything moves.
func (r *relay) watch() { r.crew.loop.Arm(&r.timer, r.crew.timeouts.Idle/4) }

// expired is the timer's.
func (r *relay) expired() {
	switch r.phase {
	case awaitHello:
		r.cut()
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
		if now-r.moved >= r.crew.timeouts.Idle {
			r.cut()
			return
		}
		r.watch()
	}
}
