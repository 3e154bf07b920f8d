// Package security makes and keeps a cluster's trust: its certificate
// authority, each node's certificate, the gossip key, one-time join tokens, the
// mutual TLS of the control port and the exchange by which a node joins.
//
// # What is protected, and from whom
//
// Every member of a cluster is equal: each can admit a new one, so each holds
// the CA key. The CA key and the node key are sealed at rest (AES-256-GCM)
// under cluster.key, which lies in the same directory. That protects against
// the loss of single files: a copied node.key, a backup that leaves cluster.key
// out, a key pasted into a ticket. It does not protect against someone who
// reads the whole directory, that is, against root on a node or an image of its
// disk. Directory and files are readable by their owner alone (0700, 0600).
//
// Secrets that the nodes share through the log (private keys of certificates,
// ticket and cookie keys) are sealed under a key that comes from cluster.key
// before they reach it, each for its purpose: neither the log, nor its
// snapshots, nor applied.json have one in clear. Who is given a backup of these
// files learns no key; who has cluster.key as well does.
//
// # The control port
//
// One port, TLS 1.3 only, split by ALPN (RFC 7301): "h2" carries gRPC and
// "pharos-raft" the Raft transport, both with a client certificate of this
// cluster's CA; "pharos-join" asks for no client certificate, since a node that
// joins has none yet: it proves itself by its token, and knows the server by
// the CA fingerprint in that token. Session tickets are off, so that each
// connection proves its certificate anew.
package security

import "errors"

// The ways in which a node's security files can be unusable. Each is wrapped
// in an error that names the file and says what to do.
var (
	// ErrExists: a directory holds a cluster identity already.
	ErrExists = errors.New("this directory belongs to a cluster already")
	// ErrMissing: a directory holds no cluster identity, or a part is missing.
	ErrMissing = errors.New("missing")
	// ErrCorrupt: a file cannot be read as what it should be.
	ErrCorrupt = errors.New("corrupt")
	// ErrMismatch: the files are readable, but do not belong together.
	ErrMismatch = errors.New("does not belong to the other files")
	// ErrExpired: a certificate is past its end, or not yet valid. See Renew.
	ErrExpired = errors.New("not valid at this time")
)
