// Package arpwatch asks a segment all the time who has an address, and records
// who says so: each answer and each announcement, by ARP (RFC 826, RFC 5227) and
// by neighbor discovery (RFC 4861).
//
// It can do so at several ports of a switch at once, each of which is asked by
// itself: what a partition or a dead link keeps from the clients is still seen.
// Its codec is its own, so that a fault of the product's does not hide itself.
package arpwatch

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Config says what to ask, and where.
type Config struct {
	// Ports are the interfaces to ask at: those of a switch, or the one of a
	// host.
	Ports     []string
	Addresses []netip.Addr
	Interval  time.Duration // between two questions for an address at a port: 1ms to 1s
	// Self is who asks: an address of each family that is asked for, which
	// nobody else on the segment has, and which is answered for at each port
	// while it runs. nil: the host itself, at its one port.
	Self *Identity
}

// The bounds of Config.Interval.
const (
	MinInterval = time.Millisecond
	MaxInterval = time.Second
)

// Validate reports every fault at once.
func (c Config) Validate() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(c.Ports) == 0 {
		fault("ports: there is none to ask at")
	}
	if c.Self == nil && len(c.Ports) > 1 {
		fault("self: a host asks at one port, not at %d", len(c.Ports))
	}
	if c.Interval < MinInterval || c.Interval > MaxInterval {
		fault("interval: %v is not within %v to %v", c.Interval, MinInterval, MaxInterval)
	}
	if len(c.Addresses) == 0 {
		fault("addresses: there is none to ask for")
	}
	for i, a := range c.Addresses {
		if !a.IsValid() || a.Is4In6() || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() || slices.Contains(c.Addresses[:i], a) {
			fault("addresses[%d]: %s is no address of one machine, or is named twice", i, a)
			continue
		}
		if c.Self == nil {
			continue
		}
		if own := c.Self.of(a); !own.IsValid() || own.Is4() != a.Is4() || slices.Contains(c.Addresses, own) {
			fault("self: %s is no address to ask for %s from", own, a)
		}
	}
	return errors.Join(errs...)
}

// drain is how long the answers to the last questions are waited for.
const drain = 100 * time.Millisecond

// Watch asks and records until ctx ends. emit is called with one line at a
// time; the lines of several ports are in order of time only within each.
func Watch(ctx context.Context, c Config, emit func(Line) error) (err error) {
	if err := c.Validate(); err != nil {
		return err
	}
	var ports []*port
	defer func() {
		for _, p := range ports {
			p.close()
		}
	}()
	for _, name := range c.Ports {
		p, err := openPort(name, c)
		if err != nil {
			return fmt.Errorf("watch %s: %w", name, err)
		}
		ports = append(ports, p)
	}
	if err := emit(Line{Begin: &Begin{At: time.Now(), Interval: c.Interval, Ports: c.Ports, Addresses: c.Addresses}}); err != nil {
		return err
	}

	w := &watch{config: c, emit: emit, asked: make([]int, len(ports)), unasked: make([]int, len(ports))}
	hearers, failed := errgroup.WithContext(context.WithoutCancel(ctx))
	for _, p := range ports {
		hearers.Go(func() error { return w.hear(p) })
	}
	w.ask(ctx, failed, ports)
	// What was asked last is still answered.
	pause(failed, drain)
	lost := 0
	for _, p := range ports {
		n, e := p.lost()
		lost, err = lost+n, errors.Join(err, e)
		p.close()
	}
	if err := errors.Join(hearers.Wait(), err); err != nil {
		return err
	}
	end := End{At: time.Now(), Claims: w.claims, Lost: lost}
	for i := range ports {
		end.Asked, end.Unasked = end.Asked+w.asked[i], end.Unasked+w.unasked[i]
	}
	return emit(Line{End: &end})
}

// watch is one run.
type watch struct {
	config         Config
	asked, unasked []int // by port, of the asking goroutine

	mu     sync.Mutex // for emit and what follows
	emit   func(Line) error
	claims int
}

// ask asks at each port for each address, until one of the contexts ends.
func (w *watch) ask(ctx, failed context.Context, ports []*port) {
	ticker := time.NewTicker(w.config.Interval)
	defer ticker.Stop()
	for {
		for i, p := range ports {
			for _, q := range p.questions {
				if p.send(q) == nil {
					w.asked[i]++
				} else { // it is down: nobody can hear
					w.unasked[i]++
				}
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		case <-failed.Done():
			return
		}
	}
}

// hear records what comes in by a port until it is closed, and answers for our
// own addresses.
func (w *watch) hear(p *port) error {
	for {
		frame, at, err := p.receive()
		switch {
		case errors.Is(err, os.ErrClosed):
			return nil
		case err != nil:
			return fmt.Errorf("hear on %s: %w", p.name, err)
		}
		m, err := Parse(frame)
		if err != nil {
			continue // the filter is not as strict
		}
		if self := w.config.Self; self != nil && m.Asked.IsValid() && m.Asked == self.of(m.Asked) && !m.From.IsUnspecified() {
			_ = p.send(Reply(*self, m, MAC(frame[6:12]))) // the port may be down by now: who asked asks again
		}
		if !slices.Contains(w.config.Addresses, m.Claimed) {
			continue
		}
		if err := w.record(Claim{At: at, Port: p.name, Address: m.Claimed, MAC: m.MAC, Kind: m.Kind}); err != nil {
			return err
		}
	}
}

func (w *watch) record(c Claim) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.claims++
	return w.emit(Line{Claim: &c})
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
