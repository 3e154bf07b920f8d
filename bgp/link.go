package bgp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// lingering is how long a closed connection may take to be closed by the
// router as well: closing it with unread data would reset it, and a reset can
// overtake the NOTIFICATION that was sent last.
const lingering = 500 * time.Millisecond

// link is one connection: the router's on one side, GoBGP's on the other, and
// messages relayed between them. No UPDATE of the router gets through: we
// never learn a route, so its contents cannot hurt (see DESIGN.md, "The deaf
// speaker"). That relay is also the place where we see what was really sent.
type link struct {
	session  *session
	router   *net.TCPConn
	engine   net.Conn
	peer     netip.Addr // by which the engine knows this connection
	observer *observer  // guarded by session.mu
}

func newLink(ctx context.Context, s *session, router *net.TCPConn) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, peer, err := s.engine.attach(ctx)
	if err != nil {
		return nil, err
	}
	return &link{session: s, router: router, engine: conn, peer: peer, observer: newObserver(s.params)}, nil
}

// run relays until either side closes or ctx ends.
func (l *link) run(ctx context.Context) {
	cut := context.AfterFunc(ctx, l.close)
	var directions sync.WaitGroup
	directions.Go(l.toRouter)
	directions.Go(l.toEngine)
	directions.Wait()
	cut()
	l.close()
	l.session.engine.detach(l.peer)
}

func (l *link) close() {
	_ = l.router.Close()
	_ = l.engine.Close()
}

func (l *link) end(reason string) {
	l.session.observe(l, func(o *observer) { o.end(reason) })
}

func (l *link) toRouter() {
	buf := make([]byte, maxMessage)
	for {
		msg, err := readMessage(l.engine, buf)
		if err != nil {
			// GoBGP has said its last word, or the other direction ended.
			break
		}
		// GoBGP's hold timer ends the session; this only frees the goroutine.
		_ = l.router.SetWriteDeadline(time.Now().Add(l.session.params.holdTime))
		if _, err := l.router.Write(msg); err != nil {
			l.end(fmt.Sprintf("cannot send to the router: %v", err))
			break
		}
		l.session.observe(l, func(o *observer) { o.sent(msg) })
	}
	_ = l.router.CloseWrite()
	_ = l.router.SetReadDeadline(time.Now().Add(lingering))
}

func (l *link) toEngine() {
	// Closing it ends toRouter too.
	defer func() { _ = l.engine.Close() }()
	buf := make([]byte, maxMessage)
	keepalive := appendMessage(nil, typeKeepalive)
	for {
		msg, err := readMessage(l.router, buf)
		if err != nil {
			l.end(readWords(err))
			if subcode, ok := headerSubcode(err); ok {
				_, _ = l.router.Write(appendMessage(nil, typeNotification, codeHeader, subcode))
			}
			return
		}
		var v verdict
		l.session.observe(l, func(o *observer) { v = o.received(msg) })
		switch v {
		case refuse:
			return
		case silence:
			// Like a KEEPALIVE, it restarts the hold timer (RFC 4271 8.2.2, event 27).
			msg = keepalive
		case pass:
		}
		// If GoBGP has closed its end, go on reading until the router closes too.
		_, _ = l.engine.Write(msg)
	}
}

func readWords(err error) string {
	switch {
	case errors.Is(err, io.EOF):
		return "the router closed the connection without a reason"
	case errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded):
		return "we closed the connection"
	}
	return fmt.Sprintf("cannot read from the router: %v", err)
}
