package l7

import (
	"errors"
	"time"

	"github.com/pharos-lb/pharos/proxy/l7/engine"
	"github.com/pharos-lb/pharos/proxy/l7/http1"
	"github.com/pharos-lb/pharos/proxy/pool"
)

// serverConn is an HTTP/1.1 connection to a server: of one exchange, or idle.
type serverConn struct {
	w      *worker
	server *pool.Server
	terms  *pool.Terms
	conn   engine.Conn
	front  engine.Conn // of the client that it was made for
	x      *exchange   // nil while idle
	timer  engine.Timer
	in     []byte // the beginning of a head
	opened bool
	reused bool // it has carried an exchange before the present one
	gone   bool
	// negotiated: the server chose HTTP/1.1 where it might have had HTTP/2.
	negotiated bool
	since      time.Duration // idle since
	place      int           // in the idle list

	reading   bool // the head was read, body comes
	keep      bool // the server keeps the connection
	untilEOF  bool // the body ends with it
	serverEOF bool // a tunnel: the server has closed its side
	res       http1.Body
}

// dial begins a connection of HTTP/1.1 to x's server.
func (w *worker) dial(x *exchange) *serverConn {
	u := &serverConn{w: w, server: x.server, terms: x.terms, x: x, front: x.front, place: -1}
	u.timer.Fire = u.expired
	u.conn = w.connect(x, true, u)
	w.loop.Arm(&u.timer, x.terms.Connect)
	return u
}

// start sends a request's head.
func (u *serverConn) start(head []byte) {
	u.reading, u.keep, u.untilEOF, u.serverEOF = false, false, false, false
	u.conn.Send(head)
}

// body sends a piece of the request's body, and its end.
func (u *serverConn) body(b []byte, done bool, trailer []http1.Field) {
	if !u.x.chunked {
		u.conn.Send(b)
		return
	}
	out := http1.AppendChunk(u.w.scratch[:0], b)
	if done {
		out = http1.AppendLastChunk(out, trailer)
	}
	u.conn.Send(out)
	u.w.scratch = reclaimScratch(out)
}

func (u *serverConn) tunnel(b []byte) { u.conn.Send(b) }
func (u *serverConn) closeTunnel()    { u.conn.CloseWrite() }
func (u *serverConn) ended() bool     { return u.serverEOF }
func (u *serverConn) pending() int    { return u.conn.Pending() }
func (u *serverConn) resume()         { u.conn.Resume() }
func (u *serverConn) open() bool      { return u.opened }
func (u *serverConn) kept() bool      { return u.reused }

// heard reports whether any byte of a response has come.
func (u *serverConn) heard() bool { return len(u.in) > 0 || u.reading }

// Opened implements [engine.Handler].
func (u *serverConn) Opened() {
	u.opened = true
	u.w.loop.Disarm(&u.timer)
	if u.x != nil {
		u.x.opened()
	}
}

// Data implements [engine.Handler].
func (u *serverConn) Data(b []byte) {
	switch {
	case u.gone:
	case u.x == nil:
		// It speaks without being asked (a 408 before it closes, say): what
		// comes next could be taken for the answer to the next request.
		u.drop()
	default:
		u.x.touch()
		u.receive(b)
	}
}

// receive takes bytes of the response.
func (u *serverConn) receive(b []byte) {
	x := u.x
	if len(u.in) > 0 {
		u.in = append(u.in, b...)
		b = u.in
	}
	for !u.reading {
		n, fine := u.readHead(b)
		if !fine {
			return
		}
		if n == 0 {
			u.in = append(u.in[:0], b...)
			u.pushBack() // endless interim responses
			return
		}
		b = b[n:]
	}
	if x.tunnel {
		if len(b) > 0 {
			x.data(b)
		}
		u.in = u.in[:0]
		u.pushBack()
		return
	}
	for !u.res.Done() {
		data, n, err := u.res.Next(b)
		if err != nil {
			x.down.flush()
			x.malformed(err)
			return
		}
		b = b[n:]
		if len(data) > 0 {
			x.data(data)
		}
		if n == 0 {
			break
		}
	}
	u.in = u.in[:0]
	if !u.res.Done() {
		u.pushBack()
		return
	}
	u.complete(u.keep && len(b) == 0 && u.conn.Pending() == 0)
}

