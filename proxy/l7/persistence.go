package l7

import (
	"time"

	"github.com/pharos-lb/pharos/proxy/l7/http1"
	"github.com/pharos-lb/pharos/proxy/policy/sticky"
	"github.com/pharos-lb/pharos/proxy/pool"
	"github.com/pharos-lb/pharos/proxy/site"
)

// bond is what binds a request to a server: the cookie of its pool. Package
// sticky says what the cookie is.
type bond struct {
	jar *sticky.Jar // nil: the pool does not keep sessions
	// server is where the client's session is; nil: it has none, or that
	// server does not take its work any more.
	server *pool.Server
	right  bool      // the client's cookie says just that, and needs no renewal
	first  time.Time // when the session began; zero: it begins
	away   bool      // the server is at its limit: the request goes elsewhere, the session stays
	theirs bool      // the server has set the cookie itself, and may

	goes     bool // a session goes on: the client has a cookie of it
	unusable bool // it has a cookie that is of no use
}

// bind reads the cookie of the request in view.
func (x *exchange) bind(target *pool.Pool) {
	x.bond = bond{jar: target.Jar()}
	b := &x.bond
	if b.jar == nil {
		return
	}
	d := b.jar.Parse(&x.w.view, x.w.wall(), &x.w.sticky)
	if d.Verdict != sticky.Valid {
		b.unusable = d.Verdict != sticky.Absent
		return
	}
	b.first, b.goes = d.First, true
	if b.server = target.Persisted(d.Server); b.server != nil {
		b.right = d.Stays(b.server.Name)
	}
}

// boundTarget returns the one of a rule's targets that has the client's session,
// nil if none does: weights are for new sessions.
func (x *exchange) boundTarget(r *site.Rule) *pool.Pool {
	for _, target := range r.Targets {
		if x.bind(target); x.bond.server != nil {
			return target
		}
	}
	return nil
}

// home is the server to begin with, nil for whose turn it is. While the request
// waited, its server may have left.
func (x *exchange) home() *pool.Server {
	b := &x.bond
	if b.server != nil && x.waited > 0 {
		b.server = x.pool.Persisted([]byte(b.server.Name))
	}
	return b.server
}

// passed: a server did not take the request.
func (b *bond) passed(server *pool.Server) {
	if server == b.server {
		b.away = server.Full()
	}
}

// replaces reports whether a Set-Cookie field of the server's is left out,
// since the cookie is the proxy's.
func (b *bond) replaces(setCookie []byte) bool {
	if b.jar == nil || !b.jar.Sets(setCookie) {
		return false
	}
	b.theirs = b.jar.Preserves()
	return !b.theirs
}

// appendCookie appends what binds the client to the server that has answered, if
// it is not bound already.
func (x *exchange) appendCookie(out []http1.Field) []http1.Field {
	b, w := &x.bond, x.w
	if b.jar == nil || b.theirs || b.away || b.right && x.server == b.server {
		return out
	}
	text, err := b.jar.Append(w.cookieText[:0], &w.sticky, x.server.Name, b.first, w.wall())
	if err != nil {
		return out // the configuration has no such names
	}
	w.cookieText = text
	switch n := &x.pool.Sessions; {
	case !b.goes:
		n.Begun.Add(1)
		if b.unusable {
			n.Unusable.Add(1)
		}
	case x.server != b.server:
		n.Moved.Add(1)
	}
	return append(out,
		http1.Field{Name: nameSetCookie, Value: text, Kind: http1.SetCookie},
		http1.Field{Name: nameProtect, Value: protect})
}

var (
	nameSetCookie = []byte("Set-Cookie")
	nameProtect   = []byte(sticky.ProtectName)
	protect       = []byte(sticky.ProtectValue)
)

// appendCookies appends a Cookie field without the jar's own, and nothing if that
// was all.
func appendCookies(dst []byte, f *http1.Field, jar *sticky.Jar) []byte {
	begin := len(dst)
	dst = append(append(dst, f.Name...), ':', ' ')
	value := len(dst)
	if dst, _ = jar.AppendWithout(dst, f.Value); len(dst) == value {
		return dst[:begin]
	}
	return append(dst, '\r', '\n')
}
