package link

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/vishvananda/netlink"
)

// watchRetry is the wait before a subscription that has ended is taken anew.
const watchRetry = time.Second

// Watch calls changed at once, whenever something about an interface or an
// address has changed, carriers among it, and after news may have been missed,
// until ctx ends. changed must be quick. It subscribes in the network namespace
// of the thread that calls.
func Watch(ctx context.Context, changed func(), logger *slog.Logger) error {
	for ctx.Err() == nil {
		err := follow(ctx, changed)
		if ctx.Err() != nil {
			break
		}
		logger.Warn("changes of interfaces are not heard for a moment", "error", err)
		select {
		case <-time.After(watchRetry):
		case <-ctx.Done():
		}
	}
	return nil
}

// follow is one subscription, until it or ctx ends.
func follow(ctx context.Context, changed func()) error {
	done := make(chan struct{})
	links, addresses := make(chan netlink.LinkUpdate, 16), make(chan netlink.AddrUpdate, 16)
	var failure error
	note := make(chan error, 16)
	failed := func(err error) {
		select {
		case note <- err:
		default:
		}
	}
	if err := netlink.LinkSubscribeWithOptions(links, done, netlink.LinkSubscribeOptions{ErrorCallback: failed}); err != nil {
		close(done)
		return fmt.Errorf("subscribe to interfaces: %w", err)
	}
	if err := netlink.AddrSubscribeWithOptions(addresses, done, netlink.AddrSubscribeOptions{ErrorCallback: failed}); err != nil {
		close(done)
		drain(links)
		return fmt.Errorf("subscribe to addresses: %w", err)
	}
	changed()
	for open := true; open; {
		select {
		case _, open = <-links:
		case _, open = <-addresses:
		case failure = <-note:
		case <-ctx.Done():
			open = false
		}
		if ctx.Err() == nil {
			changed()
		}
	}
	close(done)
	drain(links)
	drain(addresses)
	return failure
}

// drain waits until the sender has closed the channel.
func drain[T any](c <-chan T) {
	for range c {
	}
}