// readHead takes a head at the beginning of b, and returns its length; 0 when it
// is not complete. It reports false when the exchange has ended.
func (u *serverConn) readHead(b []byte) (n int, fine bool) {
	x, res := u.x, &u.w.response
	n, err := res.Parse(b, &u.w.responseLimits, x.isHead)
	switch {
	case err != nil:
		x.down.flush()
		x.malformed(err)
		return 0, false
	case n == 0:
	case res.Status == 101:
		u.reading = true
		if !x.switched(res) {
			x.down.flush()
			x.fail(502, upgradeRefused)
			return 0, false
		}
	case res.Status < 200:
		x.interim(res)
	default:
		u.reading, u.keep, u.untilEOF = true, res.KeepAlive, res.Body == http1.UntilEOF
		u.res.Reset(res.Body, res.ContentLength)
		x.head(res)
	}
	return n, true
}

// pushBack lets the client have what has come, and stops the server while it
// does not take it.
func (u *serverConn) pushBack() {
	u.x.down.flush()
	if u.x != nil && u.x.down.pending() > 0 {
		u.conn.Pause()
	}
}

// complete: the response has ended.
func (u *serverConn) complete(keep bool) {
	x := u.x
	x.down.end(u.res.Trailer())
	x.down.flush()
	u.res.Reset(http1.NoBody, 0)
	x.complete(keep)
}

// Drained implements [engine.Handler].
func (u *serverConn) Drained() {
	if u.x != nil && !u.gone {
		u.x.touch()
		u.x.down.more()
	}
}

// EOF implements [engine.Handler].
func (u *serverConn) EOF() {
	x := u.x
	switch {
	case u.gone:
	case x == nil:
		u.drop()
	case x.tunnel:
		u.serverEOF = true
		x.down.endTunnel()
	case u.untilEOF && u.reading:
		u.complete(false)
	default:
		u.drop()
		x.upstreamFailed(u, errEOF)
	}
}

var (
	errEOF     = errors.New("closed by the server")
	errTimeout = errors.New("timeout")
)

// Closed implements [engine.Handler].
func (u *serverConn) Closed(err error) {
	if u.gone {
		return
	}
	x := u.x
	u.drop()
	if x != nil {
		x.upstreamFailed(u, err)
	}
}

// expired: the connect took too long, or u was idle for long.
func (u *serverConn) expired() {
	if u.x == nil {
		u.drop()
		return
	}
	if !u.opened {
		u.conn.Abort()
		u.Closed(errTimeout)
	}
}

// finish implements upstream.
func (u *serverConn) finish(keep, whole bool) {
	keep = keep && u.terms == u.x.pool.Terms()
	u.x = nil
	switch {
	case !whole:
		u.abort()
	case keep:
		u.w.release(u)
	default:
		u.drop()
	}
}

// drop closes u, which carries nothing.
func (u *serverConn) drop() {
	if u.gone {
		return
	}
	if u.place >= 0 {
		u.unlist()
	}
	// The server may have left the configuration: don't remember it without
	// a connection. (takeIdle leaves an empty list, for release.)
	if list := u.w.idle[u.server]; list != nil && len(list.conns) == 0 {
		delete(u.w.idle, u.server)
	}
	u.gone = true
	u.x = nil
	if u.negotiated {
		u.w.muxesOf(u.server).ones--
		u.w.tidy(u.server)
	}
	u.w.loop.Disarm(&u.timer)
	u.conn.Close()
}

// abort resets u: what it carried was not finished.
func (u *serverConn) abort() {
	if !u.gone {
		u.conn.Abort()
		u.drop()
	}
}
