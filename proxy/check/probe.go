// Package check runs the active health checks of a pool's servers: it dials,
// asks and judges the answer. What follows from a row of results, and when the
// next check is due, is decided in proxy/policy/health.
package check

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"
)

// Probe asks one server once. A nil error is a pass; an error's text is the
// reason that operators read. It returns when ctx, which has a deadline, ends.
type Probe func(ctx context.Context, server netip.AddrPort) error

// Compile makes the probe of a spec. One probe serves any number of servers,
// at one time as well. It fails on a body expression that does not compile,
// and on an unknown kind.
func Compile(s Spec) (Probe, error) {
	switch s.Kind {
	case "", KindTCP:
		return tcpProbe(secure(s.TLS), s.Greeting), nil
	case KindHTTP:
		return httpProbe(s)
	case KindGRPC:
		return grpcProbe(s), nil
	}
	return nil, fmt.Errorf("check: unknown kind %q", s.Kind)
}

// tcpProbe passes when a connection can be made, with TLS if there is any.
func tcpProbe(config *tls.Config, greeting string) Probe {
	return func(ctx context.Context, server netip.AddrPort) error {
		c, err := open(ctx, server, config, greeting)
		if err != nil {
			return err
		}
		c.close()
		return nil
	}
}

// secure prepares a TLS configuration for checks that speak one of protocols
// (none: as configured).
func secure(config *tls.Config, protocols ...string) *tls.Config {
	if config == nil {
		return nil
	}
	config = config.Clone()
	if config.ServerName == "" {
		// Nothing says whom the certificate should be for.
		config.InsecureSkipVerify = true
	}
	if len(protocols) > 0 {
		config.NextProtos = protocols
	}
	return config
}

// connection is the connection of one check. Everything on it fails when the
// check's context ends.
type connection struct {
	net.Conn
	tls    *tls.Conn // nil: in clear
	forget func() bool
}

// dialer leaves out what a connection of some milliseconds does not need:
// keep-alives cost four system calls.
var dialer = net.Dialer{KeepAlive: -1}

func open(ctx context.Context, server netip.AddrPort, config *tls.Config, greeting string) (*connection, error) {
	raw, err := dialer.DialTCP(ctx, "tcp", netip.AddrPort{}, server)
	if err != nil {
		return nil, &failure{"connect", reason(err)}
	}
	// Reset instead of FIN: the server has nothing left to read, and no socket
	// lingers in TIME-WAIT for each check.
	_ = raw.SetLinger(0)
	c := &connection{Conn: raw}
	if deadline, ok := ctx.Deadline(); ok {
		_ = raw.SetDeadline(deadline)
	}
	c.forget = context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	if greeting != "" {
		if _, err := io.WriteString(raw, greeting); err != nil {
			c.close()
			return nil, &failure{"connect", reason(err)}
		}
	}
	if config == nil {
		return c, nil
	}
	c.tls = tls.Client(raw, config)
	c.Conn = c.tls
	// The deadline of the socket bounds it, without a goroutine for each.
	if err := c.tls.HandshakeContext(context.Background()); err != nil {
		c.close()
		return nil, &failure{"tls", reason(err)}
	}
	return c, nil
}

// speaks reports whether protocol was agreed on, or there is no TLS to agree
// on one.
func (c *connection) speaks(protocol string) bool {
	return c.tls == nil || c.tls.ConnectionState().NegotiatedProtocol == protocol
}

func (c *connection) close() {
	c.forget()
	_ = c.Close()
}
