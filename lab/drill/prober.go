package drill

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/pharos-lb/pharos/lab/traffic/record"
)

// prober runs "pharos drill probe" at the clients' place and collects its
// record.
type prober struct {
	stdin io.Closer
	done  chan struct{}

	mu     sync.Mutex
	begin  *record.Begin
	end    *record.End
	probes []record.Probe
	held   []record.Held
	err    error
	first  chan struct{} // closed by the first answered probe
	onceOK sync.Once
}

// startProber starts it; it ends with ctx, or by stop.
func startProber(ctx context.Context, site Site, args ...string) (*prober, error) {
	// It ends with its input, so also when this process dies.
	cmd := site.Prober(ctx, append(append(args, "--stop-with-stdin"), site.ProbeArgs()...)...)
	fail := func(err error) error {
		return fmt.Errorf("start the probes: %s: %w", strings.Join(cmd.Args, " "), err)
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
	p := &prober{stdin: stdin, done: make(chan struct{}), first: make(chan struct{})}
	go func() {
		defer close(p.done)
		// A child of the command that outlives it must not hold us up.
		defer context.AfterFunc(ctx, func() { _ = out.Close() })()
		read := record.Read(out, p.take)
		if read != nil {
			_, _ = io.Copy(io.Discard, out) // so that it does not block, and ends
		}
		if err := errors.Join(read, cmd.Wait()); err != nil {
			p.mu.Lock()
			p.err = fmt.Errorf("the probes failed: %s: %w: %s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(stderr.Bytes()))
			p.mu.Unlock()
		}
	}()
	return p, nil
}

func (p *prober) take(l record.Line) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case l.Begin != nil:
		p.begin = l.Begin
	case l.End != nil:
		p.end = l.End
	case l.Held != nil:
		p.held = append(p.held, *l.Held)
	case l.Probe != nil:
		p.probes = append(p.probes, *l.Probe)
		if l.Probe.Outcome == record.OK {
			p.onceOK.Do(func() { close(p.first) })
		}
	}
	return nil
}

// awaitFirst returns once a probe was answered.
func (p *prober) awaitFirst(ctx context.Context) error {
	select {
	case <-p.first:
		return nil
	case <-p.done:
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.err != nil {
			return p.err
		}
		return errors.New("the probes ended before one was answered")
	case <-ctx.Done():
		p.mu.Lock()
		defer p.mu.Unlock()
		last := "none has ended yet"
		if n := len(p.probes); n > 0 {
			last = fmt.Sprintf("the last of %d: %s while %s: %s", n, p.probes[n-1].Outcome, p.probes[n-1].Stage, p.probes[n-1].Detail)
		}
		return fmt.Errorf("waited for a probe to be answered (%s): %w", last, context.Cause(ctx))
	}
}

// stop asks the prober to end, by the end of its input, and waits for it.
func (p *prober) stop(ctx context.Context) error {
	_ = p.stdin.Close() // it may have ended by itself
	select {
	case <-p.done:
	case <-ctx.Done():
		return fmt.Errorf("waited for the prober to end: %w", context.Cause(ctx))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}
