package security

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Identity is what a node is to its cluster. It never changes once loaded, but
// for the node's certificate, which is read anew when its file changes. All
// methods may be called at the same time.
type Identity struct {
	dir       string
	name      string
	clusterID string
	gossipKey []byte
	ca        *x509.Certificate
	pool      *x509.CertPool // the cluster's CA alone
	nodeKey   crypto.Signer
	secrets   secretKeys

	mu      sync.Mutex
	current *tls.Certificate // chain: node, CA
	stamp   fileStamp        // of the file that current was read from
}

// fileStamp tells a replaced file from the one read before.
type fileStamp struct {
	modified time.Time
	size     int64
}

// Load reads the identity in dir and checks that its parts belong together and
// are valid now. Errors wrap ErrMissing, ErrCorrupt, ErrMismatch or ErrExpired,
// name the file and say what to do.
func Load(dir string) (*Identity, error) {
	parts, err := readParts(dir)
	if err != nil {
		return nil, err
	}
	if _, err := parts.authority(dir); err != nil {
		return nil, err // better now than when the next node wants to join
	}
	secrets, err := newSecretKeys(parts.clusterKey)
	if err != nil {
		return nil, err
	}
	id := &Identity{
		secrets: secrets,
		dir:     dir, name: parts.name, clusterID: parts.clusterID, gossipKey: parts.gossipKey,
		ca: parts.ca, pool: x509.NewCertPool(), nodeKey: parts.nodeKey,
	}
	id.pool.AddCert(parts.ca)
	if err := validAt(time.Now(), dir, caCertFile, parts.ca); err != nil {
		return nil, err
	}
	if err := validAt(time.Now(), dir, nodeCertFile, parts.nodeCert); err != nil {
		return nil, err
	}
	if _, err := id.certificate(); err != nil {
		return nil, err
	}
	return id, nil
}

// Name is the node's name.
func (id *Identity) Name() string { return id.name }

// ClusterID is the cluster's, made at random by Create.
func (id *Identity) ClusterID() string { return id.clusterID }

// GossipKey is the cluster's 32-byte key for memberlist.
func (id *Identity) GossipKey() []byte { return bytes.Clone(id.gossipKey) }

// Fingerprint is the CA's, for join tokens.
func (id *Identity) Fingerprint() Fingerprint { return fingerprintOf(id.ca) }

// NotAfter is when the node's present certificate ends. See Renew.
func (id *Identity) NotAfter() (time.Time, error) {
	cert, err := id.certificate()
	if err != nil {
		return time.Time{}, err
	}
	return cert.Leaf.NotAfter, nil
}

// certificate is the node's present one, read anew if its file has changed. A
// file that has become unusable does not take away the one in use.
func (id *Identity) certificate() (*tls.Certificate, error) {
	id.mu.Lock()
	defer id.mu.Unlock()
	info, err := os.Stat(certPath(id.dir))
	if err != nil {
		if id.current != nil {
			return id.current, nil
		}
		return nil, fmt.Errorf("read the node's certificate: %w", err)
	}
	stamp := fileStamp{modified: info.ModTime(), size: info.Size()}
	if id.current != nil && stamp == id.stamp {
		return id.current, nil
	}
	leaf, err := id.readLeaf()
	if err != nil {
		if id.current != nil {
			return id.current, nil
		}
		return nil, err
	}
	id.current = &tls.Certificate{Certificate: [][]byte{leaf.Raw, id.ca.Raw}, PrivateKey: id.nodeKey, Leaf: leaf}
	id.stamp = stamp
	return id.current, nil
}

func (id *Identity) readLeaf() (*x509.Certificate, error) {
	data, err := readFile(id.dir, nodeCertFile)
	if err != nil {
		return nil, err
	}
	leaf, err := decodeCertificate(data)
	if err != nil {
		return nil, fault(id.dir, nodeCertFile, err)
	}
	if err := belongs(leaf, id.ca, id.nodeKey); err != nil {
		return nil, fault(id.dir, nodeCertFile, err)
	}
	return leaf, nil
}

