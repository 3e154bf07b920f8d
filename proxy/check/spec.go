package check

import (
	"crypto/tls"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Spec is what an active check asks, and which answers pass.
type Spec struct {
	Kind Kind
	TLS  *tls.Config // nil: in clear. With ServerName set, that is sent and verified; else the certificate is not

	// Greeting is sent before all else, in clear: a PROXY header, say.
	Greeting string

	// HTTP only.
	Method  string        // default GET
	Path    string        // default /
	Host    string        // default: the server's address
	Headers [][2]string   // name and value
	Expect  []StatusRange // default 200 to 399
	Body    string        // RE2 that must match within the first 64 KiB; empty: any

	Service string // GRPC only: what is asked about; empty: the server as a whole
}

// Kind is the protocol of a check.
type Kind string

// The kinds. An empty Kind is TCP.
const (
	KindTCP  Kind = "tcp"
	KindHTTP Kind = "http"
	KindGRPC Kind = "grpc" // grpc.health.v1.Health/Check, over HTTP/2
)

// StatusRange is a range of HTTP statuses, both ends included.
type StatusRange struct{ From, To int }

// Validate hands every fault to fault: the path of the field, beginning at
// this Spec, and what is wrong with it.
func (s Spec) Validate(fault func(field, reason string)) {
	switch s.Kind {
	case "", KindTCP, KindHTTP, KindGRPC:
	default:
		fault("kind", fmt.Sprintf("%q is not known: use %q, %q or %q", s.Kind, KindTCP, KindHTTP, KindGRPC))
		return // what else may be set depends on it
	}
	if s.Kind == KindHTTP {
		s.validateHTTP(fault)
	} else {
		s.refuseHTTP(fault)
	}
	if s.Service != "" && s.Kind != KindGRPC {
		fault("service", "is for grpc checks only")
	}
	if !utf8.ValidString(s.Service) || len(s.Service) > maxService {
		fault("service", fmt.Sprintf("is not UTF-8 of at most %d bytes", maxService))
	}
}

const maxService = 1000

func (s Spec) refuseHTTP(fault func(field, reason string)) {
	for _, f := range []struct {
		field string
		set   bool
	}{
		{"method", s.Method != ""},
		{"path", s.Path != ""},
		{"host", s.Host != "" && s.Kind != KindGRPC}, // the :authority of gRPC
		{"headers", len(s.Headers) > 0},
		{"expect", len(s.Expect) > 0},
		{"body", s.Body != ""},
	} {
		if f.set {
			fault(f.field, "is for http checks only")
		}
	}
	if s.Kind == KindGRPC && !printable(s.Host) {
		fault("host", fmt.Sprintf("%q has bytes that do not belong there", s.Host))
	}
}

func (s Spec) validateHTTP(fault func(field, reason string)) {
	switch {
	case s.Method == "CONNECT":
		fault("method", "CONNECT asks for a tunnel, not for an answer")
	case s.Method != "" && !isToken(s.Method):
		fault("method", fmt.Sprintf("%q is not a method", s.Method))
	}
	if s.Path != "" && !isPath(s.Path) {
		fault("path", fmt.Sprintf("%q is not a path: it begins with a slash, and has no spaces, controls, fragment, bytes over 127, or percent signs without two digits", s.Path))
	}
	if !printable(s.Host) {
		fault("host", fmt.Sprintf("%q has bytes that do not belong there", s.Host))
	}
	for i, h := range s.Headers {
		at := fmt.Sprintf("headers[%d]", i)
		switch name := strings.ToLower(h[0]); {
		case !isToken(h[0]):
			fault(at, fmt.Sprintf("%q is not a field name", h[0]))
		case name == "host":
			fault(at, "the host has a setting of its own")
		case name == "connection" || name == "content-length" || name == "transfer-encoding":
			fault(at, fmt.Sprintf("%s is the check's own to set", h[0]))
		case strings.ContainsFunc(h[1], func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }):
			fault(at, fmt.Sprintf("the value of %s has control characters", h[0]))
		}
	}
	for i, r := range s.Expect {
		if r.From < 200 || r.To > 599 || r.From > r.To {
			fault(fmt.Sprintf("expect[%d]", i), fmt.Sprintf("%d to %d is not a range of final HTTP statuses, 200 to 599", r.From, r.To))
		}
	}
	if s.Body == "" {
		return
	}
	if _, err := regexp.Compile(s.Body); err != nil {
		fault("body", err.Error())
	}
	if s.Method == "HEAD" {
		fault("body", "an answer to HEAD has none")
	}
}

// Equal reports whether two specs ask the same. TLS is compared by identity.
func (s Spec) Equal(o Spec) bool {
	return s.Kind == o.Kind && s.TLS == o.TLS && s.Greeting == o.Greeting && s.Method == o.Method && s.Path == o.Path && s.Host == o.Host &&
		slices.Equal(s.Headers, o.Headers) && slices.Equal(s.Expect, o.Expect) && s.Body == o.Body && s.Service == o.Service
}

// isToken is RFC 9110 section 5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte("\"(),/:;<=>?@[\\]{}", c) >= 0 {
			return false
		}
	}
	return s != ""
}

// isPath is the path and query of RFC 9112 section 3.2.1.
func isPath(s string) bool {
	_, err := url.ParseRequestURI(s)
	return err == nil && strings.HasPrefix(s, "/") && printable(s) && !strings.Contains(s, "#")
}

// printable is what may stand in a request target or a Host.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}
