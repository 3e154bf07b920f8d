package l7

import (
	"crypto/tls"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/pharos-lb/pharos/proxy/accesslog"
	"github.com/pharos-lb/pharos/proxy/l7/engine"
	"github.com/pharos-lb/pharos/proxy/l7/engine/secure"
	"github.com/pharos-lb/pharos/proxy/l7/http1"
	"github.com/pharos-lb/pharos/proxy/l7/http2"
	"github.com/pharos-lb/pharos/proxy/listener"
	"github.com/pharos-lb/pharos/proxy/policy/shed"
	"github.com/pharos-lb/pharos/proxy/policy/sticky"
	"github.com/pharos-lb/pharos/proxy/pool"
)

// Timeouts bound what is the same for all listeners and pools of a server. All
// must be above 0.
type Timeouts struct {
	Linger time.Duration // what a client still sends is read before closing, so that it gets the answer
}

// DefaultTimeouts are the timeouts that suit most sites.
func DefaultTimeouts() Timeouts {
	return Timeouts{Linger: 2 * time.Second}
}

// shared is what the workers of one server share.
type shared struct {
	log    *slog.Logger
	access *accesslog.Log // nil: none
	// handshakes are the TLS handshakes of all loops.
	handshakes *secure.Handshakes
	timeouts   Timeouts
	open       atomic.Int64 // client connections
	inFlight   atomic.Int64 // requests and tunnels being served
	// generation counts the drains begun, to tell requests from before one.
	generation atomic.Uint32
}

// worker is the sessions of one loop, and what they share without locks. All
// of it runs on the loop.
type worker struct {
	*shared
	loop     engine.Loop
	sessions []*session
	// introductions are the connections whose PROXY header has not come yet.
	introductions []*introduction
	warned        time.Duration // when one of them was logged last; 0: never
	tls           *secure.Loop
	streams       []*stream // to be used again
	shared2       *http2.Shared
	mirrors       map[*mirror]struct{}
	idle          map[*pool.Server]*idleServers
	muxes         map[*pool.Server]*muxes
	spare         []*serverStream // to be used again
	depth         int             // of calls that end with a flush of shared2

	// One of each, since nothing is parsed across callbacks.
	request        http1.Request
	response       http1.Response
	outgoing       http1.Request // is read again for a server of HTTP/2
	outgoing2      http2.Request
	reason         []byte // of a response of HTTP/2
	responseLimits http1.Limits
	view           view
	answer         answer
	words          []byte        // of the answer
	fields         []http1.Field // of the response
	viaText        []byte
	cookieText     []byte
	sticky         sticky.Scratch
	dateText       []byte
	dateUntil      time.Duration
	wallTime       time.Time
	wallAt         time.Duration
	accessed       *accesslog.Buffer // nil: nothing is logged
	logTimer       engine.Timer

	// out is what is being written to a client, scratch what is to a server:
	// each is empty between callbacks.
	out, scratch []byte
}

func newWorker(s *shared, loop engine.Loop) *worker {
	w := &worker{
		shared:         s,
		loop:           loop,
		shared2:        http2.NewShared(),
		mirrors:        make(map[*mirror]struct{}),
		idle:           make(map[*pool.Server]*idleServers),
		muxes:          make(map[*pool.Server]*muxes),
		responseLimits: http1.ResponseLimits(),
	}
	if s.handshakes != nil {
		w.tls = secure.NewLoop(loop, s.handshakes)
	}
	if s.access != nil {
		w.accessed = s.access.Buffer()
		w.logTimer.Fire = w.accessed.Flush
	}
	return w
}

func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// accept makes the handler of a new client connection of l.
func (w *worker) accept(l *listener.Listener, conn engine.Conn) engine.Handler {
	if l.Site().Introduces(conn.Peer().Addr()) {
		return w.introduce(l, conn)
	}
	return w.welcome(l, conn)
}

// welcome makes the handler of a client connection whose other end is known. A
// client that has too many is closed without a word: an answer would cost what
// the limit is to save.
func (w *worker) welcome(l *listener.Listener, conn engine.Conn) engine.Handler {
	at := l.Site()
	var place shed.ClientSlot
	if at.Clients != nil {
		var ok bool
		if place, ok = at.Clients.Acquire(conn.Peer().Addr()); !ok {
			l.Accepted.Add(1)
			l.Failed.Add(1)
			w.loop.Post(conn.Close) // it has no handler yet
			return nobody{}
		}
	}
	if at.TLS == nil {
		s := w.admit(l, conn)
		s.place, s.clients = place, at.Clients
		return s
	}
	return w.tls.Accept(conn, &secure.Acceptor{
		Config: at.TLS,
		Accepted: func(c engine.Conn, state tls.ConnectionState) engine.Handler {
			s := w.admit(l, c)
			s.place, s.clients = place, at.Clients
			if state.NegotiatedProtocol == "h2" {
				s.beginHTTP2()
				w.shared2.Flush()
			}
			return s
		},
		Failed: func(*secure.HandshakeError) {
			l.Accepted.Add(1)
			l.Handshakes.Add(1)
			if at.Clients != nil {
				at.Clients.Release(place)
			}
		},
	})
}

