package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/pharos-lb/pharos/cluster/fsm"
	"github.com/pharos-lb/pharos/cluster/store"
	"github.com/pharos-lb/pharos/node/handover"
	"github.com/pharos-lb/pharos/vip/addr"
)

// The successor's side of an upgrade: see upgrade.go for the order. Before it
// has said "accepting", an error ends it and nothing has changed; after that,
// the old process takes everything back when this one says so, or ends.

const (
	// warmLimit bounds how long first health checks are waited for: a pool whose
	// servers are not known yet is tried anyway.
	warmLimit = 5 * time.Second
	// gateLimit bounds how long gates that are open in the old process may take
	// to open here. Those that do not are withdrawn, for the reason that they give.
	gateLimit = 5 * time.Second
	// stateLimit bounds how long the cluster's state is waited for, so that who
	// asked for the upgrade can go on asking this node. Without a majority it
	// does not come, and serving needs none.
	stateLimit = 5 * time.Second
	lookEach   = 10 * time.Millisecond
)

// errGone says that the old process has ended, or given up, before it had
// handed over.
var errGone = errors.New("the process before has ended, or gives the upgrade up")

// takeOver takes the node's work from the process before.
func (r *run) takeOver(ctx context.Context) (err error) {
	old := r.predecessor()
	defer func() {
		if err != nil {
			r.giveBack(err)
		}
		_ = old.Close()
	}()
	r.startProxy()
	if err := r.warm(ctx); err != nil {
		return err
	}
	if err := old.Send(handover.Message{Kind: handover.Ready, Version: r.opts.Version}); err != nil {
		return err
	}
	m, fds, err := expect(ctx, old, handover.Take)
	if err != nil {
		return err
	}
	if err := r.accept(ctx, m, fds); err != nil {
		return err
	}
	r.awaitGates(ctx, m.Announced)
	if err := old.Send(handover.Message{Kind: handover.Accepting}); err != nil {
		return err
	}

	// Should the old process end from here on, what it has let go of is free.
	if _, _, err = expect(ctx, old, handover.Released); err != nil && !errors.Is(err, errGone) {
		return err
	}
	if err := r.openControl(); err != nil {
		return err
	}
	r.startControl()
	r.awaitState(ctx, m.Revision)
	if err := old.Send(handover.Message{Kind: handover.Leading}); err != nil {
		r.logger.Warn("the process before is gone, and leaves the BGP sessions to be opened anew", "error", err)
	}
	m, fds, err = expect(ctx, old, handover.Sessions)
	switch {
	case errors.Is(err, errGone):
	case err != nil:
		return err
	default:
		if len(m.Leases) > 0 { // an older version has none
			if err := r.leases.Adopt(m.Leases); err != nil {
				r.logger.Warn("leases are granted to nobody for a moment", "error", err)
			}
		}
		if err := r.speaker.Adopt(sessionsOf(m, fds)); err != nil {
			return err
		}
	}
	r.startBGP()
	// Before the one who asked for this upgrade has its answer: the next request
	// is for this process.
	r.hearRequests()
	if err := old.Send(handover.Message{Kind: handover.Done}); err != nil {
		r.logger.Warn("the process before is gone", "error", err)
	}
	r.prepareKernel()
	return r.reconciler.do(r.base, func(context.Context) { r.reconciler.beside = false })
}

// giveBack ends a take-over that has failed: what the old process needs is let
// go of before it hears of it, and what was accepted is served to its end.
func (r *run) giveBack(why error) {
	r.leasePart.end()
	r.controlPart.end()
	r.bgpPart.end()
	r.reconcilerPart.end()
	r.refuse(why)
	limit, cancel := context.WithTimeout(r.base, r.config.DrainTimeout)
	defer cancel()
	r.proxy.Retire(limit)
}

// refuse tells the process before, if there is one, why this one cannot take
// over.
func (n *Node) refuse(why error) {
	if old := n.predecessor(); old != nil {
		_ = old.Send(handover.Message{Kind: handover.Failed, Error: why.Error()}) // it may be gone
	}
}

// expect waits for the old process's next message.
func expect(ctx context.Context, old *handover.Conn, kind handover.Kind) (handover.Message, []int, error) {
	m, fds, err := old.Receive(ctx)
	switch {
	case ctx.Err() != nil:
		return m, nil, ctx.Err()
	case errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET):
		return m, nil, errGone
	case err != nil:
		return m, nil, err
	case m.Kind != kind:
		return m, nil, fmt.Errorf("the process before says %q, and not %q: is its version too old or too new?", m.Kind, kind)
	}
	return m, fds, nil
}

