package campaign

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pharos-lb/pharos/lab/arpwatch"
	"github.com/pharos-lb/pharos/lab/drill/oracle/holders"
)

// sniffer runs "pharos lab arpwatch" and collects what it hears.
type sniffer struct {
	stdin io.Closer
	done  chan struct{}
	names map[arpwatch.MAC]string

	mu     sync.Mutex
	claims []holders.Claim // not yet taken
	total  int
	end    *arpwatch.End
	err    error
}

// startSniffer starts it; it ends with ctx, or by stop.
func startSniffer(ctx context.Context, site Site, interval time.Duration) (*sniffer, error) {
	args := []string{"--interval", interval.String(), "--stop-with-stdin"}
	for _, a := range site.Addresses() {
		args = append(args, "--address", a.String())
	}
	cmd := site.Sniffer(ctx, args...)
	fail := func(err error) error {
		return fmt.Errorf("start the sniffer: %s: %w", strings.Join(cmd.Args, " "), err)
	}
	var stderr bytes.Buffer
	cmd.Stderr, cmd.WaitDelay = &stderr, time.Second
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, fail(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fail(err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fail(err)
	}
	s := &sniffer{stdin: stdin, done: make(chan struct{}), names: site.Holders()}
	go func() {
		defer close(s.done)
		// A child of the command that outlives it must not hold us up.
		defer context.AfterFunc(ctx, func() { _ = out.Close() })()
		read := arpwatch.Read(out, s.keep)
		if read != nil {
			_, _ = io.Copy(io.Discard, out) // so that it does not block, and ends
		}
		if err := errors.Join(read, cmd.Wait()); err != nil {
			s.mu.Lock()
			s.err = fmt.Errorf("the sniffer failed: %s: %w: %s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(stderr.Bytes()))
			s.mu.Unlock()
		}
	}()
	return s, nil
}

func (s *sniffer) keep(l arpwatch.Line) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case l.End != nil:
		s.end = l.End
	case l.Claim != nil:
		c := l.Claim
		name, ok := s.names[c.MAC]
		if !ok {
			name = c.MAC.String() // nobody's that may hold anything, and a holder all the same
		}
		s.claims = append(s.claims, holders.Claim{At: c.At, Address: c.Address, Holder: name, Announces: c.Kind == arpwatch.Announcement})
		s.total++
	}
	return nil
}

// heard gives what was heard up to a time and not given before, in order. What
// is on its way is left for the next time.
func (s *sniffer) heard(until time.Time) ([]holders.Claim, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.SortStableFunc(s.claims, func(a, b holders.Claim) int { return a.At.Compare(b.At) })
	n, _ := slices.BinarySearchFunc(s.claims, until, func(c holders.Claim, t time.Time) int { return c.At.Compare(t) })
	given := slices.Clone(s.claims[:n])
	s.claims = slices.Clone(s.claims[n:])
	return given, s.err
}

// stop asks the sniffer to end, by the end of its input, and waits for it.
func (s *sniffer) stop(ctx context.Context) error {
	_ = s.stdin.Close() // it may have ended by itself
	select {
	case <-s.done:
	case <-ctx.Done():
		return fmt.Errorf("waited for the sniffer to end: %w", context.Cause(ctx))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}
