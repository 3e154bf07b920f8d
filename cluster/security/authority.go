package security

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base32"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"time"
)

const (
	// backdate lets a certificate be used by a machine whose clock is hours
	// behind: a wrong clock is to be shown, not to break a join.
	backdate = 24 * time.Hour
	caLife   = 10 * 365 * 24 * time.Hour
	nodeLife = 365 * 24 * time.Hour
	domain   = "pharos" // of the DNS names in certificates; never looked up
)

// Fingerprint is the SHA-256 of the CA certificate's DER form. A join token
// carries it, so that the joining node knows whom it may trust.
type Fingerprint [sha256.Size]byte

// authority is a cluster's CA with its private key.
type authority struct {
	clusterID string
	cert      *x509.Certificate
	key       crypto.Signer
}

func newClusterID() (string, error) {
	var b [10]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("make a cluster id: %w", err)
	}
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:])), nil
}

func newAuthority(clusterID string, now time.Time) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the CA key: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "Pharos cluster " + clusterID, OrganizationalUnit: []string{clusterID}},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(caLife),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign the CA certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read the new CA certificate: %w", err)
	}
	return &authority{clusterID: clusterID, cert: cert, key: key}, nil
}

// issue signs a certificate for a node: DNS names NAME.CLUSTER.pharos and
// CLUSTER.pharos (any member), and the URI that memberOf reads.
func (a *authority) issue(name string, public crypto.PublicKey, now time.Time) ([]byte, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	notAfter := now.Add(nodeLife)
	if notAfter.After(a.cert.NotAfter) {
		notAfter = a.cert.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name, OrganizationalUnit: []string{a.clusterID}},
		DNSNames:     []string{memberDNS(a.clusterID, name), memberDNS(a.clusterID, "")},
		URIs:         []*url.URL{{Scheme: domain, Host: a.clusterID, Path: "/node/" + name}},
		NotBefore:    now.Add(-backdate),
		NotAfter:     notAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, public, a.key)
	if err != nil {
		return nil, fmt.Errorf("sign the certificate of node %s: %w", name, err)
	}
	return der, nil
}

// memberDNS is the DNS name by which TLS knows a member, or, without a name,
// any member of the cluster.
func memberDNS(clusterID, name string) string {
	if name == "" {
		return clusterID + "." + domain
	}
	return name + "." + clusterID + "." + domain
}

// memberOf reads a node's certificate: which cluster, and which node.
func memberOf(cert *x509.Certificate) (clusterID, name string, err error) {
	if len(cert.URIs) != 1 || cert.URIs[0].Scheme != domain {
		return "", "", errors.New("the certificate names no Pharos node")
	}
	name, ok := strings.CutPrefix(cert.URIs[0].Path, "/node/")
	if !ok || ValidateName(name) != nil {
		return "", "", errors.New("the certificate names no Pharos node")
	}
	return cert.URIs[0].Host, name, nil
}

func newSerial() (*big.Int, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("make a serial number: %w", err)
	}
	return serial, nil
}

func fingerprintOf(cert *x509.Certificate) Fingerprint { return sha256.Sum256(cert.Raw) }

func marshalKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode a private key: %w", err)
	}
	return der, nil
}

func parseKey(der []byte) (crypto.Signer, error) {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("not a private key (%w): %w", err, ErrCorrupt)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("not a signing key: %w", ErrCorrupt)
	}
	return signer, nil
}

// samePublic says whether the certificate is for this key.
func samePublic(cert *x509.Certificate, key crypto.Signer) bool {
	public, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(key.Public())
}
