package tls

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pharos-lb/pharos/proxy/policy"
)

// minRSA is the shortest RSA key that is served, in bits: what the CA/Browser
// Forum's baseline requirements (section 6.1.5) and current clients accept.
const minRSA = 2048

// entry is a certificate as it is served. It is immutable.
type entry struct {
	name  string
	sum   [sha256.Size]byte // of what it was parsed from
	plain tls.Certificate

	// stapled is plain with an OCSP response, which is served within
	// [stapleFrom, stapleUntil); nil: there is none to staple.
	stapled                 *tls.Certificate
	stapleFrom, stapleUntil time.Time

	rank     int      // among certificates for one name: the lowest is preferred
	names    []string // lower-case; those of wildcards begin with "*."
	notAfter time.Time
	warnings []string // those that do not depend on time
}

// at is the certificate to serve at a time.
func (e *entry) at(now time.Time) *tls.Certificate {
	if e.stapled != nil && !now.Before(e.stapleFrom) && now.Before(e.stapleUntil) {
		return e.stapled
	}
	return &e.plain
}

// Validate reports every fault of the certificate, each as a *policy.Fault. What
// only deserves a warning is told by [Store.Load].
func (c Certificate) Validate() error {
	_, err := parse(c)
	return err
}

func (c Certificate) sum() (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, part := range [][]byte{[]byte(c.Name), c.Chain, c.Key, c.OCSP} {
		_, _ = fmt.Fprintf(h, "%d:", len(part))
		h.Write(part)
	}
	h.Sum(sum[:0])
	return sum
}

// parse makes an entry, without a staple.
func parse(c Certificate) (*entry, error) {
	var f policy.Faults
	if c.Name == "" {
		f.Add("name", "is empty")
	}
	e := &entry{name: c.Name, sum: c.sum()}
	chain, err := parseChain(c.Chain)
	if err != nil {
		f.Add("chain", "%v", err)
	}
	key, err := parseKey(c.Key)
	if err != nil {
		f.Add("key", "%v", err)
	}
	if len(chain) > 0 {
		if e.rank, err = rank(chain[0]); err != nil {
			f.Add("chain", "%v", err)
		}
		if key != nil && !matches(chain[0].PublicKey, key.Public()) {
			f.Add("key", "is not the key of the chain's first certificate (%s)", describe(chain[0]))
		}
	}
	if err := f.Err(); err != nil {
		return nil, err
	}
	e.plain = tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	e.notAfter = chain[0].NotAfter
	for _, cert := range chain {
		e.plain.Certificate = append(e.plain.Certificate, cert.Raw)
		if cert.NotAfter.Before(e.notAfter) {
			e.notAfter = cert.NotAfter
		}
	}
	e.names, e.warnings = servedNames(chain[0])
	e.warnings = append(e.warnings, weaknesses(chain)...)
	return e, nil
}

// parseChain parses the certificates, and checks that each was issued by the
// next one, as TLS 1.2 requires (RFC 5246 section 7.4.2) and clients expect.
func parseChain(chainPEM []byte) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for rest := chainPEM; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d does not parse: %w", len(chain)+1, err)
		}
		chain = append(chain, cert)
	}
	if len(chain) == 0 {
		return nil, errors.New("has no PEM block of a certificate")
	}
	for i, cert := range chain[:len(chain)-1] {
		if issued(cert, chain[i+1]) {
			continue
		}
		for j, other := range chain {
			if j != i && issued(cert, other) {
				return nil, fmt.Errorf("is out of order: certificate %d (%s) was issued by certificate %d (%s), which must come next", i+1, describe(cert), j+1, describe(other))
			}
		}
		return nil, fmt.Errorf("is broken: certificate %d (%s) was not issued by the next one (%s)", i+1, describe(cert), describe(chain[i+1]))
	}
	return chain, nil
}

// issued reports whether issuer's key signed cert.
func issued(cert, issuer *x509.Certificate) bool {
	if !bytes.Equal(cert.RawIssuer, issuer.RawSubject) {
		return false
	}
	err := cert.CheckSignatureFrom(issuer)
	// Not checked, since it proves nothing; the name has to do.
	var insecure x509.InsecureAlgorithmError
	return err == nil || errors.As(err, &insecure)
}

func describe(cert *x509.Certificate) string {
	if s := cert.Subject.String(); s != "" {
		return s
	}
	if len(cert.DNSNames) > 0 {
		return cert.DNSNames[0]
	}
	return fmt.Sprintf("serial %x", cert.SerialNumber)
}