// parts are the files of an identity, decoded, and found to belong together
// but for the CA key, which authority opens.
type parts struct {
	ca, nodeCert          *x509.Certificate
	nodeKey               crypto.Signer
	clusterKey, gossipKey []byte
	sealedCA              []byte
	clusterID, name       string
}

func readParts(dir string) (*parts, error) {
	raw := make(map[string][]byte)
	for _, name := range []string{caCertFile, caKeyFile, nodeCertFile, nodeKeyFile, clusterKeyFile, gossipKeyFile} {
		data, err := readFile(dir, name)
		if err != nil {
			return nil, err
		}
		raw[name] = data
	}
	p := &parts{sealedCA: raw[caKeyFile]}
	var err error
	if p.clusterKey, err = decodeKey(raw[clusterKeyFile]); err != nil {
		return nil, fault(dir, clusterKeyFile, err)
	}
	if p.gossipKey, err = decodeKey(raw[gossipKeyFile]); err != nil {
		return nil, fault(dir, gossipKeyFile, err)
	}
	if p.ca, err = decodeCertificate(raw[caCertFile]); err != nil {
		return nil, fault(dir, caCertFile, err)
	}
	if p.nodeCert, err = decodeCertificate(raw[nodeCertFile]); err != nil {
		return nil, fault(dir, nodeCertFile, err)
	}
	if p.clusterID, p.name, err = memberOf(p.nodeCert); err != nil {
		return nil, fault(dir, nodeCertFile, fmt.Errorf("%w: %w", err, ErrCorrupt))
	}
	der, err := unseal(p.clusterKey, nodeKeyFile, p.clusterID, raw[nodeKeyFile])
	if err != nil {
		return nil, fault(dir, nodeKeyFile, err)
	}
	if p.nodeKey, err = parseKey(der); err != nil {
		return nil, fault(dir, nodeKeyFile, err)
	}
	if err := belongs(p.nodeCert, p.ca, p.nodeKey); err != nil {
		return nil, fault(dir, nodeCertFile, err)
	}
	return p, nil
}

// authority opens the sealed CA key.
func (p *parts) authority(dir string) (*authority, error) {
	der, err := unseal(p.clusterKey, caKeyFile, p.clusterID, p.sealedCA)
	if err != nil {
		return nil, fault(dir, caKeyFile, err)
	}
	key, err := parseKey(der)
	if err != nil {
		return nil, fault(dir, caKeyFile, err)
	}
	if !samePublic(p.ca, key) {
		return nil, fault(dir, caKeyFile, fmt.Errorf("not the key of %s: %w", caCertFile, ErrMismatch))
	}
	return &authority{clusterID: p.clusterID, cert: p.ca, key: key}, nil
}

// belongs says whether a node's certificate was signed by the CA, for the key.
func belongs(leaf, ca *x509.Certificate, key crypto.Signer) error {
	if err := leaf.CheckSignatureFrom(ca); err != nil {
		return fmt.Errorf("not signed by %s (%w): %w", caCertFile, err, ErrMismatch)
	}
	if !samePublic(leaf, key) {
		return fmt.Errorf("not for the key in %s: %w", nodeKeyFile, ErrMismatch)
	}
	return nil
}

// validAt says whether a certificate is valid at a time.
func validAt(now time.Time, dir, name string, cert *x509.Certificate) error {
	path := filepath.Join(Path(dir), name)
	if now.After(cert.NotAfter) {
		return fmt.Errorf("%s: the certificate ended at %s and it is %s now: %w: check the clock, or renew it", path, cert.NotAfter.Format(time.RFC3339), now.Format(time.RFC3339), ErrExpired)
	}
	if now.Before(cert.NotBefore) {
		return fmt.Errorf("%s: the certificate begins at %s and it is %s now: %w: set the clock", path, cert.NotBefore.Format(time.RFC3339), now.Format(time.RFC3339), ErrExpired)
	}
	return nil
}

func certPath(dir string) string { return filepath.Join(Path(dir), nodeCertFile) }
