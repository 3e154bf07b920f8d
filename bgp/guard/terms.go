package guard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// Password is a key of TCP-MD5 (RFC 2385), of at most MaxPassword octets; none:
// segments are not signed. It is never shown by fmt.
type Password string

// MaxPassword is what the kernel takes (TCP_MD5SIG_MAXKEYLEN).
const MaxPassword = 80

// Format hides the password from fmt, whatever the verb.
func (p Password) Format(f fmt.State, _ rune) {
	shown := "(secret)"
	if p == "" {
		shown = "(none)"
	}
	_, _ = io.WriteString(f, shown)
}

// Terms are on what a connection with a router is accepted or made.
type Terms struct {
	Router   netip.Addr
	Password Password
	// TTLSecurity is how many hops away the router may be, 1 to 254 (GTSM, RFC
	// 5082 3): what comes from farther is dropped by the kernel. 0: from
	// anywhere. Not with Multihop.
	TTLSecurity int
	// Multihop is the TTL that is sent. 0: 255, which a router with TTL security
	// wants, and any other takes.
	Multihop int
}

const maxTTL = 255

// sent is the TTL of our packets.
func (t Terms) sent() int {
	if t.Multihop > 0 {
		return t.Multihop
	}
	return maxTTL
}

// required is the least TTL of the router's packets. 0: any.
func (t Terms) required() int {
	if t.TTLSecurity == 0 {
		return 0
	}
	return maxTTL + 1 - t.TTLSecurity
}

// Dial opens a connection to the router's port, from source if that is valid.
// Every socket of Go is close-on-exec, so no child can keep it open when this
// process is killed.
func (t Terms) Dial(ctx context.Context, port uint16, source netip.Addr, timeout time.Duration) (*net.TCPConn, error) {
	d := net.Dialer{
		Timeout: timeout,
		Control: func(network, _ string, c syscall.RawConn) error {
			return control(c, func(fd int) error {
				return errors.Join(setMarks(fd, network == "tcp6"), t.set(fd, t.Router.Is6()), setKey(fd, t.Router, t.Password))
			})
		},
	}
	if source.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(source, 0))
	}
	conn, err := d.DialContext(ctx, "tcp", netip.AddrPortFrom(t.Router, port).String())
	if err != nil {
		return nil, t.explain(err, source)
	}
	return conn.(*net.TCPConn), nil
}

// explain adds to an error of Dial what the operator can do about it.
func (t Terms) explain(err error, source netip.Addr) error {
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.EADDRNOTAVAIL) && source.IsValid():
		return fmt.Errorf("source %s is not an address of this node: %w", source, err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w: is BGP running on the router, and does it accept this node?", err)
	case errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("%w: %s", err, t.Suspicion())
	}
	return err
}

// Suspicion says what may be the reason of a router's silence, in words for
// operators. Packets that
// TCP-MD5 or TTL security refuse are dropped without an answer.
func (t Terms) Suspicion() string {
	switch {
	case t.Password != "" && t.TTLSecurity > 0:
		return fmt.Sprintf("is the router up, does it have the same password (TCP-MD5), and is it within %s with TTL security on?", hops(t.TTLSecurity))
	case t.Password != "":
		return "is the router up, and does it have the same password (TCP-MD5)?"
	case t.TTLSecurity > 0:
		return fmt.Sprintf("is the router up, within %s, and with TTL security on, and does it ask for a password (TCP-MD5)?", hops(t.TTLSecurity))
	case t.Multihop > 0:
		return fmt.Sprintf("is the router up and within %s, and does it ask for a password (TCP-MD5)?", hops(t.Multihop))
	}
	return "is the router up, and does it ask for a password (TCP-MD5)?"
}

func hops(n int) string {
	if n == 1 {
		return "1 hop"
	}
	return fmt.Sprintf("%d hops", n)
}

// Change makes a connection follow other terms with the same router. Both must
// have a password or neither: the kernel cannot begin or cease to sign.
func (t Terms) Change(conn *net.TCPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	return control(raw, func(fd int) error {
		err := t.set(fd, t.Router.Is6())
		if t.Password != "" {
			err = errors.Join(err, setKey(fd, t.Router, t.Password))
		}
		return err
	})
}

// control runs f on a connection's descriptor.
func control(c syscall.RawConn, f func(fd int) error) error {
	var err error
	return errors.Join(c.Control(func(fd uintptr) { err = f(int(fd)) }), err)
}
