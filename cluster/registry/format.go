package registry

import (
	"crypto/tls"
	"maps"
	"slices"
	"strings"
)

// checkFormat says what is wrong with text of a named shape, or "".
func checkFormat(format, s string) string {
	is := func(reason string) string {
		switch {
		case reason == "":
			return ""
		case s == "":
			return "is empty"
		}
		return "is " + quote(s) + ", " + reason
	}
	switch format {
	case "":
		return ""
	case "name":
		if err := CheckName(s); err != nil {
			return err.Error()
		}
		return ""
	case "community":
		if _, ok := ParseCommunity(s); !ok {
			return "is " + quote(s) + ", must be ASN:value, each 0 to 65535 (RFC 1997), or " + anyOf(slices.Sorted(maps.Keys(wellKnown)))
		}
		return ""
	case "large_community":
		if _, ok := ParseLargeCommunity(s); !ok {
			return "is " + quote(s) + ", must be ASN:function:value, each 0 to 4294967295 (RFC 8092)"
		}
		return ""
	case "certificates":
		return notCertificates(s)
	case "chain":
		_, reason := chainOf(s)
		return reason
	case "token":
		return is(notToken(s))
	case "header", "request_header", "response_header":
		return is(notHeader(format, s))
	case "header_value":
		return notHeaderValue(s)
	case "method":
		return is(notMethod(s))
	case "media_type":
		return is(notMediaType(s))
	case "host":
		return is(notHost(s))
	case "host_pattern":
		return is(notHost(strings.TrimPrefix(s, "*.")))
	case "server_name":
		return is(notServerName(s))
	case "authority":
		return is(notAuthority(s))
	case "path":
		return is(notRequestPath(s))
	case "route_path":
		return is(notRoutePath(s))
	case "redirect_path":
		return is(notRedirectPath(s))
	case "cookie_path":
		return is(notCookiePath(s))
	case "grpc_service":
		return is(notGRPCService(s))
	case "cipher":
		return is(notCipher(s))
	case "interface":
		return is(notInterface(s))
	}
	panic("no format " + format)
}

// notCipher says why a string is no cipher suite that can be chosen, or "".
func notCipher(s string) string {
	named := func(c *tls.CipherSuite) bool { return c.Name == s }
	if i := slices.IndexFunc(tls.CipherSuites(), named); i >= 0 {
		if !slices.Contains(tls.CipherSuites()[i].SupportedVersions, tls.VersionTLS12) {
			return "a suite of TLS 1.3: those cannot be chosen"
		}
		return ""
	}
	if slices.ContainsFunc(tls.InsecureCipherSuites(), named) {
		return "which is not secure"
	}
	names := make([]string, 0, len(tls.CipherSuites()))
	for _, c := range tls.CipherSuites() {
		names = append(names, c.Name)
	}
	if near := nearest(s, names); near != "" {
		return "which is not known; did you mean " + near + "?"
	}
	return "which is not known: write IANA's name, such as TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
}
