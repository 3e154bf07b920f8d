package l7

import (
	"net/netip"
	"time"

	"github.com/pharos-lb/pharos/proxy/l7/engine"
	"github.com/pharos-lb/pharos/proxy/listener"
	"github.com/pharos-lb/pharos/proxy/proxyproto"
)

// introduction is a client connection from a source that must say whom it
// speaks for, by a header of the PROXY protocol, before anything else (TLS
// included). It is the connection's handler; once the header has come, it hands
// everything on to the one that is behind it.
type introduction struct {
	w     *worker
	l     *listener.Listener
	conn  engine.Conn
	next  engine.Handler // nil: the header is awaited
	timer engine.Timer
	in    []byte // what has come of the header, at most 16+proxyproto.MaxLength bytes
	since time.Duration
	index int // in w.introductions
	gone  bool
}

// introduce awaits the header of a connection.
func (w *worker) introduce(l *listener.Listener, conn engine.Conn) engine.Handler {
	i := &introduction{w: w, l: l, conn: conn, since: w.loop.Now(), index: len(w.introductions)}
	w.introductions = append(w.introductions, i)
	i.timer.Fire = func() { i.refuse(errNoHeader) }
	w.loop.Arm(&i.timer, l.Site().HTTP.Header)
	w.open.Add(1)
	l.Open.Add(1)
	return i
}

// errNoHeader: none came in time, or the client left before.
const errNoHeader proxyproto.Error = "no PROXY protocol header"

// introduced is a connection that speaks for somebody else.
type introduced struct {
	engine.Conn
	source, destination netip.AddrPort
}

// Peer is who the connection speaks for.
func (c *introduced) Peer() netip.AddrPort { return c.source }

// Local is what that one connected to.
func (c *introduced) Local() netip.AddrPort { return c.destination }

// Opened implements [engine.Handler]; it is not called.
func (i *introduction) Opened() {}

// Data implements [engine.Handler].
func (i *introduction) Data(b []byte) {
	switch {
	case i.next != nil:
		i.next.Data(b)
		return
	case i.gone:
		return
	}
	if len(i.in) > 0 {
		i.in = append(i.in, b...)
		b = i.in
	}
	h, n, err := proxyproto.Parse(b)
	if err == nil && h.Datagram {
		err = proxyproto.ErrFamily // this is no datagram
	}
	switch {
	case err != nil:
		i.refuse(err)
		return
	case n == 0:
		i.in = append(i.in[:0], b...)
		return
	}
	conn := i.conn
	if h.Source.IsValid() { // else it speaks for itself
		conn = &introduced{conn, unmapped(h.Source), unmapped(h.Destination)}
	}
	// Counted as open before this ceases to be, or a drain might see none.
	i.next = i.w.welcome(i.l, conn)
	i.forget()
	i.in = nil
	if n < len(b) {
		i.next.Data(b[n:])
	}
}

// Drained implements [engine.Handler].
func (i *introduction) Drained() {
	if i.next != nil {
		i.next.Drained()
	}
}

// EOF implements [engine.Handler].
func (i *introduction) EOF() {
	if i.next != nil {
		i.next.EOF()
		return
	}
	i.refuse(errNoHeader)
}

// Closed implements [engine.Handler].
func (i *introduction) Closed(err error) {
	if i.next != nil {
		i.next.Closed(err)
		return
	}
	i.refuse(errNoHeader)
}

// refuse closes a connection that did not begin as it has to. Nothing is
// answered: what the other end speaks is unknown.
func (i *introduction) refuse(why error) {
	if i.gone {
		return
	}
	i.l.Accepted.Add(1)
	i.l.Unintroduced.Add(1)
	if w, now := i.w, i.w.loop.Now(); w.warned == 0 || now-w.warned >= warnEvery {
		w.warned = now
		w.log.Warn("a connection did not begin with a PROXY protocol header as its source has to", "listener", i.l.Name, "source", i.conn.Peer(), "reason", why.Error())
	}
	i.close()
}

// warnEvery bounds how often a loop logs what any client can cause.
const warnEvery = time.Second

// close closes the connection, and forgets it.
func (i *introduction) close() {
	if !i.gone {
		i.conn.Close()
		i.forget()
	}
}

// forget takes the introduction out of the list: it is over.
func (i *introduction) forget() {
	w := i.w
	i.gone = true
	w.loop.Disarm(&i.timer)
	last := len(w.introductions) - 1
	w.introductions[i.index] = w.introductions[last]
	w.introductions[i.index].index = i.index
	w.introductions[last] = nil
	w.introductions = w.introductions[:last]
	w.open.Add(-1)
	i.l.Open.Add(-1)
}

// closeUnintroduced closes connections of listeners that are closing which have
// said nothing for at least that long.
func (w *worker) closeUnintroduced(after time.Duration) {
	for i := len(w.introductions) - 1; i >= 0; i-- {
		if in := w.introductions[i]; in.l.Closing() && w.loop.Now()-in.since >= after {
			in.close()
		}
	}
}
