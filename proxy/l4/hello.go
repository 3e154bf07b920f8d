package l4

import (
	"github.com/pharos-lb/pharos/proxy/pool"
	"github.com/pharos-lb/pharos/proxy/sni"
)

// hello is what a client of TLS has said before its server was known.
type hello struct {
	route func(name string) *pool.Pool
	said  []byte
}

// unrecognized is the alert of a client that asks for a name nobody takes:
// fatal, unrecognized_name (RFC 6066 section 3; record and alert as in RFC
// 8446 sections 5.1 and 6).
var unrecognized = []byte{21, 3, 3, 0, 2, 2, 112}

// listen reads on for the server's name, and finds the pool.
func (r *relay) listen(b []byte) {
	h := r.hello
	h.said = append(h.said, b...)
	name, state := sni.Parse(h.said)
	switch state {
	case sni.More:
		return
	case sni.NotTLS:
		r.cut()
		return
	}
	p := h.route(name)
	if p == nil {
		r.client.conn.Send(unrecognized)
		r.client.conn.Close()
		r.end(false)
		return
	}
	r.client.held = true
	r.client.conn.Pause()
	r.choose(p)
}
