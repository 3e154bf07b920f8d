package registry

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// What is wrong with certificates and keys is said without a word of theirs,
// and without the text of errors that may have one.

// certificatesOf parses the certificates of a PEM text, and says what keeps it
// from being one, or "".
func certificatesOf(s string) ([]*x509.Certificate, string) {
	var all []*x509.Certificate
	rest := []byte(s)
	for len(bytes.TrimSpace(rest)) > 0 {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			if len(all) == 0 {
				return nil, "must be PEM, which begins with -----BEGIN CERTIFICATE-----"
			}
			return nil, fmt.Sprintf("has text behind certificate %d that is no PEM", len(all))
		}
		if strings.Contains(block.Type, "PRIVATE KEY") {
			return nil, "has a private key: put it into key, and take a new one if this was seen by others"
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Sprintf("has PEM that is no certificate behind certificate %d", len(all))
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Sprintf("certificate %d is no X.509 certificate", len(all)+1)
		}
		all = append(all, cert)
	}
	if len(all) == 0 {
		return nil, "must have at least one certificate"
	}
	return all, ""
}

// chainOf parses the chain of a server, of which each certificate is the issuer
// of the one before, as TLS 1.2 requires (RFC 5246 7.4.2). It says what keeps
// clients from taking it, or "".
func chainOf(s string) ([]*x509.Certificate, string) {
	chain, reason := certificatesOf(s)
	if reason != "" {
		return nil, reason
	}
	for i, cert := range chain[:len(chain)-1] {
		if !issued(cert, chain[i+1]) {
			return nil, fmt.Sprintf("certificate %d was not issued by number %d: the leaf comes first, then each one's issuer", i+1, i+2)
		}
	}
	return chain, notServing(chain[0])
}

// issued reports whether the key of issuer signed cert.
func issued(cert, issuer *x509.Certificate) bool {
	if !bytes.Equal(cert.RawIssuer, issuer.RawSubject) {
		return false
	}
	err := cert.CheckSignatureFrom(issuer)
	var insecure x509.InsecureAlgorithmError // with which the name has to do
	return err == nil || errors.As(err, &insecure)
}

// notServing says why TLS cannot use the key of a certificate, or "".
func notServing(leaf *x509.Certificate) string {
	switch key := leaf.PublicKey.(type) {
	case ed25519.PublicKey:
		return ""
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() && key.Curve != elliptic.P384() && key.Curve != elliptic.P521() {
			return "has a key on a curve that TLS does not use: take P-256, P-384 or P-521"
		}
		return ""
	case *rsa.PublicKey:
		if n := key.N.BitLen(); n < minRSA {
			return fmt.Sprintf("has an RSA key of %d bits, must be at least %d", n, minRSA)
		}
		return ""
	default:
		return "has a key of a kind that TLS does not use"
	}
}

const minRSA = 2048 // bits

func notCertificates(s string) string {
	_, reason := certificatesOf(s)
	return reason
}

// sealed reports whether a key is encrypted, and whether it has the shape.
func sealed(key Secret) (is, well bool) {
	text, is := strings.CutPrefix(string(key), SealedPrefix)
	if !is {
		return false, false
	}
	b, err := base64.StdEncoding.Strict().DecodeString(strings.TrimSpace(text))
	return true, err == nil && len(b) > 0
}

// keyOf parses a private key in clear, and says what keeps it from being one,
// or "".
func keyOf(s Secret) (crypto.Signer, string) {
	block, rest := pem.Decode([]byte(s))
	if block != nil && block.Type == "EC PARAMETERS" { // which openssl ecparam -genkey puts first
		block, rest = pem.Decode(rest)
	}
	switch {
	case block == nil:
		return nil, "must be a private key in PEM, or sealed"
	case block.Type == "ENCRYPTED PRIVATE KEY", block.Headers["Proc-Type"] != "":
		return nil, "is encrypted with a passphrase: decrypt it first; the cluster seals it again"
	case len(bytes.TrimSpace(rest)) > 0:
		return nil, "has more than a private key"
	}
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		return nil, "must be a private key in PEM, or sealed"
	}
	signer, ok := key.(crypto.Signer)
	if err != nil || !ok {
		return nil, "cannot be read as a private key for signing (PKCS #8, PKCS #1 or SEC 1)"
	}
	return signer, ""
}

// fits reports whether a key is that of a certificate.
func fits(key crypto.Signer, cert *x509.Certificate) bool {
	public, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(key.Public())
}

// notOCSP says why bytes are no answer that can be stapled (RFC 6960 4.2.1), or "".
func notOCSP(der []byte) string {
	var response struct {
		Status asn1.Enumerated
		Bytes  asn1.RawValue `asn1:"explicit,tag:0,optional"`
	}
	rest, err := asn1.Unmarshal(der, &response)
	switch {
	case err != nil || len(rest) > 0:
		return "is no OCSP response in DER"
	case response.Status != 0 || len(response.Bytes.FullBytes) == 0:
		return fmt.Sprintf("is an OCSP response without an answer: its status is %d", response.Status)
	}
	return ""
}
