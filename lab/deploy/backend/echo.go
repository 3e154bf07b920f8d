package backend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// serveEcho sends "NAME PEER\n" on each connection, and then everything back.
func (s *Server) serveEcho(ctx context.Context, ln net.Listener) error {
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		open = map[net.Conn]struct{}{}
	)
	defer wg.Wait()
	stop := context.AfterFunc(ctx, func() {
		ln.Close()
		mu.Lock()
		defer mu.Unlock()
		for conn := range open {
			conn.Close()
		}
	})
	defer stop()
	for {
		conn, err := ln.Accept()
		if ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		if err != nil {
			// Out of descriptors, say: it passes.
			s.config.Logger.Warn("backend cannot accept", "backend", s.config.Name, "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(10 * time.Millisecond):
			}
			continue
		}
		mu.Lock()
		open[conn] = struct{}{}
		mu.Unlock()
		if ctx.Err() != nil {
			conn.Close() // the closing of all may have come before it was in the set
		}
		wg.Go(func() {
			defer func() {
				mu.Lock()
				delete(open, conn)
				mu.Unlock()
				conn.Close()
			}()
			if _, err := fmt.Fprintf(conn, "%s %s\n", s.config.Name, conn.RemoteAddr()); err == nil {
				io.Copy(conn, conn)
			}
		})
	}
}
