package bench

import (
	"context"
	"fmt"
	"time"
)

// warmUp is how long a proxy is loaded before it is measured: connections are
// made, and memory is touched.
const warmUp = time.Second

// turn starts a proxy, loads it, and ends it.
func (b *box) turn(ctx context.Context, c benchCase, p proxy) (Sample, error) {
	theirs, ours := "0,1", "0,1"
	if c.cores == 1 {
		theirs, ours = "0", "1"
	}
	running, err := p.start(ctx, b, c, theirs)
	if err != nil {
		return Sample{}, fmt.Errorf("start: %w", err)
	}
	defer running.end()
	for _, port := range []int{httpPort, httpsPort, grpcPort, tcpPort} {
		if err := running.listening(ctx, fmt.Sprintf("%s:%d", vip, port)); err != nil {
			return Sample{}, err
		}
	}
	if c.idle > 0 {
		return b.hold(ctx, c.idle, p.name, running)
	}
	if _, err := c.load.run(ctx, b, ours, warmUp); err != nil {
		return Sample{}, fmt.Errorf("warm up: %w", err)
	}
	before, err := running.cpu()
	if err != nil {
		return Sample{}, err
	}
	s, err := c.load.run(ctx, b, ours, b.o.Duration)
	if err != nil {
		return s, err
	}
	after, err := running.cpu()
	if err != nil {
		return s, err
	}
	s.CPU = after - before
	return s, nil
}
