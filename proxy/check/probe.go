// Package check runs the active health checks of a pool's servers: it dials,
// asks and judges the answer. What follows from a row of results is decided
// in proxy/policy/health.
package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"syscall"
)

// Probe asks one server once. A nil error is a pass; an error's text is the
// reason that operators read. It must return when ctx ends.
type Probe func(ctx context.Context, server netip.AddrPort) error

// TCP passes when a TCP connection can be made.
func TCP() Probe {
	return func(ctx context.Context, server netip.AddrPort) error {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", server.String())
		if err != nil {
			return fmt.Errorf("connect: %s", reason(err))
		}
		// Reset instead of FIN: the server has nothing to read, and no socket
		// lingers in TIME-WAIT for each check.
		_ = c.(*net.TCPConn).SetLinger(0)
		return c.Close()
	}
}

// StatusError is an answer whose status was not among the expected ones.
type StatusError struct{ Status int }

func (e *StatusError) Error() string { return fmt.Sprintf("status %d", e.Status) }

// maxBody bounds how much of a check's answer is read.
const maxBody = 64 << 10

// HTTP passes when a GET of path, which begins with a slash, on a new
// connection is answered with one of the expected statuses (none: any 2xx or
// 3xx). Redirects are not followed.
func HTTP(path string, expect []int) Probe {
	return func(ctx context.Context, server netip.AddrPort) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+server.String()+path, nil)
		if err != nil {
			return fmt.Errorf("request: %w", err)
		}
		req.Header.Set("User-Agent", "pharos-check")
		req.Header.Set("Accept", "*/*")
		transport := &http.Transport{DisableKeepAlives: true, DisableCompression: true, Protocols: http1Only()}
		defer transport.CloseIdleConnections()
		res, err := transport.RoundTrip(req)
		if err != nil {
			var op *net.OpError
			if errors.As(err, &op) && op.Op == "dial" {
				return fmt.Errorf("connect: %s", reason(err))
			}
			return fmt.Errorf("http: %s", reason(err))
		}
		defer func() { _ = res.Body.Close() }()
		// A server that sends a head and then dies is not healthy.
		if _, err := io.Copy(io.Discard, io.LimitReader(res.Body, maxBody)); err != nil {
			return fmt.Errorf("http body: %s", reason(err))
		}
		if ok := slices.Contains(expect, res.StatusCode); ok || len(expect) == 0 && res.StatusCode >= 200 && res.StatusCode < 400 {
			return nil
		}
		return &StatusError{res.StatusCode}
	}
}

func http1Only() *http.Protocols {
	var p http.Protocols
	p.SetHTTP1(true)
	return &p
}

// reason cuts an error down to what differs between failures: the address is
// known to the reader, and a constant text groups well.
func reason(err error) string {
	var errno syscall.Errno
	switch {
	case errors.As(err, &errno):
		return errno.Error()
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "timeout"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "closed by the server"
	}
	return err.Error()
}
