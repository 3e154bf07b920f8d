// Package probe finds out whether this node's data plane serves, whatever its
// process says of itself: it connects to each address of each listener, by the
// loopback interface, as a client would; asks each event loop for an answer; and
// looks whether the disk or the descriptors are used up. What it finds closes
// gates: package node.
package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Kind is what is said to a listener.
type Kind string

// The kinds.
const (
	Stream   Kind = "stream"   // read a word that the event loop sends
	HTTP     Kind = "http"     // a request
	HTTPS    Kind = "https"    // TLS, and a request
	Datagram Kind = "datagram" // one that comes back
)

// Key names an address of a listener.
type Key struct {
	Listener string
	Address  netip.AddrPort
}

// Target is what is probed, and how.
type Target struct {
	Key
	Kind     Kind
	Interval time.Duration // from one probe to the next, above 0; half of it while one has failed
	Timeout  time.Duration // of one, above 0
	Fall     int           // failures in a row until it counts, at least 1
}

// Door is the proxy: it answers what comes from a port of the loopback interface
// that was announced to it.
type Door interface {
	Expect(kind Kind, port uint16)
	Forget(kind Kind, port uint16)
}

// Answers are what the proxy says to probes.
type Answers struct {
	Word   string // to Stream
	Status int    // to HTTP and HTTPS
}

// asker makes the probes of one target, one at a time.
type asker struct {
	target  Target
	door    Door
	answers Answers
	tls     *tls.Config
	request []byte
}

func newAsker(t Target, door Door, answers Answers) *asker {
	a := &asker{target: t, door: door, answers: answers}
	a.request = []byte("GET / HTTP/1.1\r\nHost: probe.pharos.invalid\r\nConnection: close\r\n\r\n")
	if t.Kind == HTTPS {
		a.tls = &tls.Config{
			// Whether the loops serve is asked, not who they are: no server name
			// is told, and any certificate will do.
			InsecureSkipVerify: true,
			ClientSessionCache: tls.NewLRUClientSessionCache(1),
			NextProtos:         []string{"http/1.1"},
			// The cheapest key exchange: on the way from here to here nobody listens.
			CurvePreferences: []tls.CurveID{tls.X25519},
		}
	}
	return a
}

// Once returns what makes a single probe of a target, within the time that its
// context leaves, or a minute.
func Once(t Target, door Door, answers Answers) func(context.Context) error {
	a := newAsker(t, door, answers)
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		return a.ask(ctx)
	}
}

// ask makes one probe. ctx must have a deadline.
func (a *asker) ask(ctx context.Context) error {
	var port uint16
	dialer := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		var failed error
		err := raw.Control(func(fd uintptr) { port, failed = a.bind(int(fd)) })
		return errors.Join(err, failed)
	}}
	network := "tcp"
	if a.target.Kind == Datagram {
		network = "udp"
	}
	defer func() {
		if port != 0 {
			a.door.Forget(a.target.Kind, port)
		}
	}()
	// One that the kernel does not take is in nobody's queue: it need not be waited
	// for longer. So a VIP that was just added is not given up for the packet that
	// came before its route.
	dialing, give := context.WithTimeout(ctx, a.target.Timeout)
	defer give()
	c, err := dialer.DialContext(dialing, network, a.target.Address.String())
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0) // reset: no TIME-WAIT is left, ten times a second
	}
	// Who waits for the probe does not wait for its time to be over.
	unhook := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Now()) })
	defer unhook()
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		return err
	}
	switch a.target.Kind {
	case Datagram:
		return a.echo(c)
	case HTTP:
		return a.exchange(c)
	case HTTPS:
		secured := tls.Client(c, a.tls)
		if err := secured.HandshakeContext(ctx); err != nil {
			return err
		}
		return a.exchange(secured)
	}
	return expect(c, a.answers.Word)
}

// bind gives the socket a port of the loopback interface, and announces it before
// the first packet.
func (a *asker) bind(fd int) (uint16, error) {
	var sa unix.Sockaddr = &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	if a.target.Address.Addr().Is6() {
		sa = &unix.SockaddrInet6{Addr: netip.IPv6Loopback().As16()}
	}
	if err := unix.Bind(fd, sa); err != nil {
		return 0, os.NewSyscallError("bind", err)
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		return 0, os.NewSyscallError("getsockname", err)
	}
	var port int
	switch b := bound.(type) {
	case *unix.SockaddrInet4:
		port = b.Port
	case *unix.SockaddrInet6:
		port = b.Port
	}
	a.door.Expect(a.target.Kind, uint16(port))
	return uint16(port), nil
}

// exchange makes the request, and looks at the status line alone.
func (a *asker) exchange(c io.ReadWriter) error {
	if _, err := c.Write(a.request); err != nil {
		return err
	}
	return expect(c, "HTTP/1.1 "+strconv.Itoa(a.answers.Status)+" ")
}

// expect reads what has to come.
func expect(c io.Reader, word string) error {
	got := make([]byte, len(word))
	if n, err := io.ReadFull(c, got); err != nil {
		if n > 0 && !strings.HasPrefix(word, string(got[:n])) {
			return wrongAnswer(got[:n])
		}
		return err
	}
	if string(got) != word {
		return wrongAnswer(got)
	}
	return nil
}

// echo sends a datagram and takes it back.
func (a *asker) echo(c net.Conn) error {
	sent := []byte(a.answers.Word)
	if _, err := c.Write(sent); err != nil {
		return err
	}
	got := make([]byte, len(sent)+1)
	n, err := c.Read(got)
	if err == nil && string(got[:n]) != string(sent) {
		return wrongAnswer(got[:n])
	}
	return err
}
