package registry

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// notHost says why a string is no host name or IPv4 address, or "". Names are
// in lower case and of A-labels (RFC 5890 2.3.2.1), as they are compared.
func notHost(s string) string {
	switch {
	case s == "":
		return "must have a label"
	case len(s) > 253:
		return fmt.Sprintf("has %d characters, at most 253 are allowed", len(s))
	case strings.HasSuffix(s, "."):
		return "must be without the dot at the end"
	case strings.Contains(s, "*"):
		return "where * may stand for the whole first label only, as in *.example.com"
	case strings.Contains(s, ":"):
		return "must be without a port"
	case strings.Contains(s, "/"):
		return "must be a host name alone"
	}
	for label := range strings.SplitSeq(s, ".") {
		if reason := notLabel(label); reason != "" {
			return reason
		}
	}
	return ""
}

// notLabel says why a string is no label of a host name (RFC 1123 2.1), or "".
func notLabel(s string) string {
	switch {
	case s == "":
		return "which has an empty label"
	case len(s) > 63:
		return fmt.Sprintf("which has a label of %d characters, at most 63 are allowed", len(s))
	case s[0] == '-' || s[len(s)-1] == '-':
		return "which has a label with a hyphen at one end"
	}
	for _, r := range s {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-':
		case r >= 'A' && r <= 'Z':
			return "must be in lower case"
		case r > 0x7f:
			return "must be in its ASCII form, which begins with xn--"
		default:
			return fmt.Sprintf("%q must not be in it", r)
		}
	}
	return ""
}

// notServerName says why no client asks for this by SNI (RFC 6066 3), or "".
func notServerName(s string) string {
	if reason := notHost(strings.TrimPrefix(s, "*.")); reason != "" {
		return reason
	}
	if _, err := netip.ParseAddr(s); err == nil {
		return "an address: clients name hosts only (RFC 6066 3)"
	}
	return ""
}

// notAuthority says why a string cannot be the value of Host: a host or address,
// with or without a port (RFC 9110 7.2).
func notAuthority(s string) string {
	host := s
	if i := strings.LastIndexByte(s, ':'); i >= 0 && !strings.HasSuffix(s, "]") {
		port, err := strconv.ParseUint(s[i+1:], 10, 16)
		if err != nil || port == 0 || strconv.FormatUint(port, 10) != s[i+1:] {
			return "whose port must be 1 to 65535"
		}
		host = s[:i]
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		if a, err := netip.ParseAddr(inner); !ok || err != nil || !a.Is6() || a.Zone() != "" {
			return "must be a host name or address, with or without a port"
		}
		return ""
	}
	return notHost(host)
}
