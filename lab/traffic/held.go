package traffic

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pharos-lb/pharos/lab/traffic/record"
)

// Protocol is what a held connection speaks.
type Protocol string

// The protocols of held connections.
const (
	HeldHTTP Protocol = "http" // keep-alive requests, one after the other
	HeldEcho Protocol = "echo" // a line to a TCP echo server, and back; its first line is "BACKEND PEER"
)

// reopenDelay stands between the end of a held connection and the next in its
// slot, so that a dead target is not stormed.
const reopenDelay = 100 * time.Millisecond

// HeldConfig is one group of connections held open. A slow path makes each of
// them a request in flight most of the time.
type HeldConfig struct {
	Protocol Protocol
	Target   netip.AddrPort // not valid: the probes' target (HTTP only)
	Count    int            // 1 to 4096
	Every    time.Duration  // pause between two exchanges; 0 to 1m
	Path     string         // HTTP: of the request, such as /slow?ms=200
	Timeout  time.Duration  // of opening, and of one exchange; 1ms to 1m
}

func (h HeldConfig) validate(bad func(field, format string, args ...any)) {
	switch h.Protocol {
	case HeldHTTP:
		checkText(bad, "path", h.Path, "host", "")
	case HeldEcho:
		if !h.Target.IsValid() {
			bad("target", "want an address and a port for echo")
		}
	default:
		bad("protocol", "%q: want http or echo", h.Protocol)
	}
	if h.Count < 1 || h.Count > 4096 {
		bad("count", "%d is not within 1 to 4096", h.Count)
	}
	if h.Every < 0 || h.Every > time.Minute {
		bad("every", "%v is not within 0 to 1m", h.Every)
	}
	if h.Timeout < time.Millisecond || h.Timeout > time.Minute {
		bad("timeout", "%v is not within 1ms to 1m", h.Timeout)
	}
}

// heldConn keeps one slot's connection open, and opens it anew when it ends.
type heldConn struct {
	config     HeldConfig
	target     netip.AddrPort
	nodeHeader string
	slot       int
	clock      clock
	emit       func(record.Line)
}

// run returns when ctx ends; the connection open then is recorded as OK.
func (h *heldConn) run(ctx context.Context) {
	if h.config.Target.IsValid() {
		h.target = h.config.Target
	}
	for ctx.Err() == nil {
		life := h.live(ctx)
		h.emit(record.Line{Held: &life})
		select {
		case <-ctx.Done():
		case <-time.After(reopenDelay):
		}
	}
}

// live opens a connection and makes exchanges on it until it ends.
func (h *heldConn) live(ctx context.Context) record.Held {
	life := record.Held{Slot: h.slot, Stage: record.Connecting, Opened: h.clock.now()}
	end := func(o record.Outcome, detail string) record.Held {
		life.Ended, life.Outcome, life.Detail = h.clock.now(), o, detail
		return life
	}
	dialer := net.Dialer{Timeout: h.config.Timeout, KeepAlive: -1}
	conn, err := dialer.DialContext(ctx, "tcp", h.target.String())
	if ctx.Err() != nil {
		if err == nil {
			_ = conn.Close()
		}
		return end(record.OK, "")
	}
	if err != nil {
		return end(dialOutcome(err), err.Error())
	}
	defer func() { _ = conn.Close() }()
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // as for the probes; if it fails, a port waits a minute
	}
	// The end of ctx unblocks whatever read is under way.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	life.Stage, life.Connected = record.Established, h.clock.now()

	exchange := h.exchangeHTTP
	if h.config.Protocol == HeldEcho {
		exchange = h.exchangeEcho
	}
	in := bufio.NewReader(conn)
	for {
		if err := conn.SetDeadline(time.Now().Add(h.config.Timeout)); err != nil {
			return end(record.Closed, err.Error())
		}
		if ctx.Err() != nil { // after setting the deadline, which may have undone the AfterFunc's
			return end(record.OK, "")
		}
		asked := h.clock.now()
		last, err := exchange(conn, in, &life)
		if ctx.Err() != nil {
			return end(record.OK, "")
		}
		if err != nil {
			return end(heldOutcome(err), err.Error())
		}
		life.Exchanges++
		life.Asked = asked
		if last {
			return end(record.Finished, "")
		}
		// Idle until the next exchange: an orderly end now harms no HTTP
		// client. An echo session is never done, so there it is a break.
		if h.config.Every > 0 {
			_ = conn.SetReadDeadline(time.Now().Add(h.config.Every))
			if ctx.Err() != nil {
				return end(record.OK, "")
			}
			_, err = in.Peek(1)
			switch {
			case ctx.Err() != nil:
				return end(record.OK, "")
			case errors.Is(err, os.ErrDeadlineExceeded):
			case errors.Is(err, io.EOF) && h.config.Protocol == HeldHTTP:
				return end(record.Finished, "")
			case err != nil:
				return end(heldOutcome(err), fmt.Sprintf("idle: %v", err))
			default:
				return end(record.WrongAnswer, "bytes that nobody asked for")
			}
		}
	}
}

