// Package l4 forwards TCP connections between clients and the servers of a
// pool, without looking into them.
//
// Each direction is an io.Copy between two *net.TCPConn, which the runtime
// turns into splice(2): bytes don't pass through user space.
package l4

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pharos-lb/pharos/proxy/listener"
	"github.com/pharos-lb/pharos/proxy/policy/balance"
	"github.com/pharos-lb/pharos/proxy/pool"
)

// Timeouts bound the phases of a forwarded connection.
type Timeouts struct {
	Connect time.Duration // to one server
	Idle    time.Duration // nothing moved in either direction; cut between 1 and 1.5 times this
}

// Forwarder serves the connections of TCP listeners. Make one with [New].
type Forwarder struct {
	log      *slog.Logger
	timeouts Timeouts

	mu    sync.Mutex
	conns map[*connection]struct{}
	done  sync.WaitGroup // one for each connection
}

// connection is one client connection and, once connected, its server's.
type connection struct {
	client *net.TCPConn
	began  time.Time
	cancel context.CancelFunc // ends a connect under way

	mu     sync.Mutex
	server *net.TCPConn
	cut    bool
}

// New returns a Forwarder that has no connections. Both timeouts must be
// above 0.
func New(log *slog.Logger, timeouts Timeouts) *Forwarder {
	return &Forwarder{log: log, timeouts: timeouts, conns: make(map[*connection]struct{})}
}

// Accept serves connections that arrive on ln, on behalf of l, until ln is
// closed; then it returns, while the connections live on. It closes ln when
// it fails otherwise.
func (f *Forwarder) Accept(ln *net.TCPListener, l *listener.Listener) {
	pause := acceptPauseMin
	for {
		c, err := ln.AcceptTCP()
		switch {
		case err == nil:
			pause = acceptPauseMin
			f.serve(c, l)
		case errors.Is(err, net.ErrClosed):
			return
		case errors.Is(err, unix.ECONNABORTED):
		default:
			// Out of descriptors or memory: the connection stays queued in
			// the kernel, so waiting loses nothing, and spinning helps no one.
			f.log.Error("accepting a connection failed", "listener", l.Name, "error", err, "retry_in", pause)
			time.Sleep(pause)
			pause = min(pause*2, acceptPauseMax)
		}
	}
}

const (
	acceptPauseMin = 5 * time.Millisecond
	acceptPauseMax = 500 * time.Millisecond
)

func (f *Forwarder) serve(client *net.TCPConn, l *listener.Listener) {
	ctx, cancel := context.WithCancel(context.Background())
	c := &connection{client: client, began: time.Now(), cancel: cancel}
	l.Accepted.Add(1)
	l.Open.Add(1)
	f.mu.Lock()
	f.conns[c] = struct{}{}
	f.done.Add(1)
	f.mu.Unlock()
	go func() {
		defer f.done.Done()
		defer cancel()
		ok := f.forward(ctx, c, l)
		f.mu.Lock()
		delete(f.conns, c)
		f.mu.Unlock()
		if !ok {
			l.Failed.Add(1)
		}
		l.Requests.Add(1)
		l.Open.Add(-1)
	}()
}

// forward carries one connection from beginning to end, and reports whether
// it ended by its own ends' will.
func (f *Forwarder) forward(ctx context.Context, c *connection, l *listener.Listener) bool {
	defer func() { _ = c.client.Close() }()
	p := l.Site().Pool
	server, chosen := f.connect(ctx, l, p, c.client)
	if server == nil {
		// Reset: the client must not take this for an empty answer.
		_ = c.client.SetLinger(0)
		return false
	}
	defer func() { _ = server.Close() }()
	chosen.Connections.Add(1)
	defer func() { p.End(chosen, pool.Outcome{Kind: pool.OK}) }()
	if !c.attach(server) {
		return false
	}
	for _, end := range []*net.TCPConn{c.client, server} {
		_ = end.SetNoDelay(true)
		setUserTimeout(end, f.timeouts.Idle)
	}
	var last atomic.Int64 // of any movement, Unix nanoseconds
	last.Store(time.Now().UnixNano())
	back := make(chan error, 1)
	go func() { back <- f.copy(c.client, server, &last, c) }()
	errOut := f.copy(server, c.client, &last, c)
	errBack := <-back
	return errOut == nil && errBack == nil
}

