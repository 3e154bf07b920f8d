package secure

import (
	"net"
	"time"
)

// dry says that nothing is left to read for now. crypto/tls takes temporary
// errors as no end: the next Read goes on where this one stopped.
type dry struct{}

func (dry) Error() string   { return "nothing to read now" }
func (dry) Timeout() bool   { return false }
func (dry) Temporary() bool { return true }

var errDry error = dry{}

var _ net.Error = dry{}

// Read implements net.Conn. It gives no more than to the end of the present
// record, so that nothing waits within tls.Conn unless it is part of one.
func (w *wire) Read(p []byte) (int, error) {
	if h := w.shake; h != nil {
		return h.read(p)
	}
	if len(w.in) == 0 {
		return 0, errDry
	}
	n := w.frame.next(w.in, len(p))
	copy(p, w.in[:n])
	w.in = w.in[n:]
	return n, nil
}

// Write implements net.Conn.
func (w *wire) Write(p []byte) (int, error) {
	switch h := w.shake; {
	case h != nil:
		return h.write(p)
	case w.batch:
		w.loop.sealed = append(w.loop.sealed, p...)
	case w.sending:
		w.raw.Send(p)
	default:
		// In answer to something that the peer sent: a key update, or an
		// alert.
		if w.raw.Send(p); w.raw.Pending() > 0 {
			w.control += len(p)
		}
	}
	return len(p), nil
}

// Close implements net.Conn. The loop closes the connection, not crypto/tls.
func (w *wire) Close() error { return nil }

// LocalAddr implements net.Conn. Nobody asks for it.
func (w *wire) LocalAddr() net.Addr { return &net.TCPAddr{} }

// RemoteAddr implements net.Conn.
func (w *wire) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(w.raw.Peer()) }

// SetDeadline implements net.Conn. Time is the loop's business.
func (w *wire) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.Conn.
func (w *wire) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.Conn.
func (w *wire) SetWriteDeadline(time.Time) error { return nil }

// headerSize is that of a record: type, version, length (RFC 8446 section
// 5.1).
const headerSize = 5

// frame follows the boundaries of records in the bytes that pass.
type frame struct {
	left   int              // of the present record
	header [headerSize]byte // of the next one, which came in pieces
	have   int
}

// next returns how many bytes of b may pass, up to room, which is above 0 as
// is len(b).
func (f *frame) next(b []byte, room int) int {
	if f.left == 0 {
		if f.have > 0 || len(b) < headerSize {
			n := min(headerSize-f.have, len(b), room)
			copy(f.header[f.have:], b[:n])
			if f.have += n; f.have == headerSize {
				f.have = 0
				f.left = bodySize(f.header[:])
			}
			return n
		}
		f.left = headerSize + bodySize(b)
	}
	n := min(len(b), f.left, room)
	f.left -= n
	return n
}

// bodySize is the length in a record's header.
func bodySize(header []byte) int { return int(header[3])<<8 | int(header[4]) }
