package registry

import (
	"fmt"
	"mime"
	"net/url"
	"slices"
	"strings"
)

// The longest that the parts of a request may be in a configuration, in bytes.
const (
	maxPath  = 1024
	maxToken = 256
	maxValue = 4096
)

// notToken says why a string is no token (RFC 9110 5.6.2), or "".
func notToken(s string) string {
	if s == "" {
		return "must have a character"
	}
	if len(s) > maxToken {
		return fmt.Sprintf("has %d bytes, at most %d are allowed", len(s), maxToken)
	}
	for _, r := range s {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("!#$%&'*+-.^_`|~", r):
		default:
			return fmt.Sprintf("%q must not be in it (RFC 9110 5.6.2)", r)
		}
	}
	return ""
}

// notHeader says why a header field cannot be set, added or removed, or "". The
// format says in what.
func notHeader(format, s string) string {
	if reason := notToken(s); reason != "" {
		return reason
	}
	switch strings.ToLower(s) {
	case "connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "http2-settings":
		return "which belongs to one connection: the proxy sets it itself"
	case "host":
		if format != "response_header" {
			return "write host for it"
		}
	case "content-type":
		if format == "response_header" {
			return "write content_type for it"
		}
	}
	return ""
}

// notHeaderValue says why a string cannot be the value of a header field (RFC
// 9110 5.5), or "". It does not repeat the value: it may be a password.
func notHeaderValue(s string) string {
	switch {
	case len(s) > maxValue:
		return fmt.Sprintf("has %d bytes, at most %d are allowed", len(s), maxValue)
	case strings.Trim(s, " \t") != s:
		return "must not begin or end with white space"
	case strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }):
		return "must not have control characters"
	}
	return ""
}

// notMethod says why no request that reaches a route has this method, or "".
func notMethod(s string) string {
	if reason := notToken(s); reason != "" {
		return reason
	}
	switch known := strings.ToUpper(s); {
	case s == "CONNECT" || s == "TRACE":
		return "which the proxy refuses"
	case s != known && slices.Contains([]string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"}, known):
		return "must be " + known + ": methods are case-sensitive"
	}
	return ""
}

// notMediaType says why a string cannot be the value of Content-Type, or "".
func notMediaType(s string) string {
	if reason := notHeaderValue(s); reason != "" {
		return reason
	}
	if _, _, err := mime.ParseMediaType(s); err != nil || !strings.Contains(s, "/") {
		return "must be a media type such as text/html; charset=utf-8"
	}
	return ""
}

// notRequestPath says why a string cannot be the path of an HTTP request
// (origin-form, RFC 9112 3.2.1), or "".
func notRequestPath(s string) string {
	if len(s) > maxPath {
		return fmt.Sprintf("has %d bytes, at most %d are allowed", len(s), maxPath)
	}
	if s == "" || s[0] != '/' {
		return "must begin with /"
	}
	for i := range len(s) {
		if b := s[i]; b <= ' ' || b >= 0x7f || b == '#' {
			return fmt.Sprintf("must not have the character %q: percent-encode it", b)
		}
	}
	return ""
}

// notRoutePath says why no request has this path, or "".
func notRoutePath(s string) string {
	if reason := notRequestPath(s); reason != "" {
		return reason
	}
	if strings.Contains(s, "?") {
		return "must not have a ?: write query for parameters"
	}
	if reason := notDecoded(s); reason != "" {
		return reason
	}
	// What servers read in different ways, the proxy refuses to match.
	if decoded, _ := url.PathUnescape(s); strings.Contains(decoded, "//") || strings.ContainsAny(decoded, "\\;\x00") || strings.Contains(strings.ToUpper(s), "%2F") {
		return "must not have an empty segment, a semicolon, a backslash, an encoded slash or NUL: no request would match"
	}
	for segment := range strings.SplitSeq(s, "/") {
		if segment == "." || segment == ".." {
			return "must not have . or .. for a segment: clients and the proxy resolve them"
		}
	}
	return ""
}

// notDecoded says why a path cannot be percent-decoded (RFC 3986 2.1), or "".
func notDecoded(s string) string {
	if _, err := url.PathUnescape(s); err != nil {
		return "has a % without two hexadecimal digits: write %25 for the character"
	}
	return ""
}

// notRedirectPath says why a string cannot replace a path, or "".
func notRedirectPath(s string) string {
	if reason := notRequestPath(s); reason != "" {
		return reason
	}
	if strings.Contains(s, "?") {
		return "must not have a ?: the request's query stays"
	}
	return notDecoded(s)
}

// notCookiePath says why a string cannot be the Path attribute of a cookie (RFC
// 6265 4.1.1), or "".
func notCookiePath(s string) string {
	if reason := notRequestPath(s); reason != "" {
		return reason
	}
	if strings.Contains(s, ";") {
		return "must not have a ;"
	}
	return ""
}

// notGRPCService says why a string is no full name of a service, or "". The
// empty one stands for the server as a whole.
func notGRPCService(s string) string {
	if len(s) > maxToken {
		return fmt.Sprintf("has %d bytes, at most %d are allowed", len(s), maxToken)
	}
	for _, r := range s {
		if r <= ' ' || r >= 0x7f || r == '/' {
			return "must be the full name of a service such as my.package.Service"
		}
	}
	return ""
}