// connect dials the servers that may take the connection, in turn: nothing
// was sent yet, so a dead server costs the client no more than time.
// It has begun at the server that it returns.
func (f *Forwarder) connect(ctx context.Context, l *listener.Listener, p *pool.Pool, client *net.TCPConn) (*net.TCPConn, *pool.Server) {
	peer, _ := netip.ParseAddrPort(client.RemoteAddr().String())
	sel := p.Select(balance.AddrKey(peer.Addr()), pool.Now())
	tried := 0
	for s := sel.Next(); s != nil; s = sel.Next() {
		if !p.Begin(s) {
			continue
		}
		tried++
		began := pool.Now()
		d := net.Dialer{Timeout: f.timeouts.Connect}
		conn, err := d.DialContext(ctx, "tcp", s.Address.String())
		if err == nil {
			return conn.(*net.TCPConn), s
		}
		if ctx.Err() != nil {
			p.End(s, pool.Outcome{Kind: pool.Cancelled})
			return nil, nil
		}
		now := pool.Now()
		p.End(s, pool.Outcome{Kind: pool.ConnectFailed, Latency: now - began, Now: now})
		if muted, log := s.LogFailure(time.Now()); log {
			f.log.Warn("connecting to a server failed", "listener", l.Name, "pool", p.Name(), "server", s.Name, "address", s.Address, "error", err, "not_logged", muted)
		}
	}
	f.log.Debug("no server took the connection", "listener", l.Name, "pool", p.Name(), "tried", tried)
	return nil, nil
}

// attach notes the server's side, unless the connection was cut meanwhile.
func (c *connection) attach(server *net.TCPConn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cut {
		return false
	}
	c.server = server
	return true
}

// abort closes both sides with a reset, at once, so that neither takes a
// truncated stream for a complete one.
func (c *connection) abort() {
	c.cancel()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = true
	for _, end := range []*net.TCPConn{c.client, c.server} {
		if end != nil {
			_ = end.SetLinger(0)
			_ = end.Close()
		}
	}
}

// chunk is how much is moved before the idle clock is wound up again.
const chunk = 1 << 20

var errIdle = errors.New("nothing moved for the idle timeout")

// copy moves bytes from src to dst until src ends, and passes the end on as
// a half-close. Any failure aborts the whole connection.
func (f *Forwarder) copy(dst, src *net.TCPConn, last *atomic.Int64, c *connection) error {
	look := max(f.timeouts.Idle/4, time.Millisecond)
	for {
		_ = src.SetReadDeadline(time.Now().Add(look))
		n, err := io.CopyN(dst, src, chunk)
		if n > 0 {
			last.Store(time.Now().UnixNano())
		}
		switch {
		case err == nil:
			continue
		case errors.Is(err, io.EOF):
			if err := dst.CloseWrite(); err != nil {
				// The peer is gone both ways; nobody is left to tell.
				return ignoreGone(err)
			}
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			// The read deadline alone is set, so nothing is lost in between.
			// The other direction may have moved up to one look ago without
			// having said so yet.
			if n > 0 || time.Since(time.Unix(0, last.Load())) < f.timeouts.Idle+look {
				continue
			}
			err = errIdle
		}
		c.abort()
		return err
	}
}

func ignoreGone(err error) error {
	if errors.Is(err, unix.ENOTCONN) {
		return nil
	}
	return err
}

// setUserTimeout lets the kernel give up on a peer that takes no bytes
// (TCP_USER_TIMEOUT, RFC 5482): a splice that waits to write has no deadline.
func setUserTimeout(c *net.TCPConn, d time.Duration) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
	})
}

// Open is the number of connections being served.
func (f *Forwarder) Open() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.conns)
}

// Drain waits until all connections have ended or ctx ends, cuts the rest by
// reset, and returns how many it cut: all of them, and those that began
// before a given time. Acceptors must have returned before.
func (f *Forwarder) Drain(ctx context.Context, since time.Time) (cut, older int) {
	ended := make(chan struct{})
	go func() {
		f.done.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return 0, 0
	case <-ctx.Done():
	}
	f.mu.Lock()
	rest := make([]*connection, 0, len(f.conns))
	for c := range f.conns {
		rest = append(rest, c)
		if c.began.Before(since) {
			older++
		}
	}
	f.mu.Unlock()
	for _, c := range rest {
		c.abort()
	}
	<-ended
	return len(rest), older
}

// Adopt serves a connection that was accepted elsewhere. It owns fd.
func (f *Forwarder) Adopt(fd int, l *listener.Listener) {
	file := os.NewFile(uintptr(fd), "client of "+l.Name)
	conn, err := net.FileConn(file)
	_ = file.Close()
	if err != nil {
		f.log.Error("adopting a connection failed", "listener", l.Name, "error", err)
		return
	}
	f.serve(conn.(*net.TCPConn), l)
}
