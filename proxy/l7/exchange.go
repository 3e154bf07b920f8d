package l7

import (
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/pharos-lb/pharos/proxy/l7/engine"
	"github.com/pharos-lb/pharos/proxy/l7/http1"
	"github.com/pharos-lb/pharos/proxy/listener"
	"github.com/pharos-lb/pharos/proxy/policy/shed"
	"github.com/pharos-lb/pharos/proxy/pool"
	"github.com/pharos-lb/pharos/proxy/site"
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
	// protocol is what the client speaks, as the access log names it.
	protocol() string
	// pending is the number of bytes that the client has not taken yet.
	pending() int
	// more: the server takes more of the request's body.
	more()
	// reply answers in the proxy's own words. The exchange has ended before.
	reply(a *answer)
	// cut ends a response that cannot be completed, so that the client sees
	// it. The exchange has ended before.
	cut()
	// done: the response is complete, and the exchange has ended.
	done()
}

// upstream is where an exchange's request goes: an HTTP/1.1 connection to a
// server, or one stream of an HTTP/2 connection. It calls the exchange's opened,
// interim, head, data, switched, complete and upstreamFailed.
type upstream interface {
	// start sends the request's head, given as HTTP/1.1.
	start(head []byte)
	// body sends a piece of the request's body, and its end.
	body(b []byte, done bool, trailer []http1.Field)
	// tunnel sends what the client says after a switch of protocols, and
	// closeTunnel that it has ended; ended: the server has ended its side.
	tunnel(b []byte)
	closeTunnel()
	ended() bool
	// pending is the number of bytes that the server has not taken yet.
	pending() int
	// resume: the client has taken what it was given.
	resume()
	// open reports whether the connection stands, kept whether it did before
	// this exchange, and heard whether any byte of a response has come.
	open() bool
	kept() bool
	heard() bool
	// finish: the exchange is over, with all of the response. keep as in
	// exchange.complete; whole: all of the request was sent.
	finish(keep, whole bool)
	// abort: the exchange is over, and was not finished.
	abort()
}

// exchange is one request and its response: what becomes of a request once its
// head is known, whatever protocols its client and its server speak. It lives
// in its downstream, and is used again.
type exchange struct {
	w    *worker
	l    *listener.Listener
	down downstream
	peer netip.AddrPort // the other end of the client's connection
	// front is the client's connection, and local its near end once somebody
	// has asked for it; nil: there is none, for a copy.
	front engine.Conn
	local netip.AddrPort

	// timer looks from time to time whether anything has moved, or bounds the
	// wait in a queue.
	timer  engine.Timer
	waiter shed.Waiter // for the pool's gate
	// request is the head as it goes to a server: HTTP/1.1, whatever is spoken
	// there, and kept until the end, since it may be sent again.
	request []byte
	again   []byte // what of its body was sent, while it may have to be again
	asked   asked

	progress
}

// progress is how far an exchange has come.
type progress struct {
	active     bool
	isCopy     bool       // a copy: it counts for nobody, and is not logged
	mirror     *mirror    // nil: none
	site       *site.Site // of the listener, when the request came
	rule       *site.Rule // nil: none
	pool       *pool.Pool // nil: not chosen
	client     netip.Addr // who sent it
	spoken     string     // the client's protocol and version
	generation uint32

	waited             time.Duration // in the queue
	began, sent, first time.Duration // the request's head was read; it went to the server; the first byte came back
	moved              time.Duration // when anything moved last
	bytesIn, bytesOut  int64         // of the bodies
	status             int           // of the answer; 0: none yet

	isHead     bool   // the method
	replayable bool   // may be sent once more: idempotent, and without a body
	protocol   []byte // that the client asked to switch to, in request; nil: none
	tunnel     bool   // it has switched
	chunked    bool   // the request's body has no length in advance
	withBody   bool   // the request has one
	grpc       bool   // it is a call of gRPC

	requestDone bool // all of it was passed on
	headDone    bool // the response's final head was passed on
	responded   bool // anything of the response was

	key       uint64 // hash of the request, for the choice of a server
	queued    bool   // waits for the pool's gate
	admitted  bool   // holds a slot of it
	selection pool.Selection
	server    *pool.Server // holds a slot of it
	terms     *pool.Terms  // how it is spoken to
	full      bool         // a server was passed over, which is at its limit
	outcome   pool.OutcomeKind
	up        upstream // nil: none
	bond      bond
	unmade    reason // why the last connection could not be made
	tried     int
	plain     bool          // the server wants HTTP/1.1 for it (RFC 9113 section 7)
	refusals  int           // of servers that did nothing with the request
	forgot    bool          // again is not all that was sent
	late      []http1.Field // the trailers that were sent
	retried   bool          // a kept connection was dead, and a new one dialled
	elsewhere bool          // a server broke a new one, and another was chosen
}

