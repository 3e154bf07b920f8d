package check

import "crypto/tls"

// Spec is what an active check asks, and which answers pass.
type Spec struct {
	Kind Kind
	TLS  *tls.Config // nil: in clear. With ServerName set, that is sent and verified

	// HTTP only.
	Method  string        // default GET
	Path    string        // default /
	Host    string        // default: the server's address
	Headers [][2]string   // name and value
	Expect  []StatusRange // default 200 to 399
	Body    string        // RE2 that must match within the first 64 KiB; empty: any

	Service string // GRPC only: what is asked about; empty: the server as a whole
}

// Kind is the protocol of a check.
type Kind string

// The kinds. An empty Kind is TCP.
const (
	KindTCP  Kind = "tcp"
	KindHTTP Kind = "http"
	KindGRPC Kind = "grpc" // grpc.health.v1.Health/Check, over HTTP/2
)

// StatusRange is a range of HTTP statuses, both ends included.
type StatusRange struct{ From, To int }
