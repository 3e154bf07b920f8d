package security

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"time"
)

// Create makes a new cluster's trust in dir, with this node as the first
// member, and loads it: CA, node certificate, cluster key and gossip key. Where
// dir belongs to a cluster already, nothing changes and the error is ErrExists.
func Create(dir, name string) (*Identity, error) {
	if err := ValidateName(name); err != nil {
		return nil, err
	}
	if exists, err := Exists(dir); err != nil {
		return nil, err
	} else if exists {
		return nil, fmt.Errorf("%s: %w", Path(dir), ErrExists)
	}
	files, err := newCluster(name, time.Now())
	if err != nil {
		return nil, err
	}
	if err := install(dir, files); err != nil {
		return nil, err
	}
	return Load(dir)
}

// newCluster makes the files of a new cluster's first node.
func newCluster(name string, now time.Time) (map[string][]byte, error) {
	clusterID, err := newClusterID()
	if err != nil {
		return nil, err
	}
	ca, err := newAuthority(clusterID, now)
	if err != nil {
		return nil, err
	}
	nodeKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the node key: %w", err)
	}
	nodeCert, err := ca.issue(name, nodeKey.Public(), now)
	if err != nil {
		return nil, err
	}
	keys := make([]byte, 2*keyBytes)
	if _, err := rand.Read(keys); err != nil {
		return nil, fmt.Errorf("make the cluster key: %w", err)
	}
	clusterKey, gossipKey := keys[:keyBytes], keys[keyBytes:]
	caDER, err := marshalKey(ca.key)
	if err != nil {
		return nil, err
	}
	sealedCA, err := seal(clusterKey, caKeyFile, clusterID, caDER)
	if err != nil {
		return nil, err
	}
	nodeDER, err := marshalKey(nodeKey)
	if err != nil {
		return nil, err
	}
	sealedNode, err := seal(clusterKey, nodeKeyFile, clusterID, nodeDER)
	if err != nil {
		return nil, err
	}
	return map[string][]byte{
		caCertFile:     encodeCertificate(ca.cert.Raw),
		caKeyFile:      sealedCA,
		nodeCertFile:   encodeCertificate(nodeCert),
		nodeKeyFile:    sealedNode,
		clusterKeyFile: encodeKey(clusterKey),
		gossipKeyFile:  encodeKey(gossipKey),
	}, nil
}

// Renew gives the node in dir a new certificate for its present key, valid for
// a year. Every member holds the CA key, so no other node is asked. A running
// node uses the new certificate from its next handshake on. It also mends an
// identity that Load refuses as ErrExpired, unless the CA itself has expired.
func Renew(dir string) error {
	parts, err := readParts(dir)
	if err != nil {
		return err
	}
	now := time.Now()
	if now.After(parts.ca.NotAfter) {
		return fault(dir, caCertFile, fmt.Errorf("the cluster's CA ended at %s: %w", parts.ca.NotAfter.Format(time.RFC3339), ErrExpired))
	}
	ca, err := parts.authority(dir)
	if err != nil {
		return err
	}
	der, err := ca.issue(parts.name, parts.nodeKey.Public(), now)
	if err != nil {
		return err
	}
	return replace(certPath(dir), encodeCertificate(der))
}