// warm has the configuration on disk checked whole, and its servers, without
// anything that others would notice.
func (r *run) warm(ctx context.Context) error {
	desired, ok, err := store.LoadApplied(r.opts.Dir)
	if err != nil {
		return err
	}
	if !ok {
		return nil
	}
	version := desired.Snapshot.Version
	whole, err := translate(desired, r.identity)
	if err == nil {
		err = whole.Validate()
	}
	if err != nil {
		return fmt.Errorf("configuration %d: %w", version, err)
	}
	if _, err := openedState(desired.Snapshot.Config, r.identity, r.config, func(string) bool { return true }); err != nil {
		return fmt.Errorf("configuration %d: %w", version, err)
	}
	whole.Listeners = nil
	if err := r.proxy.Apply(ctx, whole); err != nil {
		return err
	}
	await(ctx, warmLimit, func() bool {
		for _, p := range r.proxy.Status().Pools {
			if !p.Checked {
				return false
			}
		}
		return true
	})
	return ctx.Err()
}

// accept serves what the old process serves, on its sockets.
func (r *run) accept(ctx context.Context, m handover.Message, fds []int) error {
	traffic, control := socketsOf(m, fds)
	if err := r.proxy.Inherit(ctx, traffic); err != nil {
		return err
	}
	if err := r.inheritPort(control); err != nil {
		return err
	}
	var raised []addr.Raised
	for _, s := range m.Settings {
		raised = append(raised, addr.Raised{Key: s.Key, Before: s.Before})
	}
	if _, err := r.addrs.Adopt(raised); err != nil {
		return err
	}
	// Since warm, both may have changed; from here on the old one holds still.
	draining, err := loadDraining(r.opts.Dir)
	if err != nil {
		return err
	}
	r.reconciler.draining, r.reconciler.drained = draining, draining
	desired, ok, err := store.LoadApplied(r.opts.Dir)
	if err != nil {
		return err
	}
	if desired.Revision != m.Revision {
		return errNotOnDisk(m.Revision, desired.Revision)
	}
	r.reconciler.beside = true
	r.startReconciler()
	if !ok {
		return nil
	}
	return r.applyFirst(ctx, desired)
}

func (r *run) applyFirst(ctx context.Context, desired fsm.Desired) error {
	r.reconciler.Offer(desired)
	_, failure, err := r.reconciler.WaitApplied(ctx, desired.Revision)
	return errors.Join(failure, err)
}

// inheritPort takes the control port from the old process, if it gave one.
func (r *run) inheritPort(fd int) error {
	if fd < 0 {
		return r.takePort(nil)
	}
	file := os.NewFile(uintptr(fd), "control port")
	l, err := net.FileListener(file) // duplicates the descriptor
	_ = file.Close()
	if err != nil {
		return fmt.Errorf("inherit the control port: %w", err)
	}
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		_ = l.Close()
		return fmt.Errorf("inherit the control port: what was handed over is a %T", l)
	}
	return r.takePort(tcp)
}

// awaitState waits until the log on disk is known to be agreed on, up to the
// configuration that runs: Raft needs a leader's word for that.
func (r *run) awaitState(ctx context.Context, revision uint64) {
	known := func() bool {
		leader, _ := r.store.Leader()
		state := r.store.State()
		return leader != "" && len(state.Members) > 0 && state.Revision >= revision
	}
	if !await(ctx, stateLimit, known) {
		r.logger.Warn("the upgrade goes on without a leader of the cluster", "waited", stateLimit)
	}
}

// awaitGates waits until the gates of these VIPs are open here, too, so that
// the first announcement is the one that the routers have.
func (r *run) awaitGates(ctx context.Context, announced []string) {
	open := func() bool {
		v := r.reconciler.View()
		have := v.announced()
		for _, vip := range announced {
			if !slices.Contains(have, vip) {
				return false
			}
		}
		return true
	}
	if !await(ctx, gateLimit, open) {
		r.logger.Warn("VIPs that the process before announces will be withdrawn", "announced_before", announced, "announced", r.reconciler.View().announced())
	}
}

// await waits until ok says so, for at most limit, and returns what it said
// last. It is for what gives no event that could be waited for here.
func await(ctx context.Context, limit time.Duration, ok func() bool) bool {
	deadline := time.Now().Add(limit)
	look := time.NewTicker(lookEach)
	defer look.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			return false
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}
