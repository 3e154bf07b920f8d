package l4

import (
	"time"

	"github.com/pharos-lb/pharos/proxy/pool"
	"github.com/pharos-lb/pharos/proxy/proxyproto"
	"github.com/pharos-lb/pharos/proxy/sni"
)

// This file is what a client says before there is a server: who it is, where it
// stands behind a proxy, and, with TLS, whom it wants.

// await begins to wait for the client's opening words.
func (r *relay) await(p phase) {
	r.phase = p
	r.crew.loop.Arm(&r.timer, openingTimeout)
}

// listen takes what the client says before its server is known.
func (r *relay) listen(b []byte) {
	r.said = append(r.said, b...)
	r.client.bytes += int64(len(b))
	if r.phase == awaitHeader {
		r.readHeader()
	} else {
		r.readHello()
	}
}

// readHeader looks for the PROXY header.
func (r *relay) readHeader() {
	h, n, err := proxyproto.Parse(r.said)
	if err == nil && h.Datagram {
		err = proxyproto.ErrFamily // this is no datagram
	}
	switch {
	case err != nil:
		r.notIntroduced(err)
		return
	case n == 0:
		return
	}
	if h.Source.IsValid() { // else it speaks for itself
		r.proxied = r.source.Addr()
		r.source, r.target = unmapped(h.Source), unmapped(h.Destination)
	}
	r.said = append([]byte(nil), r.said[n:]...)
	r.client.bytes = int64(len(r.said))
	r.introduced()
}

// warnEvery bounds how often a loop logs what any client can cause.
const warnEvery = time.Second

// notIntroduced refuses a client that did not begin as it has to.
func (r *relay) notIntroduced(err error) {
	r.l.Unintroduced.Add(1)
	if w, now := r.crew, r.crew.loop.Now(); w.warned == 0 || now-w.warned >= warnEvery {
		w.warned = now
		w.log.Warn("a connection did not begin with a PROXY protocol header as its source has to", "listener", r.l.Name, "source", r.client.conn.Peer(), "reason", err.Error())
	}
	r.cut(badIntroduction)
}

// errNoHeader: none came in time, or the client left before.
const errNoHeader proxyproto.Error = "no PROXY protocol header"

// introduced: it is known who the client is.
func (r *relay) introduced() {
	if c := r.site.Clients; c != nil {
		place, ok := c.Acquire(r.source.Addr())
		if !ok {
			r.cut(clientConnections)
			return
		}
		r.place, r.placed = place, true
		if ok, _ := c.Allow(c.AddressKey(r.source.Addr()), r.crew.loop.Now()); !ok {
			r.cut(clientRate)
			return
		}
	}
	if r.site.Stream.Names == nil {
		r.found(r.site.Pool)
		return
	}
	r.await(awaitHello)
	if len(r.said) > 0 {
		r.readHello()
	}
}

// unrecognized is the alert for a client that asks for a name nobody takes:
// fatal, unrecognized_name (RFC 6066 section 3; record and alert as in RFC
// 8446 sections 5.1 and 6).
var unrecognized = []byte{21, 3, 3, 0, 2, 2, 112}

// readHello looks for the server's name.
func (r *relay) readHello() {
	name, state := sni.Parse(r.said)
	switch state {
	case sni.More:
		return
	case sni.NotTLS:
		r.cut(noHello)
		return
	}
	r.name = name
	p := r.site.Stream.Names.Find(name)
	if p == nil {
		r.client.conn.Send(unrecognized)
		r.client.conn.Close()
		r.end(noRoute)
		return
	}
	r.found(p)
}

// found: it is known who takes the connection. Nothing more is taken from the
// client until a server has what was said.
func (r *relay) found(p *pool.Pool) {
	r.client.held = true
	r.client.conn.Pause()
	if p == nil { // the listener has just changed to something that needs none
		r.cut(noRoute)
		return
	}
	r.enter(p)
}
