// Package l7 proxies HTTP/1.1 on event loops: a session state machine for
// each client connection, which knows nothing of how bytes move, on an engine
// that moves them.
package l7

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pharos-lb/pharos/proxy/accesslog"
	"github.com/pharos-lb/pharos/proxy/l7/engine"
	"github.com/pharos-lb/pharos/proxy/l7/engine/choice"
	"github.com/pharos-lb/pharos/proxy/l7/engine/secure"
	"github.com/pharos-lb/pharos/proxy/l7/engine/socket"
	"github.com/pharos-lb/pharos/proxy/listener"
)

// Server serves HTTP listeners on event loops. Make one with [New], start it
// with Run.
type Server struct {
	shared
	engine  choice.Choice
	loops   []engine.Driver
	workers map[engine.Loop]*worker // read-only after New
	ending  atomic.Bool
}

// Option is a choice that New leaves to its caller.
type Option func(*options)

type options struct {
	engine choice.Kind
	access *accesslog.Log
}

// WithEngine says which engine moves the bytes; choice.Auto without it.
func WithEngine(k choice.Kind) Option { return func(o *options) { o.engine = k } }

// WithAccessLog has requests logged; without it, none are.
func WithAccessLog(l *accesslog.Log) Option { return func(o *options) { o.access = l } }

// New returns a server of so many loops, at least 1. It holds descriptors
// from here on: Run must be called, and closes them. It fails if the engine
// asked for does not work here.
func New(log *slog.Logger, timeouts Timeouts, loops int, opts ...Option) (*Server, error) {
	o := options{engine: choice.Auto}
	for _, set := range opts {
		set(&o)
	}
	chosen, err := choice.Make(o.engine)
	if err != nil {
		return nil, err
	}
	s := &Server{shared: shared{log: log, access: o.access, handshakes: secure.NewHandshakes(secure.Limits{}), timeouts: timeouts}, engine: chosen, workers: make(map[engine.Loop]*worker)}
	for range loops {
		l, err := chosen.New()
		if err != nil {
			s.ending.Store(true)
			return nil, errors.Join(fmt.Errorf("make an event loop: %w", err), s.Run(context.Background()))
		}
		s.loops = append(s.loops, l)
		s.workers[l] = newWorker(&s.shared, l)
	}
	return s, nil
}

// Engine is the name of the engine that moves the bytes, and why it is not
// io_uring, if it might have been.
func (s *Server) Engine() (name string, refused error) {
	return string(s.engine.Engine), s.engine.Refused
}

// Run runs the loops until ctx ends, or one fails, which ends all. Then it
// resets the connections that are left, and returns when all is closed.
// Acceptors must be stopped before ctx ends.
func (s *Server) Run(ctx context.Context) error {
	errs := make([]error, len(s.loops))
	var running sync.WaitGroup
	stop := context.AfterFunc(ctx, s.end)
	defer stop()
	for i, l := range s.loops {
		running.Go(func() {
			if errs[i] = l.Run(s.ending.Load); errs[i] != nil {
				s.end()
			}
		})
	}
	running.Wait()
	s.handshakes.Close()
	return errors.Join(errs...)
}

func (s *Server) end() {
	s.ending.Store(true)
	for _, l := range s.loops {
		l.Post(func() { s.workers[l].stop() })
	}
}

// Acceptor accepts connections from one socket for one listener.
type Acceptor struct{ acceptor *engine.Acceptor }

// Acceptor returns an acceptor of a listening socket's descriptor, which it
// owns, for l. It does nothing until Start.
func (s *Server) Acceptor(fd int, l *listener.Listener) *Acceptor {
	return s.AcceptorFor(fd, l.Name, s.Sessions(l))
}

// Sessions makes the sessions of l's clients, each on its connection's loop.
func (s *Server) Sessions(l *listener.Listener) func(engine.Loop, engine.Conn) engine.Handler {
	return func(loop engine.Loop, c engine.Conn) engine.Handler {
		return s.workers[loop].accept(l, c)
	}
}

