package l7

import (
	"bytes"
	"net/netip"

	"github.com/pharos-lb/pharos/proxy/l7/http1"
	"github.com/pharos-lb/pharos/proxy/site"
)

// view is what policies see of a request: a [policy.Request]. A worker has one,
// and each request fills it anew.
type view struct {
	req         *http1.Request
	host        []byte // in hostBuf, or of its own if it is longer
	path, query []byte
	hasQuery    bool
	client      netip.Addr
	hostBuf     [256]byte // a name has at most 253 characters (RFC 1035 section 2.3.4)
}

// set makes v the view of req, sent by client.
func (v *view) set(req *http1.Request, client netip.Addr) {
	v.req, v.client = req, client
	v.path, v.query, v.hasQuery = bytes.Cut(req.Target, question)
	v.host = v.hostBuf[:0]
	for _, c := range withoutPort(req.Host) {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		v.host = append(v.host, c)
	}
}

var question = []byte("?")

// withoutPort cuts the port off an authority, and the dot that makes a name
// absolute.
func withoutPort(host []byte) []byte {
	if i := bytes.LastIndexByte(host, ':'); i >= 0 && bytes.IndexByte(host[i:], ']') < 0 {
		host = host[:i]
	}
	return bytes.TrimSuffix(host, []byte("."))
}

func (v *view) Method() []byte     { return v.req.Method }
func (v *view) Host() []byte       { return v.host }
func (v *view) Path() []byte       { return v.path }
func (v *view) Query() []byte      { return v.query }
func (v *view) Client() netip.Addr { return v.client }

func (v *view) Header(lower string) ([]byte, bool) {
	for i := range v.req.Fields {
		if f := &v.req.Fields[i]; http1.EqualFold(f.Name, lower) {
			return f.Value, true
		}
	}
	return nil, false
}

// Cookie finds the first cookie of a name (RFC 6265 section 4.2.1).
func (v *view) Cookie(name string) ([]byte, bool) {
	for i := range v.req.Fields {
		f := &v.req.Fields[i]
		if f.Kind != http1.Cookie {
			continue
		}
		for rest := f.Value; len(rest) > 0; {
			var pair []byte
			pair, rest, _ = bytes.Cut(rest, []byte(";"))
			key, value, found := bytes.Cut(bytes.TrimLeft(pair, " \t"), []byte("="))
			if found && string(key) == name {
				return bytes.TrimRight(value, " \t"), true
			}
		}
	}
	return nil, false
}

// clientOf says who sent a request that came from peer: peer itself, or, if
// it is trusted, the last address of X-Forwarded-For that is not: whoever
// stands before that one can write what they like.
func clientOf(req *http1.Request, peer netip.Addr, h *site.HTTP) netip.Addr {
	if len(h.Trusted) == 0 || !h.Trusts(peer) {
		return peer
	}
	client := peer
	for i := len(req.Fields) - 1; i >= 0; i-- {
		f := &req.Fields[i]
		if f.Kind != http1.ForwardedFor {
			continue
		}
		for rest := f.Value; len(rest) > 0; {
			last := rest
			if c := bytes.LastIndexByte(rest, ','); c >= 0 {
				last, rest = rest[c+1:], rest[:c]
			} else {
				rest = nil
			}
			a, ok := parseAddr(bytes.Trim(last, " \t"))
			if !ok {
				return client
			}
			if client = a; !h.Trusts(a) {
				return client
			}
		}
	}
	return client
}

// parseAddr reads an address as proxies write it: with or without a port,
// IPv6 with or without brackets.
func parseAddr(b []byte) (netip.Addr, bool) {
	if len(b) == 0 || len(b) > 64 {
		return netip.Addr{}, false
	}
	s := string(b)
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Unmap().WithZone(""), true
	}
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	if n := len(s); s[0] == '[' && s[n-1] == ']' {
		if a, err := netip.ParseAddr(s[1 : n-1]); err == nil {
			return a.Unmap().WithZone(""), true
		}
	}
	return netip.Addr{}, false
}
