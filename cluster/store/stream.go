package store

import (
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// stream is raft's view of a Transport. It gives the node's advertised address
// in place of the listener's, and owns every connection: raft's transport
// leaves its idle ones open when it is closed.
type stream struct {
	t       Transport
	address string

	mu     sync.Mutex
	conns  map[*conn]struct{}
	closed bool
}

type conn struct {
	net.Conn
	owner *stream
}

type address string

func (a address) Network() string { return "tcp" }
func (a address) String() string  { return string(a) }

func newStream(t Transport, advertised string) *stream {
	return &stream{t: t, address: advertised, conns: map[*conn]struct{}{}}
}

func (s *stream) Addr() net.Addr { return address(s.address) }

func (s *stream) Accept() (net.Conn, error) { return s.adopt(s.t.Accept()) }

func (s *stream) Dial(to raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	return s.adopt(s.t.Dial(string(to), timeout))
}

func (s *stream) adopt(c net.Conn, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	owned := &conn{Conn: c, owner: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = c.Close()
		return nil, net.ErrClosed
	}
	s.conns[owned] = struct{}{}
	return owned, nil
}

// Close ends the listener and every connection. A second call does nothing.
func (s *stream) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	open := s.conns
	s.conns = nil
	s.mu.Unlock()
	err := s.t.Close()
	for c := range open {
		_ = c.Conn.Close()
	}
	return err
}

func (c *conn) Close() error {
	c.owner.mu.Lock()
	delete(c.owner.conns, c)
	c.owner.mu.Unlock()
	return c.Conn.Close()
}
