package bgp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pharos-lb/pharos/bgp/guard"
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
	peer     netip.Addr   // by which the engine knows this connection
	observer *observer    // guarded by session.mu
	filter   guard.Filter // of the goroutine that reads from the router

	// detaching asks both directions to stop between two messages.
	detaching atomic.Bool
	detached  chan struct{} // closed when the router's connection has been taken, if it could be
	stopped   chan struct{} // closed when both directions have ended
	whole     bool          // more messages may follow what was sent to the router; once stopped
	begun     []byte        // read of a message of the router's that did not end; before run and once stopped
}

func newLink(ctx context.Context, s *session, router *net.TCPConn) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, peer, err := s.engine.attach(ctx)
	if err != nil {
		return nil, err
	}
	return &link{
		session: s, router: router, engine: conn, peer: peer, observer: newObserver(s.params),
		detached: make(chan struct{}), stopped: make(chan struct{}), whole: true,
	}, nil
}

// run relays until either side closes or ctx ends.
func (l *link) run(ctx context.Context) {
	cut := context.AfterFunc(ctx, l.close)
	var directions sync.WaitGroup
	directions.Go(l.toRouter)
	directions.Go(l.toEngine)
	directions.Wait()
	cut()
	close(l.stopped)
	if l.detaching.Load() {
		<-l.detached
	}
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
		if l.detaching.Load() {
			return // GoBGP may be ending because of it, and the router must not hear
		}
		// GoBGP's hold timer ends the session; this only frees the goroutine.
		_ = l.router.SetWriteDeadline(time.Now().Add(l.session.params.holdTime))
		if _, err := l.router.Write(msg); err != nil {
			l.whole = false
			l.end(fmt.Sprintf("cannot send to the router: %v", err))
			break
		}
		l.session.observe(l, func(o *observer) { o.sent(msg) })
	}
	if l.detaching.Load() {
		return // closing for writing would close it for the successor too
	}
	l.whole = false
	_ = l.router.CloseWrite()
	_ = l.router.SetReadDeadline(time.Now().Add(lingering))
}

func (l *link) toEngine() {
	// Closing it ends toRouter too.
	defer func() { _ = l.engine.Close() }()
	late := l.expectOpen()
	defer late.Stop()
	buf := make([]byte, maxMessage)
	from := &resumed{conn: l.router, before: l.begun}
	for {
		from.n = 0
		msg, err := readMessage(from, buf)
		if err != nil {
			if l.detaching.Load() && errors.Is(err, os.ErrDeadlineExceeded) {
				l.begun = slices.Clone(buf[:from.n])
				return
			}
			l.end(readWords(err))
			if subcode, ok := guard.HeaderSubcode(err); ok {
				_, _ = l.router.Write(appendMessage(nil, typeNotification, codeHeader, subcode))
			}
			return
		}
		heard, refusal := l.filter.Judge(msg, time.Now())
		if refusal != nil {
			l.end(refusal.Reason)
			_, _ = l.router.Write(appendMessage(nil, typeNotification, refusal.Code, refusal.Subcode))
			return
		}
		late.Stop()
		if typeOf(msg) != typeUpdate {
			l.session.observe(l, func(o *observer) { o.received(msg) })
		}
		if heard != nil {
			// If GoBGP has closed its end, go on reading until the router closes too.
			_, _ = l.engine.Write(heard)
		}
	}
}

// openPatience is how long a router may take to say its first word. RFC 4271
// 8.2.2 suggests four minutes, in which a router whose packets TTL security
// drops, or that is half dead, would be waited for without a word.
const openPatience = 10 * time.Second

// expectOpen ends the connection if the router says nothing.
func (l *link) expectOpen() *time.Timer {
	return time.AfterFunc(max(openPatience, l.session.params.holdTime), func() {
		l.end("the router took the connection and then said nothing: " + l.session.terms().Suspicion())
		l.close()
	})
}

// resumed reads what another process has read of a message already, and then
// the connection. It counts, so that the next one can do the same.
type resumed struct {
	conn   io.Reader
	before []byte
	n      int // since it was last set to 0
}

func (r *resumed) Read(b []byte) (n int, err error) {
	if len(r.before) > 0 {
		n = copy(b, r.before)
		r.before = r.before[n:]
	} else {
		n, err = r.conn.Read(b)
	}
	r.n += n
	return n, err
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
