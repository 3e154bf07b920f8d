// Package secure is TLS on an event loop: a pair of [engine.Conn] and
// [engine.Handler] around a raw connection, so that the session on top of it
// does not know of TLS.
//
// The handshake, which is all that takes long, runs in a goroutine of its own,
// and takes turns with the others (see [Handshakes]). What it sends and its
// end are posted to the loop, and from there on everything happens on the
// loop: bytes that have arrived are fed to a [tls.Conn] over a net.Conn that
// says so when it has no more, and what is decrypted is handed on in a buffer
// of the loop's.
package secure

import (
	"crypto/tls"
	"net/netip"
	"time"

	"github.com/pharos-lb/pharos/proxy/l7/engine"
)

const (
	// maxRecord is the most that one record carries (RFC 8446 section 5.1).
	maxRecord = 16 << 10
	// plainSize is room for what the engine hands on at once, 64 KiB, and the
	// record that had begun before: so one call of Data becomes one call of
	// Data, nearly always.
	plainSize = 96 << 10
	// keptBuffers bounds the buffers of one record that a loop keeps.
	keptBuffers = 16
	// maxSealed bounds the scratch buffer for several records that is kept.
	maxSealed = 256 << 10
)

// Loop is what the TLS connections of one engine.Loop share. It is not safe
// for use from elsewhere.
type Loop struct {
	engine     engine.Loop
	handshakes *Handshakes

	plain   []byte // decrypted; valid during one call of Data
	sealed  []byte // several records, to be sent at once
	buffers [][]byte

	depth     int     // of callbacks on the stack
	gathering []*Conn // have sent small pieces within them

	silent list // accepted connections without a whole ClientHello, the oldest first
}

// NewLoop returns the TLS side of a loop, with its share of handshakes.
func NewLoop(loop engine.Loop, handshakes *Handshakes) *Loop {
	l := &Loop{engine: loop, handshakes: handshakes, plain: make([]byte, plainSize)}
	l.silent.of = ofSilence
	return l
}

// Acceptor is what accepted connections have in common.
type Acceptor struct {
	Config *tls.Config
	// Accepted makes the handler of a connection whose handshake has
	// succeeded. It is called on the connection's loop. The state holds the
	// server name, the protocol (ALPN) and the client's certificate; it need not
	// be kept.
	Accepted func(c engine.Conn, state tls.ConnectionState) engine.Handler
	// Failed is told of a handshake that has not succeeded, on the connection's
	// loop; nil if nobody wants to know. It is counted in any case.
	Failed func(*HandshakeError)
	// Counts counts failures for this acceptor; may be nil.
	Counts *Counts
}

// Accept makes an accepted connection one that speaks TLS, and returns the
// handler for it.
func (l *Loop) Accept(raw engine.Conn, a *Acceptor) engine.Handler {
	c := &Conn{loop: l, raw: raw}
	c.shake = newHandshake(c, a.Config, a)
	c.shake.begin()
	l.silent.add(c.shake)
	return (*below)(c)
}

// Dial connects to a TLS server. The handler's Opened is called when the
// handshake has succeeded; what was sent before is sent then. It gets Closed
// with a *HandshakeError if the handshake fails.
func (l *Loop) Dial(address netip.AddrPort, config *tls.Config, h engine.Handler) *Conn {
	return l.DialAfter(nil, address, config, h)
}

// DialAfter is Dial that sends a greeting in clear before the handshake, such
// as a PROXY header.
func (l *Loop) DialAfter(greeting []byte, address netip.AddrPort, config *tls.Config, h engine.Handler) *Conn {
	c := &Conn{loop: l, handler: h, greeting: greeting}
	c.shake = newHandshake(c, config, nil)
	c.raw = l.engine.Dial(address, (*below)(c))
	return c
}

// CloseSilent closes accepted connections that have been open for at least
// that long without sending a whole ClientHello: a listener that closes need
// not wait for them.
func (l *Loop) CloseSilent(after time.Duration) {
	for h := l.silent.first; h != nil && l.engine.Now()-h.since >= after; h = l.silent.first {
		h.c.abandon(Cancelled, nil)
		h.c.raw.Close()
	}
}

// enter and leave are around callbacks of handlers. Within them, small pieces
// that are sent are gathered into records.
func (l *Loop) enter() { l.depth++ }

func (l *Loop) leave() {
	if l.depth--; l.depth > 0 {
		return
	}
	for i, c := range l.gathering {
		l.gathering[i] = nil
		c.flush()
	}
	l.gathering = l.gathering[:0]
}

// takeBuffer returns an empty buffer of one record.
func (l *Loop) takeBuffer() []byte {
	if n := len(l.buffers); n > 0 {
		b := l.buffers[n-1]
		l.buffers = l.buffers[:n-1]
		return b
	}
	return make([]byte, 0, maxRecord)
}

func (l *Loop) giveBuffer(b []byte) {
	if cap(b) >= maxRecord && cap(b) <= 8*maxRecord && len(l.buffers) < keptBuffers {
		l.buffers = append(l.buffers, b[:0])
	}
}