// begin takes a request up. Its views are used during the call alone.
func (x *exchange) begin(req *http1.Request) {
	w, v := x.w, &x.w.view
	at := x.l.Site()
	x.progress = progress{
		active:      true,
		site:        at,
		generation:  w.generation.Load(),
		began:       w.loop.Now(),
		moved:       w.loop.Now(),
		client:      clientOf(req, x.peer.Addr(), &at.HTTP),
		spoken:      x.down.protocol(),
		isHead:      string(req.Method) == "HEAD",
		replayable:  req.Body == http1.NoBody && idempotent(req.Method),
		chunked:     req.Body == http1.Chunked,
		withBody:    req.Body != http1.NoBody,
		requestDone: req.Body == http1.NoBody,
		grpc:        isGRPC(req),
	}
	x.again = x.again[:0]
	if !x.l.Probe {
		w.inFlight.Add(1)
	}
	h := &at.HTTP
	v.set(req, x.client)
	if x.logs() {
		x.asked.keep(req)
	}
	switch {
	case h.MaxBody > 0 && req.Body == http1.Length && req.ContentLength > h.MaxBody:
		x.fail(413, requestTooLarge)
		return
	case h.Underscores == site.RefuseUnderscores && hasUnderscore(req):
		x.fail(400, malformedRequest)
		return
	}
	if c := at.Clients; c != nil {
		if ok, wait := c.Allow(c.Key(v), w.loop.Now()); !ok {
			x.shed(429, clientRate, shed.RetryAfter(wait))
			return
		}
	}
	target := x.choose()
	if !x.active {
		return
	}
	switch {
	case target != nil:
		x.forward(target, req)
	case h.RedirectHTTPS != nil:
		x.answer(w.redirected(h.RedirectHTTPS, h))
	default:
		x.fail(404, noRoute)
	}
}

// idempotent reports whether doing it twice does what once does (RFC 9110
// section 9.2.2).
func idempotent(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "OPTIONS", "PUT", "DELETE":
		return true
	}
	return false
}

func hasUnderscore(req *http1.Request) bool {
	for i := range req.Fields {
		if req.Fields[i].Kind == http1.Underscore {
			return true
		}
	}
	return false
}

// choose finds the pool for the request in view, nil if there is none. A rule
// that answers by itself ends the exchange.
func (x *exchange) choose() *pool.Pool {
	at := x.site
	rule, fine := at.Find(&x.w.view)
	x.rule = rule
	switch r := rule; {
	case !fine:
		x.fail(400, malformedRequest)
		return nil
	case r == nil:
		return at.Pool
	case r.Redirect != nil:
		x.answer(x.w.redirected(r.Redirect, &at.HTTP))
		return nil
	case r.Respond != nil:
		x.answer(x.w.responded(r.Respond, &at.HTTP))
		return nil
	case r.Split != nil:
		if bound := x.boundTarget(r); bound != nil {
			return bound
		}
		return r.Targets[r.Split.Pick(rand.Uint64())]
	default:
		return r.Targets[0]
	}
}

// forward sends the request in view to a server of target.
func (x *exchange) forward(target *pool.Pool, req *http1.Request) {
	if x.bond.server == nil {
		x.bind(target)
	}
	p := passage{http: &x.site.HTTP, rewrite: x.rewrite(), jar: x.bond.jar, peer: x.peer.Addr(), client: x.client}
	if switchable(req) {
		p.protocol = req.Upgrade
		x.replayable = false
	}
	x.request = appendRequestHead(x.request[:0], &x.w.view, &p)
	if n := len(p.protocol); n > 0 {
		end := len(x.request) - len("\r\n\r\n")
		x.protocol = x.request[end-n : end]
	}
	x.key = target.Key(&x.w.view)
	if x.rule != nil && x.rule.Mirror != nil {
		x.mirrored()
	}
	x.start(target)
}

// rewrite is what the rule changes of heads, nil for nothing.
func (x *exchange) rewrite() *site.Rewrite {
	if x.rule == nil {
		return nil
	}
	return x.rule.Rewrite
}

