package l7

import (
	"net/netip"
	"strconv"

	"github.com/pharos-lb/pharos/proxy/l7/http1"
	"github.com/pharos-lb/pharos/proxy/policy/sticky"
	"github.com/pharos-lb/pharos/proxy/site"
)

// passage is how a request's head changes on its way to a server.
type passage struct {
	http    *site.HTTP
	rewrite *site.Rewrite // nil: none
	jar     *sticky.Jar   // whose cookie the server does not get; nil: none
	peer    netip.Addr    // the other end of the client's connection
	client  netip.Addr    // who that speaks for
	// protocol is what the client asks to switch to; nil: nothing that is
	// passed on.
	protocol []byte
}

// appendRequestHead appends the head of the request in view as it goes to a
// server (RFC 9110 section 7.6): fields of this hop are left out, the framing
// is written anew, and the client is named.
//
// X-Forwarded-For is continued whoever sent it: its last part is always what
// this proxy saw. The other forwarding fields are believed of trusted sources
// alone, and replaced otherwise.
func appendRequestHead(dst []byte, v *view, p *passage) []byte {
	req, h := v.req, p.http
	dst = append(dst, req.Method...)
	dst = append(dst, ' ')
	host := req.Host
	var edits *site.Edits
	if r := p.rewrite; r != nil {
		dst = r.AppendTarget(dst, v.path, v.query, v.hasQuery)
		if r.Host != "" {
			host = []byte(r.Host)
		}
		if !r.Request.Empty() {
			edits = &r.Request
		}
	} else {
		dst = append(dst, req.Target...)
	}
	dst = append(dst, " HTTP/1.1\r\nHost: "...)
	dst = append(dst, host...)
	dst = append(dst, '\r', '\n')
	trusted := len(h.Trusted) > 0 && h.Trusts(p.peer)
	forwardedFor, forwarded, proto, forHost := false, false, false, false
	for i := range req.Fields {
		f := &req.Fields[i]
		pass := false
		switch f.Kind {
		case http1.Other, http1.Cookie, http1.SetCookie, http1.Date:
			pass = true
		case http1.Expect:
			pass = req.Continue
		case http1.Underscore:
			pass = h.Underscores == site.KeepUnderscores
		case http1.ForwardedFor:
			forwardedFor = true
		case http1.Forwarded:
			forwarded = trusted
			pass = trusted && !h.Forwarded
		case http1.ForwardedProto:
			pass = trusted
			proto = proto || trusted
		case http1.ForwardedHost:
			pass = trusted
			forHost = forHost || trusted
		}
		if pass && (edits == nil || !edits.Drops(f.Name)) {
			if p.jar != nil && f.Kind == http1.Cookie {
				dst = appendCookies(dst, f, p.jar)
				continue
			}
			dst = http1.AppendField(dst, f.Name, f.Value)
		}
	}
	dst = append(dst, "X-Forwarded-For: "...)
	if forwardedFor {
		dst = appendList(dst, req, http1.ForwardedFor)
	}
	dst = p.peer.AppendTo(dst)
	dst = append(dst, "\r\nX-Real-IP: "...)
	dst = p.client.AppendTo(dst)
	switch {
	case proto:
		dst = append(dst, '\r', '\n')
	case h.Secure:
		dst = append(dst, "\r\nX-Forwarded-Proto: https\r\n"...)
	default:
		dst = append(dst, "\r\nX-Forwarded-Proto: http\r\n"...)
	}
	if len(req.Host) > 0 && !forHost {
		dst = append(dst, "X-Forwarded-Host: "...)
		dst = append(dst, req.Host...)
		dst = append(dst, '\r', '\n')
	}
	if h.Forwarded {
		dst = appendForwarded(dst, req, p, forwarded)
	}
	if h.Via != "" {
		dst = append(dst, "Via: "...)
		dst = append(appendVia(dst, h.Via, req.Minor), '\r', '\n')
	}
	if edits != nil {
		dst = edits.Append(dst)
	}
	switch {
	case req.Body == http1.Chunked:
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
	case req.HasLength():
		dst = append(dst, "Content-Length: "...)
		dst = strconv.AppendInt(dst, req.ContentLength, 10)
		dst = append(dst, '\r', '\n')
	}
	if p.protocol != nil {
		dst = append(dst, "Connection: Upgrade\r\nUpgrade: "...)
		dst = append(dst, p.protocol...)
		dst = append(dst, '\r', '\n')
	}
	return append(dst, '\r', '\n')
}

// appendList appends the values of all fields of a kind, each with a comma
// behind it.
func appendList(dst []byte, req *http1.Request, kind http1.Kind) []byte {
	for i := range req.Fields {
		if f := &req.Fields[i]; f.Kind == kind && len(f.Value) > 0 {
			dst = append(dst, f.Value...)
			dst = append(dst, ',', ' ')
		}
	}
	return dst
}

// appendForwarded appends the field of RFC 7239 section 4, and continues what
// a trusted source began.
func appendForwarded(dst []byte, req *http1.Request, p *passage, began bool) []byte {
	dst = append(dst, "Forwarded: "...)
	if began {
		dst = appendList(dst, req, http1.Forwarded)
	}
	if p.peer.Is6() {
		dst = append(dst, "for=\"["...)
		dst = p.peer.AppendTo(dst)
		dst = append(dst, "]\""...)
	} else {
		dst = append(dst, "for="...)
		dst = p.peer.AppendTo(dst)
	}
	if len(req.Host) > 0 {
		dst = append(dst, ";host=\""...) // a host's characters need no escape
		dst = append(dst, req.Host...)
		dst = append(dst, '"')
	}
	if p.http.Secure {
		return append(dst, ";proto=https\r\n"...)
	}
	return append(dst, ";proto=http\r\n"...)
}

// appendVia appends the value of Via for a message that came by HTTP/1.minor
// (RFC 9110 section 7.6.3).
func appendVia(dst []byte, pseudonym string, minor int) []byte {
	dst = append(dst, '1', '.', byte('0'+minor), ' ')
	return append(dst, pseudonym...)
}

// switchable reports whether a protocol that a client asks to switch to is
// passed on to the server: any but other versions of HTTP and TLS, which
// would hide from the proxy what comes after.
func switchable(req *http1.Request) bool {
	p := req.Upgrade
	if len(p) == 0 || len(p) > 32 || string(req.Method) != "GET" || req.Body != http1.NoBody {
		return false
	}
	for _, c := range p {
		if c <= ' ' || c == ',' || c >= 0x7f {
			return false
		}
	}
	return !http1.EqualFold(p, "h2c") && !(len(p) >= 4 && (http1.EqualFold(p[:4], "http") || http1.EqualFold(p[:4], "tls/")))
}
