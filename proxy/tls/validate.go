package tls

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pharos-lb/pharos/proxy/policy"
)

// Validate reports every fault that shows without looking at other parts of
// the configuration, each as a *policy.Fault. Whether the certificates exist is
// checked by [Store.Server].
func (c ServerConfig) Validate() error {
	var f policy.Faults
	if len(c.Certificates) == 0 {
		f.Add("certificates", "is empty: a TLS listener needs at least one")
	}
	for i, name := range c.Certificates {
		if slices.Index(c.Certificates, name) < i {
			f.Add(fmt.Sprintf("certificates[%d]", i), "%q is listed twice", name)
		}
	}
	switch c.MinVersion {
	case "", TLS12, TLS13:
	default:
		f.Add("min_version", "%q is not known: use %q or %q", c.MinVersion, TLS12, TLS13)
	}
	c.validateCiphers(&f)
	validateALPN(c.ALPN, &f)
	switch c.ClientAuth {
	case "", NoClientCert:
		if len(c.ClientCA) > 0 {
			f.Add("client_ca", "is used with client_auth %q or %q only", OptionalClientCrt, RequireClientCert)
		}
	case OptionalClientCrt, RequireClientCert:
		if len(c.ClientCA) == 0 {
			f.Add("client_ca", "is empty: client_auth %q needs authorities to verify certificates with", c.ClientAuth)
		} else if _, err := parsePool(c.ClientCA); err != nil {
			f.Add("client_ca", "%v", err)
		}
	default:
		f.Add("client_auth", "%q is not known: use %q, %q or %q", c.ClientAuth, NoClientCert, OptionalClientCrt, RequireClientCert)
	}
	return f.Err()
}

func (c ServerConfig) validateCiphers(f *policy.Faults) {
	if len(c.Ciphers) > 0 && c.MinVersion == TLS13 {
		f.Add("ciphers", "are of TLS 1.2, which min_version %q excludes: TLS 1.3 has no choice of ciphers", TLS13)
	}
	aead := false
	for i, name := range c.Ciphers {
		at := fmt.Sprintf("ciphers[%d]", i)
		if slices.Index(c.Ciphers, name) < i {
			f.Add(at, "%s is listed twice", name)
			continue
		}
		id, reason := cipherSuite(name)
		if reason != "" {
			f.Add(at, "%s", reason)
		}
		aead = aead || id != 0 && !strings.HasSuffix(name, "_CBC_SHA")
	}
	// RFC 9113, appendix A: clients end HTTP/2 connections over CBC.
	if len(c.Ciphers) > 0 && !aead && slices.Contains(c.ALPN, "h2") {
		f.Add("ciphers", "has none that HTTP/2 may use (RFC 9113, appendix A), and alpn offers h2: add an AEAD one, such as %s",
			tls.CipherSuiteName(tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256))
	}
}

// cipherSuite returns the number of a suite of TLS 1.2, or why its name is none
// that may be configured.
func cipherSuite(name string) (id uint16, reason string) {
	for _, s := range tls.CipherSuites() {
		if s.Name != name {
			continue
		}
		if !slices.Contains(s.SupportedVersions, tls.VersionTLS12) {
			return 0, name + " is of TLS 1.3, which has no choice of ciphers"
		}
		return s.ID, ""
	}
	for _, s := range tls.InsecureCipherSuites() {
		if s.Name == name {
			return 0, name + " is insecure"
		}
	}
	return 0, fmt.Sprintf("%q is not known: use an IANA name, such as %s", name,
		tls.CipherSuiteName(tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256))
}

// validateALPN holds protocol names to RFC 7301 section 3.1.
func validateALPN(protocols []string, f *policy.Faults) {
	for i, p := range protocols {
		at := fmt.Sprintf("alpn[%d]", i)
		switch {
		case p == "" || len(p) > 255:
			f.Add(at, "%q has %d bytes: 1 to 255 are allowed", p, len(p))
		case slices.Index(protocols, p) < i:
			f.Add(at, "%q is listed twice", p)
		}
	}
}

// Validate reports every fault that shows without looking at other parts of
// the configuration, each as a *policy.Fault. Whether the certificate exists is
// checked by [Store.Client].
func (c ClientConfig) Validate() error {
	var f policy.Faults
	if c.ServerName != "" {
		if reason := notHostname(c.ServerName); reason != "" {
			f.Add("server_name", "%q %s", c.ServerName, reason)
		}
	}
	if len(c.CA) > 0 {
		if c.InsecureSkipVerify {
			f.Add("ca", "has no use with insecure_skip_verify: leave one out")
		}
		if _, err := parsePool(c.CA); err != nil {
			f.Add("ca", "%v", err)
		}
	}
	validateALPN(c.ALPN, &f)
	return f.Err()
}

// notHostname says why a name cannot be sent as SNI (RFC 6066 section 3): ""
// if it can.
func notHostname(name string) string {
	if len(name) > 253 {
		return "is longer than 253 bytes"
	}
	for i := range len(name) {
		if name[i] > 0x7f {
			return "is not ASCII: write international names as A-labels (xn--...)"
		}
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 {
			return "has a label that is empty or longer than 63 bytes"
		}
		for i := range len(label) {
			switch b := label[i]; {
			case 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z', '0' <= b && b <= '9', b == '_':
			case b == '-' && i > 0 && i < len(label)-1:
			default:
				return fmt.Sprintf("has %q where a host name has none", b)
			}
		}
	}
	return ""
}

// ValidateTicketKeys reports every fault of a set of ticket keys. No keys at
// all is valid: no session is resumed then.
func ValidateTicketKeys(keys []TicketKey) error {
	var f policy.Faults
	encrypt := 0
	for i, k := range keys {
		at := fmt.Sprintf("ticket_keys[%d]", i)
		if k.ID == "" {
			f.Add(at+".id", "is empty")
		}
		for _, other := range keys[:i] {
			if other.ID == k.ID && k.ID != "" {
				f.Add(at+".id", "%q is used by another key", k.ID)
			}
			if other.Key == k.Key {
				f.Add(at+".key", "is that of %q as well", other.ID)
			}
		}
		if k.Key == [32]byte{} {
			f.Add(at+".key", "is all zeros")
		}
		if k.Encrypt {
			encrypt++
		}
	}
	if len(keys) > 0 && encrypt != 1 {
		f.Add("ticket_keys", "%d keys encrypt, want exactly 1", encrypt)
	}
	return f.Err()
}

// parsePool parses authorities.
func parsePool(pemBytes []byte) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	n := 0
	for rest := pemBytes; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("has a %s block: only certificates belong here", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", n+1, err)
		}
		if !cert.IsCA && cert.BasicConstraintsValid {
			return nil, fmt.Errorf("certificate %d (%s) is no authority's", n+1, cert.Subject)
		}
		pool.AddCert(cert)
		n++
	}
	if n == 0 {
		return nil, errors.New("has no PEM block of a certificate")
	}
	return pool, nil
}
