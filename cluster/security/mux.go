package security

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"
)

const (
	defaultHandshakeTimeout = 5 * time.Second
	defaultHandshakes       = 256
	queued                  = 64 // finished connections that one protocol may leave unaccepted
)

// MuxConfig says how a Mux is to be made.
type MuxConfig struct {
	Listener  net.Listener // of the control port, plain TCP; the Mux closes it
	Identity  *Identity
	Authorize Authorize // nil: every node with a certificate of the cluster
	Logger    *slog.Logger
	// HandshakeTimeout bounds the TLS handshake of one connection. Default 5s.
	HandshakeTimeout time.Duration
	// Handshakes is how many may be under way at once; further connections
	// wait in the kernel's queue. Default 256.
	Handshakes int
}

// Mux takes the connections of the control port, does their TLS handshakes, and
// hands them out by protocol. The listeners that it gives accept *tls.Conn whose
// handshake is done.
type Mux struct {
	config    *tls.Config
	listener  net.Listener
	logger    *slog.Logger
	timeout   time.Duration
	slots     chan struct{}
	protocols map[string]*queue // never changed after NewMux
}

// NewMux makes a Mux. It starts nothing.
func NewMux(c MuxConfig) *Mux {
	if c.HandshakeTimeout <= 0 {
		c.HandshakeTimeout = defaultHandshakeTimeout
	}
	if c.Handshakes <= 0 {
		c.Handshakes = defaultHandshakes
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	m := &Mux{
		config:    c.Identity.ServerTLS(c.Authorize),
		listener:  c.Listener,
		logger:    c.Logger,
		timeout:   c.HandshakeTimeout,
		slots:     make(chan struct{}, c.Handshakes),
		protocols: make(map[string]*queue),
	}
	for _, proto := range []string{ProtoGRPC, ProtoRaft, ProtoLease, ProtoJoin} {
		m.protocols[proto] = &queue{addr: c.Listener.Addr(), conns: make(chan net.Conn, queued), done: make(chan struct{})}
	}
	return m
}

// GRPC gives the connections of the control API. Serve them with
// Identity.ServerCredentials.
func (m *Mux) GRPC() net.Listener { return m.protocols[ProtoGRPC] }

// Raft gives the connections of Raft's transport.
func (m *Mux) Raft() net.Listener { return m.protocols[ProtoRaft] }

// Lease gives the connections by which members ask for leases.
func (m *Mux) Lease() net.Listener { return m.protocols[ProtoLease] }

// Join gives the connections of nodes that want to join.
func (m *Mux) Join() net.Listener { return m.protocols[ProtoJoin] }

// Run accepts until ctx ends, then closes the port and the listeners, and
// returns when no handshake is under way any more. Connections that were handed
// out belong to those who accepted them. The error is the port's, if it failed
// before ctx ended.
func (m *Mux) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var handshakes sync.WaitGroup
	defer func() {
		cancel()
		handshakes.Wait()
		for _, q := range m.protocols {
			_ = q.Close()
			q.discard()
		}
	}()
	stop := context.AfterFunc(ctx, func() { _ = m.listener.Close() })
	defer stop()

	backoff := 5 * time.Millisecond
	for {
		select {
		case m.slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		conn, err := m.listener.Accept()
		if err != nil {
			<-m.slots
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			// Out of descriptors, say: what is connected goes on, and the port
			// comes back when there is room.
			m.logger.Warn("control port cannot accept", "error", err, "retry_in", backoff)
			select {
			case <-time.After(backoff):
			case <-ctx.Done():
				return nil
			}
			backoff = min(2*backoff, time.Second)
			continue
		}
		backoff = 5 * time.Millisecond
		handshakes.Go(func() {
			defer func() { <-m.slots }()
			m.handshake(ctx, conn)
		})
	}
}

// handshake brings one connection to its protocol, or closes it.
func (m *Mux) handshake(ctx context.Context, raw net.Conn) {
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	conn := tls.Server(raw, m.config)
	if err := conn.HandshakeContext(ctx); err != nil {
		m.logger.Info("control connection refused", "remote", raw.RemoteAddr().String(), "error", err)
		_ = raw.Close()
		return
	}
	state := conn.ConnectionState()
	q, ok := m.protocols[state.NegotiatedProtocol]
	if !ok {
		m.logger.Info("control connection refused", "remote", raw.RemoteAddr().String(), "error", "it asks for none of the port's protocols by ALPN")
		_ = raw.Close()
		return
	}
	if !q.put(ctx, conn) {
		m.logger.Info("control connection dropped", "remote", raw.RemoteAddr().String(), "protocol", state.NegotiatedProtocol, "error", "nobody takes this protocol's connections")
		_ = raw.Close()
	}
}

// queue is the listener of one protocol.
type queue struct {
	addr  net.Addr
	conns chan net.Conn
	once  sync.Once
	done  chan struct{} // closed by Close
}

func (q *queue) put(ctx context.Context, conn net.Conn) bool {
	select {
	case <-q.done:
		return false
	default:
	}
	select {
	case q.conns <- conn:
		return true
	case <-q.done:
		return false
	case <-ctx.Done():
		return false
	}
}

// Accept implements net.Listener.
func (q *queue) Accept() (net.Conn, error) {
	select {
	case <-q.done:
		return nil, net.ErrClosed
	default:
	}
	select {
	case conn := <-q.conns:
		return conn, nil
	case <-q.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. The port and its other protocols stay open.
func (q *queue) Close() error {
	q.once.Do(func() { close(q.done) })
	return nil
}

// Addr implements net.Listener: the control port's address.
func (q *queue) Addr() net.Addr { return q.addr }

// discard closes what was put and never accepted. No put may follow.
func (q *queue) discard() {
	for {
		select {
		case conn := <-q.conns:
			_ = conn.Close()
		default:
			return
		}
	}
}
