// Package backend is the server behind the lab's pools: it says who it is and
// who asked, so that a client can tell which node carried its request.
package backend

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Config says what a backend serves and where.
type Config struct {
	Name   string // in every answer
	HTTP   string // host:port to listen on; empty: no HTTP
	TCP    string // host:port to listen on; empty: no echo
	Logger *slog.Logger
}

// Server is a backend.
type Server struct {
	config Config
	// listen is net.ListenConfig's, or a test's.
	listen func(ctx context.Context, address string) (net.Listener, error)
}

// New makes a backend. It starts nothing.
func New(c Config) (*Server, error) {
	if c.HTTP == "" && c.TCP == "" {
		return nil, errors.New("backend: no address to listen on, neither for HTTP nor for TCP")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	listen := func(ctx context.Context, address string) (net.Listener, error) {
		var lc net.ListenConfig
		return lc.Listen(ctx, "tcp", address)
	}
	return &Server{config: c, listen: listen}, nil
}

// shutdownTimeout is how long requests in flight may take once Run is to end.
const shutdownTimeout = 2 * time.Second

// Run serves until ctx ends, or a listener fails.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, service := range []struct {
		name, address string
		serve         func(context.Context, net.Listener) error
	}{{"http", s.config.HTTP, s.serveHTTP}, {"tcp", s.config.TCP, s.serveEcho}} {
		if service.address == "" {
			continue
		}
		ln, err := s.listen(ctx, service.address)
		if err != nil {
			cancel(nil)
			return fmt.Errorf("backend %s: listen for %s: %w", s.config.Name, service.name, err)
		}
		s.config.Logger.Info("backend listens", "backend", s.config.Name, "protocol", service.name, "address", ln.Addr().String())
		wg.Go(func() {
			if err := service.serve(ctx, ln); err != nil {
				cancel(fmt.Errorf("backend %s: serve %s: %w", s.config.Name, service.name, err))
			}
		})
	}
	<-ctx.Done()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func (s *Server) serveHTTP(ctx context.Context, ln net.Listener) error {
	server := &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       5 * time.Minute, // above any proxy's: the proxy closes first
		ErrorLog:          slog.NewLogLogger(s.config.Logger.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	timeout, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := server.Shutdown(timeout); err != nil {
		server.Close()
	}
	<-served
	return nil
}