func (h *heldConn) exchangeHTTP(conn net.Conn, in *bufio.Reader, life *record.Held) (last bool, err error) {
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: pharos-drill\r\n\r\n", h.config.Path, h.target); err != nil {
		return false, fmt.Errorf("write the request: %w", err)
	}
	var buf []byte
	for {
		if _, err = in.Peek(1); err != nil && !errors.Is(err, io.EOF) {
			return false, fmt.Errorf("read the answer: %w", err)
		}
		fresh, _ := in.Peek(in.Buffered())
		buf = append(buf, fresh...)
		a, done, parseErr := parseAnswer(buf, err != nil, h.nodeHeader)
		if parseErr != nil {
			return false, parseErr
		}
		if !done {
			_, _ = in.Discard(len(fresh)) // cannot fail: they are buffered
			continue
		}
		_, _ = in.Discard(len(fresh) - (len(buf) - a.size))
		if a.status != 200 {
			return false, fmt.Errorf("%w: status %d, want 200", errMalformed, a.status)
		}
		if a.peer != "" {
			life.Peer, life.Backend = a.peer, a.backend
		}
		if a.node != "" {
			life.Node = a.node
		}
		return a.closes, nil
	}
}

func (h *heldConn) exchangeEcho(conn net.Conn, in *bufio.Reader, life *record.Held) (last bool, err error) {
	if life.Exchanges == 0 {
		greeting, err := in.ReadString('\n')
		if err != nil {
			return false, fmt.Errorf("read the greeting: %w", err)
		}
		backend, peer, ok := strings.Cut(strings.TrimSpace(greeting), " ")
		if !ok {
			return false, fmt.Errorf("%w: greeting %q, want BACKEND PEER", errMalformed, clip(greeting))
		}
		life.Backend, life.Peer = backend, hostOf(peer)
	}
	want := fmt.Sprintf("drill %d %d\n", life.Slot, life.Exchanges)
	if _, err := io.WriteString(conn, want); err != nil {
		return false, fmt.Errorf("write a line: %w", err)
	}
	got, err := in.ReadString('\n')
	if err != nil {
		return false, fmt.Errorf("read the echo: %w", err)
	}
	if got != want {
		return false, fmt.Errorf("%w: echo %q of %q", errMalformed, clip(got), want)
	}
	return false, nil
}

// dialOutcome is the outcome of a net.Dialer's error.
func dialOutcome(err error) record.Outcome {
	if errors.Is(err, os.ErrDeadlineExceeded) || isTimeout(err) {
		return record.TimedOut
	}
	var errno unix.Errno
	if errors.As(err, &errno) {
		return connectOutcome(errno)
	}
	return record.Unreachable
}

// heldOutcome is the outcome of an exchange's error.
func heldOutcome(err error) record.Outcome {
	var errno unix.Errno
	switch {
	case errors.Is(err, errMalformed):
		return record.WrongAnswer
	case errors.Is(err, errTruncated), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return record.Closed
	case isTimeout(err):
		return record.TimedOut
	case errors.As(err, &errno):
		return streamOutcome(errno)
	}
	return record.Closed
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}
