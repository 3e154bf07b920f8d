package l7

import (
	"time"

	"github.com/pharos-lb/pharos/proxy/l7/engine"
	"github.com/pharos-lb/pharos/proxy/l7/http1"
	"github.com/pharos-lb/pharos/proxy/listener"
	"github.com/pharos-lb/pharos/proxy/pool"
)

// downstream is where an exchange's response goes: an HTTP/1.1 connection, or
// one stream of an HTTP/2 connection.
type downstream interface {
	// interim passes an informational response on (RFC 9110 section 15.2).
	interim(res *http1.Response)
	// head begins the final response, data goes on with its body, and end
	// completes it. What they make may be held back until flush.
	head(res *http1.Response)
	data(b []byte)
	end(trailer []http1.Field)
	flush()
	// switched passes on that the server has changed protocols: from now on
	// data is the tunnel's.
	switched(res *http1.Response)
	// endTunnel: the server has closed its side of the tunnel.
	endTunnel()
	// pending is the number of bytes that the client has not taken yet.
	pending() int
	// more: the server takes more of the request's body.
	more()
	// reply answers in the proxy's own words. The exchange has ended before.
	reply(status int, why reason)
	// cut ends a response that cannot be completed, so that the client sees
	// it. The exchange has ended before.
	cut()
	// done: the response is complete, and the exchange has ended.
	done()
}

// exchange is one request and its response: what becomes of a request once its
// head is known, whatever protocols its client and its server speak. It lives
// in its downstream, and is used again.
type exchange struct {
	w    *worker
	l    *listener.Listener
	down downstream
	peer []byte // the client's address, as text

	// timer looks from time to time whether anything has moved.
	timer engine.Timer
	// request is the head as it goes to a server: HTTP/1.1, whatever is spoken
	// there, and kept until the end, since it may be sent again.
	request []byte

	progress
}

// progress is how far an exchange has come.
type progress struct {
	active     bool
	generation uint32
	moved      time.Duration // when anything moved last

	isHead     bool // the method
	replayable bool // may be sent once more: idempotent, and without a body
	upgrade    bool // the client asked to switch protocols
	tunnel     bool // it has switched
	chunked    bool // the request's body has no length in advance

	requestDone bool // all of it was passed on
	headDone    bool // the response's final head was passed on
	responded   bool // anything of the response was

	selection pool.Selection
	server    *pool.Server
	up        *upstream
	timedOut  bool // the last connect failed for time
	tried     int
	retried   bool // a kept connection was dead, and a new one dialled
	elsewhere bool // a server broke a new one, and another was chosen
}

// begin takes a request up. Its views are used during the call alone.
func (x *exchange) begin(req *http1.Request) {
	idempotent := false
	switch string(req.Method) {
	case "GET", "HEAD", "OPTIONS", "PUT", "DELETE":
		idempotent = true
	}
	upgrade := string(req.Method) == "GET" && req.Body == http1.NoBody && http1.EqualFold(req.Upgrade, "websocket")
	x.request = appendRequestHead(x.request[:0], req, x.peer, upgrade)
	x.progress = progress{
		active:      true,
		generation:  x.w.generation.Load(),
		moved:       x.w.loop.Now(),
		isHead:      string(req.Method) == "HEAD",
		replayable:  idempotent && req.Body == http1.NoBody && !upgrade,
		upgrade:     upgrade,
		chunked:     req.Body == http1.Chunked,
		requestDone: req.Body == http1.NoBody,
		selection:   x.l.Pool().Select(),
	}
	x.w.inFlight.Add(1)
	x.w.loop.Arm(&x.timer, x.w.timeouts.Exchange)
	x.tryNext()
}

// touch notes that something moved.
func (x *exchange) touch() { x.moved = x.w.loop.Now() }

// freshEnough is how long a kept connection may have been idle to carry a
// request that cannot be sent again: the longer, the likelier the server is
// closing it at this moment.
const freshEnough = time.Second

// tryNext sends the request to the next server that may take it.
func (x *exchange) tryNext() {
	server := x.selection.Next()
	if server == nil {
		switch {
		case x.tried == 0:
			x.fail(503, noServer)
		case x.timedOut:
			x.fail(504, connectTimeout)
		default:
			x.fail(502, connectFailed)
		}
		return
	}
	x.tried++
	x.charge(server)
	within := freshEnough
	if x.replayable {
		within = 0
	}
	if u := x.w.takeIdle(server, within); u != nil {
		u.x = x
		x.up = u
		x.send()
		return
	}
	x.up = x.w.dial(server, x)
}

// charge counts the exchange on server instead of the one before.
func (x *exchange) charge(server *pool.Server) {
	if x.server != nil {
		x.server.InFlight.Add(-1)
	}
	x.server = server
	if server != nil {
		server.InFlight.Add(1)
	}
}

