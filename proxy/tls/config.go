// Package tls is what the proxy's listeners and upstreams speak TLS with:
// certificates by server name, ticket keys that all nodes share, and cipher
// policy, on crypto/tls.
package tls

import "time"

// Certificate is a chain and its key.
type Certificate struct {
	Name  string
	Chain []byte // PEM, the leaf first
	Key   []byte // PEM: PKCS #8, PKCS #1 or SEC 1
	OCSP  []byte // a DER response to staple; empty: none
}

// TicketKey encrypts session tickets on every node of the cluster.
type TicketKey struct {
	ID      string
	Key     [32]byte
	Encrypt bool // new tickets are made with it; the others only decrypt
}

// ServerConfig is how a listener speaks TLS.
type ServerConfig struct {
	// Certificates by name. The first is what clients get that name no server,
	// or one that no certificate is for.
	Certificates []string
	MinVersion   Version  // default TLS12
	Ciphers      []string // of TLS 1.2, by their IANA names; empty: Go's own choice
	// NoPostQuantum leaves X25519MLKEM768 out of the key exchanges offered.
	NoPostQuantum bool
	ALPN          []string // in order of preference
	ClientAuth    ClientAuth
	ClientCA      []byte // PEM; with ClientAuth only
}

// Version is the oldest version of TLS that is spoken.
type Version string

// The versions.
const (
	TLS12 Version = "1.2"
	TLS13 Version = "1.3"
)

// ClientAuth says whether clients must have a certificate.
type ClientAuth string

// The values. An empty ClientAuth is NoClientCert.
const (
	NoClientCert      ClientAuth = "none"
	OptionalClientCrt ClientAuth = "optional" // verified if there is one
	RequireClientCert ClientAuth = "require"
)

// ClientConfig is how the proxy speaks TLS with servers.
type ClientConfig struct {
	ServerName         string // sent as SNI, and verified; empty: neither is named, and the address is verified
	CA                 []byte // PEM; empty: the system's
	InsecureSkipVerify bool   // said in the log at start
	Certificate        string // of ours, by name; empty: none
	ALPN               []string
}

// ExpiryWarning is how long before a certificate's end a warning is given.
const ExpiryWarning = 30 * 24 * time.Hour
