package l7

import (
	"bytes"
	"errors"
	"time"

	"github.com/pharos-lb/pharos/proxy/l7/engine/secure"
	"github.com/pharos-lb/pharos/proxy/l7/http1"
	"github.com/pharos-lb/pharos/proxy/l7/http2"
	"github.com/pharos-lb/pharos/proxy/pool"
)

// This file is what becomes of an exchange whose server fails it: whether the
// request is sent again, and where to.

const (
	// maxAgain bounds what is remembered of a request's body, for a server of
	// HTTP/2 that did nothing with it.
	maxAgain = 64 << 10
	// refusalsHere is how often one request is sent to the same server that
	// does nothing with it, and maxRefusals how often at all. A server that goes
	// may take new connections until it is gone, and the requests of many
	// clients are on each of them.
	refusalsHere, maxRefusals = 3, 8
)

// remember keeps a piece of the body that is being sent.
func (x *exchange) remember(b []byte, trailer []http1.Field) {
	if x.forgot || len(x.again)+len(b) > maxAgain {
		x.forgot = true
		x.again = reclaim(x.again)
		return
	}
	x.again = append(x.again, b...)
	x.late = cloneFields(x.late[:0], trailer)
}

func cloneFields(dst, fields []http1.Field) []http1.Field {
	for _, f := range fields {
		dst = append(dst, http1.Field{Name: bytes.Clone(f.Name), Value: bytes.Clone(f.Value), Kind: f.Kind})
	}
	return dst
}

// failureOf is why a connection failed, open or on its way.
func failureOf(err error, open bool) reason {
	var protocol *http2.Error
	why, byTLS := secure.ReasonOf(err)
	switch {
	case err == errSilent:
		return serverTimeout
	case err == errTimeout, byTLS && why == secure.TimedOut:
		return connectTimeout
	case byTLS && why == secure.BadCertificate:
		return tlsCertificate
	case byTLS && why == secure.PeerRefused:
		return tlsAlert
	case byTLS:
		return tlsFailed
	case errors.As(err, &protocol):
		return serverMalformed
	case open:
		return serverBroke
	}
	return connectFailed
}

// statusOf is what a failure of a server's is answered with.
func statusOf(why reason) int {
	switch why {
	case connectTimeout, serverTimeout:
		return 504
	case serverRefused:
		return 503
	}
	return 502
}

// upstreamFailed: the connection to the server, u, could not be made, or
// broke. It was dropped already.
func (x *exchange) upstreamFailed(u upstream, err error) {
	x.up = nil
	why := failureOf(err, u.open())
	x.outcome = pool.Broken
	switch {
	case why == connectTimeout, why == serverTimeout:
		x.outcome = pool.TimedOut
	case !u.open(), why == tlsAlert:
		x.outcome = pool.ConnectFailed
	}
	if !x.active {
		return
	}
	if why == serverMalformed || why == tlsAlert {
		x.logFailure("a server broke the protocol", err)
	}
	switch {
	case x.tunnel:
		x.fail(502, serverBroke)
	case x.besides() && (u.open() || why != connectFailed && why != connectTimeout):
		x.refuseSwitch()
	case !u.open():
		x.unmade = why
		x.logFailure("connecting to a server failed", err)
		x.tryNext() // nothing was sent
	case x.responded || u.heard() || !x.replayable:
		x.fail(statusOf(why), why)
	case u.kept() && !x.retried:
		// A kept connection that the server closed as the request was on its
		// way (RFC 9112 section 9.3.1): a new one tells how the server is.
		x.retried = true
		x.reach(true)
	case !x.elsewhere && x.pool.MaySendAgain(x.w.loop.Now()):
		// It took the connection and broke it without a byte: it is dying.
		// Another one may answer; one more try, not a walk through the pool.
		x.elsewhere = true
		x.unmade = why
		x.tryNext()
	default:
		x.fail(statusOf(why), why)
	}
	x.goOn()
}

// besides reports whether the request goes by HTTP/1.1 to servers that speak
// HTTP/2. If they don't speak the other one as well, this is not their
// failure: clients could else take them out by asking.
func (x *exchange) besides() bool { return x.protocol != nil && x.terms.HTTP2 && !x.responded }

func (x *exchange) refuseSwitch() {
	x.outcome = pool.Cancelled
	x.fail(502, upgradeRefused)
}

// upstreamRefused: the server did nothing with the request, and says so (RFC
// 9113 section 8.7). It may be sent again, whatever it is.
func (x *exchange) upstreamRefused() {
	x.up = nil
	x.outcome = pool.Cancelled
	x.refusals++
	switch {
	case !x.active:
		return
	case x.responded || x.forgot:
		x.fail(503, serverRefused)
	case x.refusals < refusalsHere, x.refusals < maxRefusals && len(x.pool.Members()) == 1:
		x.reach(false) // the connection that it was on takes no more
	case x.refusals == refusalsHere:
		x.outcome = pool.Broken
		x.unmade = serverRefused
		x.tryNext()
	default:
		x.outcome = pool.Broken
		x.fail(503, serverRefused)
	}
	x.goOn()
}

// malformed: the server's response cannot be understood.
func (x *exchange) malformed(err error) {
	if x.besides() {
		x.refuseSwitch()
		return
	}
	x.logFailure("a server's response is malformed", err)
	x.outcome = pool.Broken
	x.fail(502, serverMalformed)
}

func (x *exchange) logFailure(what string, err error) {
	if muted, log := x.server.LogFailure(time.Now()); log {
		x.w.log.Warn(what, "listener", x.l.Name, "server", x.server.Name, "address", x.server.Address, "reason", failureOf(err, x.sent > 0).String(), "error", err, "not_logged", muted)
	}
}