// AcceptorFor is Acceptor for connections that another package handles, on the
// same loops; their handlers are made by handler, on the loop of each. name is
// the listener's, for the log. What it accepts is not counted by the server,
// and not drained: that is the other package's.
func (s *Server) AcceptorFor(fd int, name string, handler func(engine.Loop, engine.Conn) engine.Handler) *Acceptor {
	return &Acceptor{engine.NewAcceptor(fd, s.loops, func(loop engine.Driver) func(engine.Conn) engine.Handler {
		return func(c engine.Conn) engine.Handler { return handler(loop, c) }
	}, func(err error) {
		s.log.Error("accepting a connection failed", "listener", name, "error", err)
	})}
}

// Loops are the server's loops.
func (s *Server) Loops() []engine.Loop {
	loops := make([]engine.Loop, len(s.loops))
	for i, l := range s.loops {
		loops[i] = l
	}
	return loops
}

// Start begins to accept.
func (a *Acceptor) Start() { a.acceptor.Start() }

// Stop ends it, and returns when nothing more is accepted.
func (a *Acceptor) Stop() { a.acceptor.Stop() }

// Adopt serves a connection that was accepted elsewhere. It owns fd.
func (s *Server) Adopt(fd int, l *listener.Listener) { s.AdoptFor(fd, s.Sessions(l)) }

// AdoptFor is Adopt for a connection that another package handles; see
// AcceptorFor.
func (s *Server) AdoptFor(fd int, handler func(engine.Loop, engine.Conn) engine.Handler) {
	peer := socket.Peer(fd)
	loop := s.loops[0]
	for _, other := range s.loops {
		if other.Load() < loop.Load() {
			loop = other
		}
	}
	if !loop.Post(func() {
		loop.Adopt(fd, peer, func(c engine.Conn) engine.Handler { return handler(loop, c) })
	}) {
		_ = unix.Close(fd)
	}
}

// Open is the number of client connections.
func (s *Server) Open() int { return int(s.open.Load()) }

// InFlight is the number of requests being served.
func (s *Server) InFlight() int { return int(s.inFlight.Load()) }

// Mark begins a new generation of requests: Drain tells how many it cut of
// those before.
func (s *Server) Mark() { s.generation.Add(1) }

// CloseIdle closes the idle connections of clients whose listener is closing,
// soon.
func (s *Server) CloseIdle() { s.closeIdle(false, 0) }

func (s *Server) closeIdle(unused bool, quiet time.Duration) {
	for _, l := range s.loops {
		l.Post(func() { s.workers[l].closeIdle(unused, quiet) })
	}
}

// AwaitQuiet waits until all client connections are closed or ctx ends. Unlike
// Drain it cuts nothing, and closes only connections that have been idle for as
// long as quiet: clients that go on asking are sent away with a response.
// Every listener must be closing, and every acceptor stopped.
func (s *Server) AwaitQuiet(ctx context.Context, quiet time.Duration) {
	s.settle()
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for s.open.Load() > 0 || s.handshakes.Open() > 0 {
		s.closeIdle(true, quiet)
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		}
	}
}

// Drain waits until all client connections are closed or ctx ends, cuts the
// rest, and returns how many of those had a request in flight: all, and the
// ones since before the last Mark. Every listener must be closing, and every
// acceptor stopped.
func (s *Server) Drain(ctx context.Context) (cut, older int) {
	s.settle()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for s.open.Load() > 0 || s.handshakes.Open() > 0 {
		s.closeIdle(true, 0)
		select {
		case <-look.C:
			continue
		case <-ctx.Done():
		}
		return s.abortAll()
	}
	return 0, 0
}

func (s *Server) abortAll() (cut, older int) {
	type count struct{ cut, older int }
	counts := make(chan count, len(s.loops))
	waiting := 0
	for _, l := range s.loops {
		if l.Post(func() {
			c, o := s.workers[l].abortAll()
			counts <- count{c, o}
		}) {
			waiting++
		}
	}
	for range waiting {
		c := <-counts
		cut, older = cut+c.cut, older+c.older
	}
	return cut, older
}

// settle waits until the loops have run what was posted before: connections
// may be on their way from one to another.
func (s *Server) settle() {
	ran := make(chan struct{}, len(s.loops))
	waiting := 0
	for _, l := range s.loops {
		if l.Post(func() { ran <- struct{}{} }) {
			waiting++
		}
	}
	for range waiting {
		<-ran
	}
}
