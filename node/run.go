package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/pharos-lb/pharos/bgp"
)

// part is what runs until it is stopped.
type part struct {
	ctx   context.Context
	stop  context.CancelFunc
	group sync.WaitGroup
}

func newPart(base context.Context) *part {
	p := &part{}
	p.ctx, p.stop = context.WithCancel(base)
	return p
}

// end stops it and returns when nothing of it runs any more.
func (p *part) end() {
	p.stop()
	p.group.Wait()
}

// run is one Run of a node: its parts, which stop apart from one another.
type run struct {
	*Node
	base   context.Context // outlives the Run's: the drain needs the parts
	fail   context.CancelCauseFunc
	failed context.Context // ends when a part of the data plane has

	proxyPart, reconcilerPart, bgpPart, controlPart, leasePart, requestPart *part
	heard                                                                   bool // `pharos upgrade` is, by this process

	// handed are the leases on their way to another process; nil: none are.
	handed json.RawMessage
}

// Run serves until ctx ends, then withdraws, drains and stops; or until
// another process has taken over (see Upgrade), then it returns with the last
// connection that this one had accepted, or after the node file's
// upgrade_timeout.
//
// Start: what carries traffic comes first, on the configuration kept on disk,
// and needs nobody else; the control plane follows. Stop: the reverse of what
// clients notice. Withdraw first (in Drain), end the BGP sessions once nothing
// is announced, then say farewell to the cluster, and stop the rest. How it
// goes with a process before or after this one is told in takeover.go and
// upgrade.go.
//
// A part of the control plane that fails while running is logged and shown in
// status, and stops nothing: serving does not depend on it. It is an error of
// Run only when the data plane fails.
func (n *Node) Run(ctx context.Context) error {
	r := &run{Node: n, base: context.WithoutCancel(ctx)}
	r.failed, r.fail = context.WithCancelCause(r.base)
	defer close(n.ended)
	defer r.fail(nil)
	for _, p := range []**part{&r.proxyPart, &r.reconcilerPart, &r.bgpPart, &r.controlPart, &r.leasePart, &r.requestPart} {
		*p = newPart(r.base)
	}
	defer r.endAll()

	if n.predecessor() != nil {
		if err := r.takeOver(ctx); err != nil {
			return fmt.Errorf("take over from the process before: %w", err)
		}
	} else {
		r.startAlone()
	}
	r.serveRequests()
	n.logger.Info("node runs", "address", n.config.Address, "version", n.opts.Version)
	for {
		select {
		case order := <-n.upgrades:
			answer := r.upgrade(ctx, order.request)
			order.answer <- answer
			if answer.Code == "" {
				r.retire(ctx)
				return nil
			}
			continue
		case <-ctx.Done():
		case <-r.failed.Done():
		}
		return r.stop()
	}
}

// startAlone starts everything where no process ran the node before.
func (r *run) startAlone() {
	if removed, err := r.addrs.CleanUp(); err != nil {
		r.logger.Warn("what an earlier run left on the loopback interface could not be removed", "error", err)
	} else if len(removed) > 0 {
		r.logger.Info("removed VIPs that an earlier run had left", "addresses", removed)
	}
	r.prepareKernel()
	r.startProxy()
	r.startReconciler()
	r.startBGP()
	r.serveLastApplied()
	r.startControl()
}

func (r *run) prepareKernel() {
	err := r.addrs.Prepare()
	if err != nil {
		r.logger.Warn("the kernel may answer ARP for a VIP", "error", err)
	}
	r.holder.SetKernel(err)
}

// startData starts a part whose failure ends the Run.
func (r *run) startData(p *part, name string, work func(context.Context) error) {
	p.group.Go(func() {
		if err := work(p.ctx); err != nil {
			r.fail(fmt.Errorf("%s: %w", name, err))
		}
	})
}

func (r *run) startProxy() { r.startData(r.proxyPart, "proxy", r.proxy.Run) }
func (r *run) startReconciler() {
	r.startData(r.reconcilerPart, "reconciler", r.reconciler.Run)
	r.startData(r.reconcilerPart, "self-probe", r.vigil.Run)
	r.startData(r.reconcilerPart, "ARP and NDP", r.holder.Run)
}
func (r *run) startBGP() { r.startData(r.bgpPart, "BGP speaker", r.speaker.Run) }