// opened: a new connection to the server stands.
func (x *exchange) opened() {
	x.send()
	x.down.more() // the body may be waiting
}

func (x *exchange) send() {
	x.touch()
	x.server.Connections.Add(1)
	x.up.start(x.request)
}

// takesBody reports whether the server takes a piece of the request's body now;
// if not, down.more will tell.
func (x *exchange) takesBody() bool {
	return x.up != nil && x.up.opened && x.up.pending() == 0
}

// body passes a piece of the request's body on, and its end. takesBody must
// hold.
func (x *exchange) body(b []byte, done bool, trailer []http1.Field) {
	x.requestDone = done
	x.up.body(b, done, trailer)
}

// interim takes an informational response.
func (x *exchange) interim(res *http1.Response) {
	x.responded = true
	x.down.interim(res)
}

// head takes the final head of the response.
func (x *exchange) head(res *http1.Response) {
	x.headDone, x.responded = true, true
	x.down.head(res)
}

// switched takes a 101, and reports whether it was asked for.
func (x *exchange) switched(res *http1.Response) bool {
	if !x.upgrade || !http1.EqualFold(res.Upgrade, "websocket") {
		return false
	}
	x.headDone, x.responded, x.tunnel = true, true, true
	x.w.loop.Arm(&x.timer, x.w.timeouts.Tunnel)
	x.down.switched(res)
	return true
}

// drained: the client took what was pending.
func (x *exchange) drained() {
	x.touch()
	if x.up != nil {
		x.up.conn.Resume()
	}
}

// upstreamFailed: the connection to the server, u, could not be made, or
// broke. It was dropped already.
func (x *exchange) upstreamFailed(u *upstream, err error) {
	x.up = nil
	switch {
	case !x.active:
	case x.tunnel:
		x.fail(502, serverBroke)
	case !u.opened:
		x.timedOut = err == errTimeout
		if muted, log := x.server.LogFailure(time.Now()); log {
			x.w.log.Warn("connecting to a server failed", "listener", x.l.Name, "server", x.server.Name, "address", x.server.Address, "error", err, "not_logged", muted)
		}
		x.tryNext() // nothing was sent
	case x.responded || u.heard() || !x.replayable:
		x.fail(502, serverBroke)
	case u.reused && !x.retried:
		// A kept connection that the server closed as the request was on its
		// way (RFC 9112 section 9.3.1): a new one tells how the server is.
		x.retried = true
		x.up = x.w.dial(x.server, x)
	case !x.elsewhere:
		// It took the connection and broke it without a byte: it is dying.
		// Another one may answer; one more try, not a walk through the pool.
		x.elsewhere = true
		x.tryNext()
	default:
		x.fail(502, serverBroke)
	}
}

// malformed: the server's response cannot be understood.
func (x *exchange) malformed(err *http1.Error) {
	if muted, log := x.server.LogFailure(time.Now()); log {
		x.w.log.Warn("a server's response is malformed", "listener", x.l.Name, "server", x.server.Name, "address", x.server.Address, "reason", err.Reason, "not_logged", muted)
	}
	x.fail(502, serverMalformed)
}

// fail gives up the exchange: with an answer of the proxy's own, or, if the
// server's has begun, by cutting it.
func (x *exchange) fail(status int, why reason) {
	x.l.Requests.Add(1)
	x.l.Failed.Add(1)
	begun := x.headDone
	x.release()
	if begun {
		x.down.cut()
		return
	}
	x.down.reply(status, why)
}

// cancel gives up the exchange for the client's sake, who is gone.
func (x *exchange) cancel() { x.release() }

// release settles what the exchange holds; a connection to the server that it
// still has was not finished with.
func (x *exchange) release() {
	if !x.active {
		return
	}
	x.active = false
	x.w.loop.Disarm(&x.timer)
	x.w.inFlight.Add(-1)
	x.charge(nil)
	if u := x.up; u != nil {
		x.up = nil
		u.abort()
	}
}

// complete: all of the response was passed on. keep says that the server's
// connection can carry another exchange.
func (x *exchange) complete(keep bool) {
	x.l.Requests.Add(1)
	u := x.up
	x.up = nil
	u.x = nil
	switch {
	case !x.requestDone:
		u.abort()
		keep = false
	case !keep:
		u.drop()
	}
	x.release()
	if keep {
		x.w.release(u)
	}
	x.down.done()
}

// expired looks how long nothing moved: the timer is not moved whenever a byte
// does.
func (x *exchange) expired() {
	if !x.active {
		return
	}
	limit := x.w.timeouts.Exchange
	if x.tunnel {
		limit = x.w.timeouts.Tunnel
	}
	switch quiet := x.w.loop.Now() - x.moved; {
	case quiet < limit:
		x.w.loop.Arm(&x.timer, limit-quiet)
	case !x.requestDone:
		x.fail(408, requestTimeout)
	default:
		x.fail(504, serverTimeout)
	}
}
