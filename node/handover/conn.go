package handover

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Conn is one end of the line between the two processes. One goroutine uses it.
type Conn struct{ conn *net.UnixConn }

// newPair returns our end, and the descriptor of the other one.
func newPair() (*Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	other := os.NewFile(uintptr(fds[1]), "hand-over")
	ours, err := connOf(os.NewFile(uintptr(fds[0]), "hand-over"))
	if err != nil {
		_ = other.Close()
		return nil, nil, err
	}
	return ours, other, nil
}

// connOf makes a Conn of a descriptor, and owns it.
func connOf(file *os.File) (*Conn, error) {
	defer func() { _ = file.Close() }() // FileConn duplicates it
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, fmt.Errorf("use the line to the other process: %w", err)
	}
	u, ok := conn.(*net.UnixConn)
	if !ok {
		_ = conn.Close()
		return nil, fmt.Errorf("the line to the other process is a %T", conn)
	}
	return &Conn{u}, nil
}

// Close ends the line: the other side reads io.EOF.
func (c *Conn) Close() error { return c.conn.Close() }

// sendTimeout bounds how long the other side may take to read a message.
const sendTimeout = 10 * time.Second

// Send sends a message with the descriptors of its sockets and sessions, which
// the caller keeps.
func (c *Conn) Send(m Message, fds ...int) error {
	if len(fds) != m.descriptors() {
		return fmt.Errorf("send %s: %d descriptors for %d sockets and sessions", m.Kind, len(fds), m.descriptors())
	}
	header, body, err := m.encode()
	if err != nil {
		return err
	}
	_ = c.conn.SetWriteDeadline(time.Now().Add(sendTimeout))
	_, err = c.conn.Write(header[:])
	for err == nil && len(fds) > 0 {
		n := min(batch, len(fds))
		_, _, err = c.conn.WriteMsgUnix([]byte{batchOctet}, unix.UnixRights(fds[:n]...), nil)
		fds = fds[n:]
	}
	if err == nil {
		_, err = c.conn.Write(body)
	}
	if err != nil {
		return fmt.Errorf("tell the other process %q: %w", m.Kind, err)
	}
	return nil
}

// Receive waits for the next message until ctx ends. The descriptors are the
// caller's, close-on-exec. It is io.EOF when the other process has ended, or
// closed the line.
func (c *Conn) Receive(ctx context.Context) (_ Message, _ []int, err error) {
	_ = c.conn.SetReadDeadline(time.Time{})
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var fds []int
	defer func() {
		if err == nil {
			return
		}
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
		if cause := context.Cause(ctx); cause != nil && errors.Is(err, os.ErrDeadlineExceeded) {
			err = cause
		}
	}()
	var header [headerLen]byte
	if err = c.readFull(header[:], &fds); err != nil {
		return Message{}, nil, err
	}
	length, count, err := decodeHeader(header)
	if err != nil {
		return Message{}, nil, err
	}
	body := make([]byte, batches(count)+length)
	if err = c.readFull(body, &fds); err != nil {
		return Message{}, nil, err
	}
	m, err := decode(body[batches(count):], len(fds))
	if err == nil && len(fds) != count {
		err = fmt.Errorf("%w: %d descriptors were announced, and %d came: is the limit of open files too low?", ErrFormat, count, len(fds))
	}
	if err != nil {
		return Message{}, nil, err
	}
	return m, fds, nil
}

// readFull fills b, and gathers the descriptors that come with it.
func (c *Conn) readFull(b []byte, fds *[]int) error {
	control := make([]byte, unix.CmsgSpace(4*batch))
	for len(b) > 0 {
		n, oobn, flags, _, err := c.conn.ReadMsgUnix(b, control)
		if oobn > 0 {
			got, parseErr := rights(control[:oobn])
			*fds = append(*fds, got...)
			err = errors.Join(err, parseErr)
		}
		if err != nil {
			return err
		}
		if flags&unix.MSG_CTRUNC != 0 {
			return fmt.Errorf("%w: descriptors were lost: is the limit of open files too low?", ErrFormat)
		}
		b = b[n:]
	}
	return nil
}

func rights(control []byte) ([]int, error) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return nil, os.NewSyscallError("recvmsg", err)
	}
	var fds []int
	for _, m := range messages {
		if m.Header.Level != unix.SOL_SOCKET || m.Header.Type != unix.SCM_RIGHTS {
			continue
		}
		got, err := unix.ParseUnixRights(&m)
		if err != nil {
			return fds, os.NewSyscallError("recvmsg", err)
		}
		fds = append(fds, got...)
	}
	return fds, nil
}