func parseKey(keyPEM []byte) (crypto.Signer, error) {
	for rest := keyPEM; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, errors.New("has no PEM block of a private key")
		}
		var key any
		var err error
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			if block.Headers["DEK-Info"] != "" {
				return nil, errors.New("is encrypted: give it without a passphrase")
			}
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			if block.Headers["DEK-Info"] != "" {
				return nil, errors.New("is encrypted: give it without a passphrase")
			}
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "ENCRYPTED PRIVATE KEY":
			return nil, errors.New("is encrypted: give it without a passphrase")
		default:
			continue // EC PARAMETERS, say
		}
		if err != nil {
			return nil, fmt.Errorf("does not parse: %w", err)
		}
		signer, ok := key.(crypto.Signer)
		if !ok {
			return nil, fmt.Errorf("is a %T, which cannot sign", key)
		}
		return signer, nil
	}
}

func matches(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// rank orders certificates for one name: ECDSA first, whose signatures cost a
// tenth of RSA's; RSA last, which every client can verify.
func rank(leaf *x509.Certificate) (int, error) {
	switch key := leaf.PublicKey.(type) {
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P256(), elliptic.P384(), elliptic.P521():
			return 0, nil
		}
		return 0, fmt.Errorf("the first certificate has an ECDSA key on %s, which TLS does not use", key.Curve.Params().Name)
	case ed25519.PublicKey:
		return 1, nil
	case *rsa.PublicKey:
		if n := key.N.BitLen(); n < minRSA {
			return 2, fmt.Errorf("the first certificate has an RSA key of %d bits, and at least %d are needed", n, minRSA)
		}
		return 2, nil
	default:
		return 0, fmt.Errorf("the first certificate has a key of type %T, which TLS does not use", key)
	}
}

// servedNames are the names that clients will accept the certificate for.
func servedNames(leaf *x509.Certificate) (names, warnings []string) {
	for _, name := range leaf.DNSNames {
		host := strings.TrimPrefix(name, "*.")
		if reason := notHostname(host); reason != "" {
			warnings = append(warnings, fmt.Sprintf("the name %q is not served: it %s", name, reason))
			continue
		}
		if name = strings.ToLower(name); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(leaf.DNSNames) == 0 && len(leaf.IPAddresses) == 0 {
		warnings = append(warnings, "has no subject alternative name: clients will not accept it (RFC 9525 section 6.3)")
	}
	return names, warnings
}

var mustStaple = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24} // RFC 7633

// weaknesses are properties of a chain that some clients refuse.
func weaknesses(chain []*x509.Certificate) (warnings []string) {
	leaf := chain[0]
	for i, cert := range chain {
		// Nobody verifies a root's signature of itself.
		root := i > 0 && bytes.Equal(cert.RawIssuer, cert.RawSubject)
		switch cert.SignatureAlgorithm {
		case x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.DSAWithSHA1, x509.MD5WithRSA, x509.MD2WithRSA:
			if !root {
				warnings = append(warnings, fmt.Sprintf("certificate %d of the chain (%s) is signed with %v, which clients refuse", i+1, describe(cert), cert.SignatureAlgorithm))
			}
		}
	}
	if len(leaf.ExtKeyUsage) > 0 && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth) && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny) {
		warnings = append(warnings, "is not meant for servers (extended key usage): clients will not accept it")
	}
	return warnings
}

// due are the warnings that depend on time.
func (e *entry) due(now time.Time) (warnings []string) {
	for i, raw := range e.plain.Certificate {
		cert := e.plain.Leaf
		if i > 0 {
			var err error
			if cert, err = x509.ParseCertificate(raw); err != nil {
				continue // parsed before
			}
		}
		switch {
		case now.After(cert.NotAfter):
			warnings = append(warnings, fmt.Sprintf("certificate %d of the chain (%s) has expired on %s", i+1, describe(cert), cert.NotAfter.UTC().Format(time.RFC3339)))
		case now.Before(cert.NotBefore):
			warnings = append(warnings, fmt.Sprintf("certificate %d of the chain (%s) is not valid before %s", i+1, describe(cert), cert.NotBefore.UTC().Format(time.RFC3339)))
		}
	}
	if e.stapled == nil {
		for _, extension := range e.plain.Leaf.Extensions {
			if extension.Id.Equal(mustStaple) {
				warnings = append(warnings, "requires a stapled OCSP response (RFC 7633), and there is none: some clients will refuse it")
			}
		}
	}
	return warnings
}