// nobody is the handler of a connection that was closed at once.
type nobody struct{}

func (nobody) Opened()      {}
func (nobody) Data([]byte)  {}
func (nobody) Drained()     {}
func (nobody) EOF()         {}
func (nobody) Closed(error) {}

// admit makes the session of a client connection of l.
func (w *worker) admit(l *listener.Listener, conn engine.Conn) *session {
	s := &session{w: w, l: l, conn: conn, index: len(w.sessions), active: w.loop.Now()}
	s.timer.Fire = s.expired
	s.x = exchange{w: w, l: l, down: s, peer: unmapped(conn.Peer()), front: conn}
	s.x.timer.Fire = s.x.expired
	w.sessions = append(w.sessions, s)
	if !l.Probe {
		w.open.Add(1)
	}
	l.Open.Add(1)
	l.Accepted.Add(1)
	w.loop.Arm(&s.timer, l.Site().HTTP.Header)
	return s
}

// forget takes a session out of the list.
func (w *worker) forget(s *session) {
	last := len(w.sessions) - 1
	w.sessions[s.index] = w.sessions[last]
	w.sessions[s.index].index = s.index
	w.sessions[last] = nil
	w.sessions = w.sessions[:last]
}

// closeIdle closes connections of listeners that are closing, if they have been
// idle for as long as quiet. Those that have not sent a request yet were just
// made, and are about to; they are closed only if unused says so, and if they
// had a second.
func (w *worker) closeIdle(unused bool, quiet time.Duration) {
	if unused && w.tls != nil {
		w.tls.CloseSilent(time.Second)
	}
	if unused {
		w.closeUnintroduced(time.Second)
	}
	for i := len(w.sessions) - 1; i >= 0; i-- {
		s := w.sessions[i]
		if !s.l.Closing() {
			continue
		}
		idle := w.loop.Now() - s.active
		old := idle > time.Second
		switch {
		case s.phase == lingering:
		case s.m != nil:
			s.m.sendAway(unused && old)
		case s.phase == awaitHead && len(s.in) == 0 && (s.served > 0 || unused && old) && idle >= quiet:
			s.conn.Close()
			s.leave()
		}
	}
}

// abortAll resets all connections, and returns how many requests were in
// flight, and how many of these since before the present generation.
func (w *worker) abortAll() (cut, older int) {
	for len(w.sessions) > 0 {
		s := w.sessions[len(w.sessions)-1]
		s.exchanges(func(x *exchange) {
			if x.l.Probe {
				return
			}
			cut++
			if x.generation != w.generation.Load() {
				older++
			}
		})
		s.conn.Abort()
		s.leave()
	}
	for len(w.introductions) > 0 {
		w.introductions[len(w.introductions)-1].close()
	}
	for m := range w.mirrors {
		m.x.cancel()
		m.gone()
	}
	return cut, older
}

// exchanges calls f for each exchange that is under way.
func (s *session) exchanges(f func(*exchange)) {
	if s.x.active {
		f(&s.x)
	}
	if s.m == nil {
		return
	}
	for _, t := range s.m.streams {
		if t.x.active {
			f(&t.x)
		}
	}
}

// stop closes the idle connections to servers, and hands over what is logged.
func (w *worker) stop() {
	if w.accessed != nil {
		w.accessed.Flush()
	}
	for _, list := range w.idle {
		for len(list.conns) > 0 {
			list.conns[len(list.conns)-1].drop()
		}
	}
	clear(w.idle)
	for _, all := range w.muxes {
		for len(all.conns) > 0 {
			all.conns[len(all.conns)-1].leave()
		}
	}
}

// reclaimScratch drops a worker's buffer that one large message has blown up.
func reclaimScratch(b []byte) []byte {
	if cap(b) > 256<<10 {
		return nil
	}
	return b[:0]
}

// reclaim drops a buffer that one large message has blown up.
func reclaim(b []byte) []byte {
	if cap(b) > 16<<10 {
		return nil
	}
	return b[:0]
}
