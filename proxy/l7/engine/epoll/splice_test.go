package epoll

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pharos-lb/pharos/proxy/l7/engine"
)

// joint passes what one connection receives on to another, spliced from the
// first byte on if that works.
type joint struct {
	from, to        engine.Conn
	copied, spliced *atomic.Int64
	closed          chan error
}

func (j *joint) Opened() {}
func (j *joint) Data(b []byte) {
	j.copied.Add(int64(len(b)))
	j.to.Send(b)
	if j.to.Pending() > 0 {
		j.from.Pause()
		return
	}
	j.from.(engine.Splicer).SpliceTo(j.to)
}

func (j *joint) Spliced(n int) bool {
	j.spliced.Add(int64(n))
	return true
}
func (j *joint) Drained()         {}
func (j *joint) EOF()             { j.to.CloseWrite() }
func (j *joint) Closed(err error) { j.closed <- err }

// resumer lets the source go on when what was sent to it is taken.
type resumer struct {
	joint
	source *joint
}

func (r *resumer) Data([]byte) {}
func (r *resumer) EOF()        {}
func (r *resumer) Drained() {
	r.source.from.(engine.Splicer).SpliceTo(r.source.to)
	r.source.from.Resume()
}

// A stream arrives whole, its end included, spliced or, where the system
// refuses that, copied.
func TestSpliceAndItsRefusal(t *testing.T) {
	for name, row := range map[string]struct {
		splice  func(from, to, n int) (int, unix.Errno)
		spliced bool
	}{
		"spliced":            {splice, true},
		"refused":            {func(int, int, int) (int, unix.Errno) { return -1, unix.EINVAL }, false},
		"forbidden":          {func(int, int, int) (int, unix.Errno) { return -1, unix.EPERM }, false},
		"a little at a time": {func(from, to, n int) (int, unix.Errno) { return splice(from, to, min(n, 1000)) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := New()
			if err != nil {
				t.Fatal(err)
			}
			l.splice = row.splice
			var done atomic.Bool
			ended := make(chan error, 1)
			go func() { ended <- l.Run(done.Load) }()
			defer func() {
				done.Store(true)
				l.Post(func() {})
				if err := <-ended; err != nil {
					t.Error(err)
				}
				if l.full != 0 || len(l.pipes) != 0 {
					t.Errorf("%d pipes are full, %d kept after the loop's end", l.full, len(l.pipes))
				}
			}()
			var ends [2]net.Conn
			var addresses [2]netip.AddrPort
			var accepted [2]chan net.Conn
			for i := range ends {
				ln, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = ln.Close() }()
				addresses[i] = ln.Addr().(*net.TCPAddr).AddrPort()
				accepted[i] = make(chan net.Conn, 1)
				go func() {
					if c, err := ln.Accept(); err == nil {
						accepted[i] <- c
					}
				}()
			}
			var copied, spliced atomic.Int64
			l.Post(func() {
				source := &joint{copied: &copied, spliced: &spliced, closed: make(chan error, 1)}
				sink := &resumer{source: source}
				sink.closed = make(chan error, 1)
				source.to = l.Dial(addresses[1], sink)
				source.from = l.Dial(addresses[0], source)
			})
			for i := range ends {
				ends[i] = <-accepted[i]
				defer func() { _ = ends[i].Close() }()
				_ = ends[i].SetDeadline(time.Now().Add(20 * time.Second))
			}
			sent := make([]byte, 4<<20)
			for i := range sent {
				sent[i] = byte(i * i >> 9)
			}
			go func() {
				_, _ = ends[0].Write(sent)
				_ = ends[0].(*net.TCPConn).CloseWrite()
			}()
			got, err := io.ReadAll(ends[1])
			if err != nil || !bytes.Equal(got, sent) {
				t.Errorf("%d bytes arrived, %v; want %d unchanged", len(got), err, len(sent))
			}
			if n := spliced.Load(); n > 0 != row.spliced {
				t.Errorf("%d bytes were spliced, %d copied; spliced wanted: %v", n, copied.Load(), row.spliced)
			}
		})
	}
}