// touch notes that something moved.
func (x *exchange) touch() { x.moved = x.w.loop.Now() }

// takesBody reports whether the server takes a piece of the request's body now;
// if not, down.more will tell.
func (x *exchange) takesBody() bool {
	return x.up != nil && x.up.open() && x.up.pending() == 0
}

// body passes a piece of the request's body on, and its end. takesBody must
// hold.
func (x *exchange) body(b []byte, done bool, trailer []http1.Field) {
	x.bytesIn += int64(len(b))
	if most := x.site.HTTP.MaxBody; most > 0 && x.bytesIn > most {
		x.fail(413, requestTooLarge)
		return
	}
	x.requestDone = done
	if x.terms.HTTP2 && !x.headDone {
		x.remember(b, trailer)
	}
	if x.mirror != nil {
		x.mirror.feed(b, done, trailer)
	}
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
	x.again = reclaim(x.again)
	x.status = res.Status
	x.first = x.w.loop.Now()
	x.outcome = pool.OK
	if res.Status < 500 {
		x.pool.Answered(x.first-x.sent, x.first)
	}
	x.down.head(res)
}

// data takes a piece of the response's body, or of what the server sends
// through a tunnel.
func (x *exchange) data(b []byte) {
	x.bytesOut += int64(len(b))
	x.down.data(b)
}

// switched takes a 101, and reports whether it was asked for.
func (x *exchange) switched(res *http1.Response) bool {
	if len(x.protocol) == 0 || !http1.EqualNames(res.Upgrade, x.protocol) {
		return false
	}
	x.headDone, x.responded, x.tunnel = true, true, true
	x.status, x.first, x.outcome = res.Status, x.w.loop.Now(), pool.OK
	x.w.loop.Arm(&x.timer, x.site.HTTP.Tunnel)
	x.down.switched(res)
	return true
}

// drained: the client took what was pending.
func (x *exchange) drained() {
	x.touch()
	if x.up != nil {
		x.up.resume()
	}
}

// fail gives up the exchange: with an answer of the proxy's own, or, if the
// server's has begun, by cutting it.
func (x *exchange) fail(status int, why reason) { x.shed(status, why, 0) }

// shed is fail that tells the client when to come again: in so many seconds, 0
// for nothing.
func (x *exchange) shed(status int, why reason, retryAfter int) {
	x.count(true)
	begun, at := x.headDone, x.site
	if !begun {
		x.status = status
	}
	x.record(why)
	x.release()
	if begun {
		x.down.cut()
		return
	}
	if x.grpc {
		x.down.reply(x.w.grpcFailure(x, status, why))
		return
	}
	x.down.reply(x.w.failure(status, why, retryAfter, &at.HTTP))
}

// count counts a request that was answered.
func (x *exchange) count(failed bool) {
	if x.isCopy {
		return
	}
	x.l.Requests.Add(1)
	if failed {
		x.l.Failed.Add(1)
	}
}

// answer ends the exchange with an answer of the proxy's own that is no failure.
func (x *exchange) answer(a *answer) {
	x.count(false)
	x.status = a.status
	x.record(noReason)
	x.release()
	x.down.reply(a)
}

// cancel gives up the exchange for the client's sake, who is gone.
func (x *exchange) cancel() {
	if x.active {
		x.record(clientGone)
		x.release()
	}
}

// release settles what the exchange holds; a connection to the server that it
// still has was not finished with.
func (x *exchange) release() {
	if !x.active {
		return
	}
	x.active = false
	if x.mirror != nil {
		x.mirror.drop()
		x.mirror = nil
	}
	x.w.loop.Disarm(&x.timer)
	if !x.isCopy && !x.l.Probe {
		x.w.inFlight.Add(-1)
	}
	if x.queued {
		x.queued = false
		x.admitted = x.pool.Gate().Cancel(&x.waiter, x.w.loop.Now()) == shed.Admitted
	}
	x.leaveServer()
	if x.admitted {
		x.admitted = false
		x.pool.Leave(x.w.loop.Now())
	}
	if u := x.up; u != nil {
		x.up = nil
		u.abort()
	}
}

// complete: all of the response was passed on. keep says that the server's
// connection can carry another exchange, as far as the response goes.
func (x *exchange) complete(keep bool) {
	x.count(false)
	x.record(noReason)
	u := x.up
	x.up = nil
	x.release()
	u.finish(keep, x.requestDone)
	x.down.done()
}
