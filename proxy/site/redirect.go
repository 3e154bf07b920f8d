package site

import (
	"strconv"

	"github.com/pharos-lb/pharos/proxy/policy"
)

// Redirect answers with another address of the same or another site. Parts
// that are empty are the request's.
type Redirect struct {
	Status int    // 301, 302, 303, 307 or 308
	Scheme string // http or https
	Host   string
	Port   uint16 // 0: none is named, which is the scheme's own
	Path   string // replaces the path, or the part that Prefix is
	Prefix string // the rule's path, if Path replaces that alone
}

// AppendLocation appends the value of Location (RFC 9110 section 10.2.2) for a
// request that came by TLS or not.
func (r *Redirect) AppendLocation(dst []byte, req policy.Request, secure bool) []byte {
	switch {
	case r.Scheme != "":
		dst = append(dst, r.Scheme...)
	case secure:
		dst = append(dst, "https"...)
	default:
		dst = append(dst, "http"...)
	}
	dst = append(dst, "://"...)
	if r.Host != "" {
		dst = append(dst, r.Host...)
	} else {
		dst = append(dst, req.Host()...)
	}
	if r.Port != 0 {
		dst = append(dst, ':')
		dst = strconv.AppendUint(dst, uint64(r.Port), 10)
	}
	path := req.Path()
	switch {
	case r.Path == "":
		dst = append(dst, path...)
	case r.Prefix != "":
		dst = appendReplaced(dst, r.Prefix, r.Path, path)
	default:
		dst = append(dst, r.Path...)
	}
	if q := req.Query(); len(q) > 0 {
		dst = append(dst, '?')
		dst = append(dst, q...)
	}
	return dst
}