// task is a part that runs until its context ends.
type task struct {
	name string
	run  func(context.Context) error
}

// controlTasks are the parts of the control plane.
func (n *Node) controlTasks() []task {
	return []task{
		{"control port", n.mux.Run},
		{"raft", n.store.Run},
		{"control API", func(ctx context.Context) error { return n.api.Run(ctx, n.mux.GRPC()) }},
		{"join server", func(ctx context.Context) error { return n.joins.Run(ctx, n.mux.Join()) }},
		{"heartbeats", n.members.Run},
		{"registration", n.register},
		{"configuration watch", n.followStore},
		{"heartbeat contents", n.describeToMembers},
		{"metrics", n.serveMetrics},
		{"shared keys", keeper{self: n.config.Name, cluster: n.store, secrets: n.identity, now: time.Now, logger: n.logger}.Run},
	}
}

// leaseTasks are what VIPs are held by. They outlast the control plane where
// another process takes over: see handOverLeases.
func (n *Node) leaseTasks() []task {
	return []task{
		{"leases", n.runLeases},
		{"members of the leases", n.followMembers},
	}
}

// startControl starts what openControl has made.
func (r *run) startControl() {
	r.startTasks(r.controlPart, r.controlTasks())
	r.startTasks(r.leasePart, r.leaseTasks())
}

func (r *run) startTasks(p *part, tasks []task) {
	n := r.Node
	for _, t := range tasks {
		p.group.Go(func() {
			if err := t.run(p.ctx); err != nil && p.ctx.Err() == nil {
				n.logger.Error("a part of the control plane stopped, serving goes on", "part", t.name, "error", err)
				n.noteFailure(t.name, err)
			}
		})
	}
}

// restartControl runs the control plane again after it was stopped. Serving
// does not depend on it: a failure is noted, as of one that runs.
func (r *run) restartControl() {
	r.handOverLeases()
	r.leasePart.end()
	r.controlPart, r.leasePart = newPart(r.base), newPart(r.base)
	err := r.openControl()
	if err == nil {
		err = r.leases.Adopt(r.handed)
	}
	r.handed = nil
	if err != nil {
		r.logger.Error("the control plane could not be started again, serving goes on", "error", err)
		r.noteFailure("the control plane", err)
		return
	}
	r.startControl()
}

// restartBGP runs a speaker again after the one before was detached.
func (r *run) restartBGP(sessions []bgp.Established) {
	r.speaker = bgp.New(bgp.Config{Logger: r.logger})
	err := r.reconciler.do(r.base, func(ctx context.Context) {
		r.reconciler.speaker, r.reconciler.lastBGP = r.speaker, nil
		r.reconciler.frozen = frozen
	})
	// The step that followed has told the new speaker what to announce.
	if err := errors.Join(err, r.speaker.Adopt(sessions)); err != nil {
		r.logger.Error("the BGP sessions are opened anew", "error", err)
	}
	r.bgpPart = newPart(r.base)
	r.startBGP()
}

// stop ends a Run whose node goes away.
func (r *run) stop() error {
	failure := context.Cause(r.failed)
	r.requestPart.end()
	drainCtx, cancel := context.WithTimeout(r.base, r.config.DrainTimeout)
	if _, err := r.reconciler.Drain(drainCtx, true); err != nil && failure == nil {
		r.logger.Warn("the node stops without a whole drain", "error", err)
	}
	cancel()
	r.bgpPart.end()
	r.leasePart.end() // nothing is held by now: the others are told so
	r.controlPart.end()
	r.endAll()
	if err := errors.Join(r.addrs.RemoveAll(), r.addrs.Restore()); err != nil {
		r.logger.Warn("the loopback interface could not be left as it was", "error", err)
	}
	r.logger.Info("node stopped")
	if failure != nil && !errors.Is(failure, context.Canceled) {
		return failure
	}
	return nil
}

// endAll stops whatever still runs, in the order in which clients notice it.
func (r *run) endAll() {
	for _, p := range []*part{r.requestPart, r.bgpPart, r.leasePart, r.controlPart, r.reconcilerPart, r.proxyPart} {
		p.end()
	}
	if r.port != nil {
		_ = r.port.Close()
	}
}
