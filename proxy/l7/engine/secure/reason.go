package secure

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
)

// Reason is why a handshake has not succeeded.
type Reason uint8

// The reasons.
const (
	// TimedOut: it took longer than Limits.Timeout.
	TimedOut Reason = iota
	// PlainHTTP: the client speaks HTTP without TLS.
	PlainHTTP
	// NotTLS: the peer sent something that is not TLS.
	NotTLS
	// Refused: what the peer offers or sent is not acceptable: its version,
	// its ciphers, no certificate, a malformed message.
	Refused
	// BadCertificate: the peer's certificate was not verified.
	BadCertificate
	// PeerRefused: the peer sent an alert.
	PeerRefused
	// PeerGone: the peer, or the network, ended the connection.
	PeerGone
	// Overloaded: too many handshakes wait for their turn.
	Overloaded
	// GaveWay: there were too many handshakes, and this one waited longest for
	// its peer.
	GaveWay
	// Cancelled: it was not wanted any more.
	Cancelled

	reasons
)

var reasonNames = [reasons]string{
	TimedOut:       "timed_out",
	PlainHTTP:      "plain_http",
	NotTLS:         "not_tls",
	Refused:        "refused",
	BadCertificate: "bad_certificate",
	PeerRefused:    "peer_refused",
	PeerGone:       "peer_gone",
	Overloaded:     "overloaded",
	GaveWay:        "gave_way",
	Cancelled:      "cancelled",
}

// String returns a name for logs and metrics, such as timed_out.
func (r Reason) String() string { return reasonNames[r] }

// Reasons are all reasons, in order.
func Reasons() []Reason {
	all := make([]Reason, reasons)
	for i := range all {
		all[i] = Reason(i)
	}
	return all
}

// Counts counts handshakes. It is safe for concurrent use.
type Counts struct {
	full, resumed atomic.Uint64
	failed        [reasons]atomic.Uint64
}

// Full is the number of handshakes that have succeeded, without Resumed.
func (c *Counts) Full() uint64 { return c.full.Load() }

// Resumed is the number of sessions that were resumed.
func (c *Counts) Resumed() uint64 { return c.resumed.Load() }

// Failed is the number of handshakes that have failed for a reason.
func (c *Counts) Failed(r Reason) uint64 { return c.failed[r].Load() }

// HandshakeError is a handshake that has not succeeded.
type HandshakeError struct {
	Peer   netip.AddrPort
	Reason Reason
	Err    error // what crypto/tls or the engine says; may be nil
}

func (e *HandshakeError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("TLS handshake with %v: %v", e.Peer, e.Reason)
	}
	return fmt.Sprintf("TLS handshake with %v: %v: %v", e.Peer, e.Reason, e.Err)
}

// Unwrap returns the cause.
func (e *HandshakeError) Unwrap() error { return e.Err }

// ReasonOf tells why a connection has failed, if it was for TLS: in its
// handshake, or by an alert of the peer's later on. A server of TLS 1.3 says
// only after the handshake that it does not take our certificate.
func ReasonOf(err error) (why Reason, ok bool) {
	var shake *HandshakeError
	if errors.As(err, &shake) {
		return shake.Reason, true
	}
	if why = reasonFor(err); why == PeerRefused {
		return why, true
	}
	return 0, false
}

// reasonFor sorts an error of crypto/tls.
func reasonFor(err error) Reason {
	var verification *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var header tls.RecordHeaderError
	var op *net.OpError
	switch {
	case errors.Is(err, errGaveWay):
		return GaveWay
	case errors.Is(err, errCancelled):
		return Cancelled
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return PeerGone
	case errors.As(err, &verification), errors.As(err, &unknown), errors.As(err, &invalid):
		return BadCertificate
	case errors.As(err, &header):
		return NotTLS
	case errors.As(err, &op) && op.Op == "remote error":
		return PeerRefused
	}
	return Refused
}

// sniff looks at the beginning of what a client sends, so that what is not TLS
// costs no handshake. It reports whether b holds the whole first record, and
// whether it cannot be a ClientHello.
func sniff(b []byte) (whole bool, wrong bool, why Reason) {
	const handshakeType, clientHello = 22, 1
	switch {
	case len(b) == 0:
		return false, false, 0
	case b[0] >= 'A' && b[0] <= 'Z':
		return false, true, PlainHTTP // or another protocol of words
	case b[0] != handshakeType, len(b) > 1 && b[1] != 3:
		return false, true, NotTLS
	case len(b) < headerSize:
		return false, false, 0
	}
	size := bodySize(b)
	if size == 0 || size > maxRecord || len(b) > headerSize && b[headerSize] != clientHello {
		return false, true, NotTLS
	}
	return len(b) >= headerSize+size, false, 0
}
