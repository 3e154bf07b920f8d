package handover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Request asks the node on this machine to hand over to a new process.
type Request struct {
	// Binary is the absolute path of the program to start. Empty: the one that
	// the node was started with, as it is now.
	Binary string `json:"binary,omitempty"`
	// StartTimeout is how long the new process may take until it is ready to
	// take over. 0: DefaultStartTimeout.
	StartTimeout time.Duration `json:"start_timeout,omitempty"`
}

// DefaultStartTimeout is far above what a start takes: a few seconds for the
// first health checks.
const DefaultStartTimeout = 30 * time.Second

// Answer says what came of it.
type Answer struct {
	Version string        `json:"version,omitempty"` // of the new process's software
	Pid     int           `json:"pid,omitempty"`
	Took    time.Duration `json:"took,omitempty"`
	Code    Code          `json:"code,omitempty"` // why it did not happen; empty: it did
	Error   string        `json:"error,omitempty"`
}

// socketFile is where a node takes Requests, in its data directory.
const socketFile = "upgrade.sock"

// ErrNoNode says that no node takes Requests in a data directory.
var ErrNoNode = errors.New("no node runs here")

// inDir calls f with a path of the socket in dir that is short enough for an
// address (108 octets, unix(7)), however long dir is.
func inDir(dir string, f func(path string) error) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	return f(filepath.Join("/proc/self/fd", fmt.Sprint(d.Fd()), socketFile))
}

// Requests takes what `pharos upgrade` asks for.
type Requests struct {
	listener *net.UnixListener
}

// Listen takes Requests in the data directory dir, in the place of the process
// that did before. Only the user that runs the node, and root, are heard.
func Listen(dir string) (*Requests, error) {
	var r Requests
	err := inDir(dir, func(path string) error {
		// Under another name first, so that somebody hears at any time.
		next := path + ".next"
		if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: next, Net: "unix"})
		if err != nil {
			return err
		}
		l.SetUnlinkOnClose(false) // by then it may be the successor's
		r.listener = l
		if err := os.Chmod(next, 0o600); err != nil {
			return err
		}
		return os.Rename(next, path)
	})
	if err != nil {
		if r.listener != nil {
			_ = r.listener.Close()
		}
		return nil, fmt.Errorf("take requests for upgrades in %s: %w", dir, err)
	}
	return &r, nil
}

// Run answers by upgrade, one request at a time, until ctx ends. What is being
// answered then still is.
func (r *Requests) Run(ctx context.Context, upgrade func(Request) Answer) error {
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = r.listener.Close()
		close(closed)
	})
	defer stop()
	var answering sync.WaitGroup
	defer answering.Wait()
	for {
		conn, err := r.listener.AcceptUnix()
		if err != nil {
			if ctx.Err() != nil {
				<-closed
				return nil
			}
			return fmt.Errorf("take a request for an upgrade: %w", err)
		}
		answering.Go(func() { answer(ctx, conn, upgrade) })
	}
}

// askTimeout bounds how long a request may take to be told.
const askTimeout = 5 * time.Second

func answer(ctx context.Context, conn *net.UnixConn, upgrade func(Request) Answer) {
	defer func() { _ = conn.Close() }()
	unasked := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer unasked()
	_ = conn.SetReadDeadline(time.Now().Add(askTimeout))
	var reply Answer
	var request Request
	if err := trusted(conn); err != nil {
		reply = Answer{Code: Refused, Error: err.Error()}
	} else if err := json.NewDecoder(conn).Decode(&request); err != nil {
		reply = Answer{Code: Refused, Error: fmt.Sprintf("the request cannot be read: %v", err)}
	} else {
		reply = upgrade(request)
	}
	_ = conn.SetWriteDeadline(time.Now().Add(askTimeout))
	_ = json.NewEncoder(conn).Encode(reply) // who asked may be gone
}

// trusted says whether the other side may have this process start a program.
func trusted(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	controlErr := raw.Control(func(fd uintptr) { peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(controlErr, err); err != nil {
		return err
	}
	if peer.Uid != 0 && int(peer.Uid) != os.Geteuid() {
		return fmt.Errorf("user %d may not upgrade a node of user %d", peer.Uid, os.Geteuid())
	}
	return nil
}

// Ask has the node whose data directory is dir hand over, and waits for the
// outcome. The error is a *Failure if the node answered that it carries on;
// ErrNoNode if none is there to ask.
func Ask(ctx context.Context, dir string, request Request) (Answer, error) {
	var conn net.Conn
	err := inDir(dir, func(path string) (err error) {
		conn, err = (&net.Dialer{}).DialContext(ctx, "unix", path)
		return err
	})
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return Answer{}, fmt.Errorf("%w: nothing answers on %s: is `pharos serve` running, with this --dir?", ErrNoNode, filepath.Join(dir, socketFile))
	}
	if err != nil {
		return Answer{}, fmt.Errorf("ask the node in %s: %w", dir, err)
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	err = json.NewEncoder(conn).Encode(request)
	var reply Answer
	if err == nil {
		err = json.NewDecoder(conn).Decode(&reply)
	}
	if err != nil {
		return Answer{}, fmt.Errorf("the node in %s did not say what came of the upgrade: see its log and `pharos status`: %w", dir, err)
	}
	if reply.Code != "" {
		return reply, &Failure{reply.Code, errors.New(reply.Error)}
	}
	return reply, nil
}
