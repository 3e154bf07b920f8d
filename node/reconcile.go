package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"sync/atomic"
	"time"

	"github.com/pharos-lb/pharos/bgp"
	"github.com/pharos-lb/pharos/cluster/fsm"
	"github.com/pharos-lb/pharos/cluster/registry"
	"github.com/pharos-lb/pharos/node/probe"
	"github.com/pharos-lb/pharos/proxy"
)

// announcer is what the reconciler needs of bgp.
type announcer interface {
	Reconcile(context.Context, bgp.State) error
	Status() []bgp.SessionStatus
	Events() <-chan struct{}
}

// addresses is what it needs of vip/addr.
type addresses interface {
	// Reconcile puts exactly these on the loopback interface; the error names
	// those that it could not.
	Reconcile([]netip.Addr) error
	// Missing are those of them that are not there, whatever the cause.
	Missing() ([]netip.Addr, error)
}

// dataPlane is what it needs of proxy.
type dataPlane interface {
	Apply(context.Context, proxy.Config) error
	Status() proxy.Status
	Changes() <-chan struct{}
	BeginDrain()
	// Lingering is the number of connections that BeginDrain found in flight
	// and that are still open.
	Lingering() int
	FinishDrain(context.Context) proxy.DrainReport
}

// reconciler makes the parts follow the latest configuration and decides, VIP
// by VIP, whether this node announces it. Its fields belong to Run's
// goroutine; others read the View and send requests.
type reconciler struct {
	self    Config
	speaker announcer
	addrs   addresses
	proxy   dataPlane
	logger  *slog.Logger
	secrets secrets
	save    func(fsm.Desired) error // keeps what runs, for the next start
	// saveDraining keeps whether an operator has drained the node.
	saveDraining func(bool) error

	vitals vitals // nil: the node does not look after itself
	// others tells of a VIP whether another node announces it and is well; nil:
	// no heartbeats are heard.
	others atomic.Pointer[func(vip string) bool]

	answers answerer // nil: no VIP is answered for
	// members are those that have a voice in the leases; nil: they are not known yet.
	members atomic.Pointer[[]string]

	requests chan func(context.Context)
	ended    chan struct{} // closed when Run has returned
	// drainUnderWay admits one drain or undrain at a time.
	drainUnderWay atomic.Bool
	latest        chan fsm.Desired // of size 1: only the newest matters
	view          atomic.Pointer[View]

	running   *fsm.Desired // nil: none yet
	failed    *fsm.Desired // newer than running, could not be applied
	failure   error
	retryAt   time.Time
	gates     map[string]Gate
	vipError  map[netip.Addr]string // addresses that are not on the interface
	draining  bool                  // asked to drain, and not yet asked back
	drained   bool                  // the drain is over: no listeners, no addresses
	stopping  bool
	leaving   bool // announced for the last time: see worse
	frozen    freeze
	beside    bool         // the process before still accepts
	probed    *fsm.Desired // whose listeners are; nil: none are
	probeFrom time.Time    // when probing may go on; zero: it never stopped
	unsaved   error        // why running is not on disk
	lastBGP   *bgp.State   // as last handed over; nil: hand over again
	bgpError  error        // why the last hand-over failed
	timer     *time.Timer  // the next step without an event
}

// retryInterval is how often a configuration that could not be applied is
// tried again: the port may have been freed.
const retryInterval = 2 * time.Second

// stepInterval bounds how old an observation gets when no event comes.
const stepInterval = time.Second

// View is what the reconciler shows to others. It is never changed.
type View struct {
	Version        uint64 // that runs; 0: none
	Revision       uint64 // that runs; 0: none
	Applied        bool   // a configuration runs
	FailedRevision uint64 // that was tried and could not be applied; 0: none
	FailedVersion  uint64 // of its configuration
	Failure        error  // why
	Config         registry.Config
	Desired        fsm.Desired     // all that runs
	Gates          map[string]Gate // by VIP
	Handed         *bgp.State      // what the speaker was last given; nil: nothing, or that failed
	Draining       bool
	Drained        bool
	Warnings       []string

	replaced chan struct{} // closed when a newer View is there
}

func newReconciler(self Config, speaker announcer, addrs addresses, dp dataPlane, files stateFiles, logger *slog.Logger) *reconciler {
	r := &reconciler{
		self: self, speaker: speaker, addrs: addrs, proxy: dp, logger: logger,
		vitals: files.vitals, answers: files.answers, secrets: files.secrets, save: files.saveApplied, saveDraining: files.saveDraining,
		draining: files.draining, drained: files.draining,
		requests: make(chan func(context.Context)), ended: make(chan struct{}), latest: make(chan fsm.Desired, 1),
		gates: make(map[string]Gate), vipError: make(map[netip.Addr]string),
	}
	r.view.Store(&View{replaced: make(chan struct{})})
	return r
}

// Run follows configurations and events until ctx ends. It neither withdraws
// nor removes anything at its end: that is the stop's affair, which is ordered.
func (r *reconciler) Run(ctx context.Context) error {
	defer close(r.ended)
	r.timer = time.NewTimer(stepInterval)
	defer r.timer.Stop()
	var found <-chan struct{}
	if r.vitals != nil {
		found = r.vitals.Changes()
	}
	for {
		latest := r.latest
		if r.stopping || r.draining && !r.drained || r.frozen != thawed {
			latest = nil // the proxy is busy draining, or handed over: the newest waits for its end
		}
		select {
		case <-ctx.Done():
			return nil
		case desired := <-latest:
			r.adopt(ctx, desired)
		case request := <-r.requests:
			request(ctx)
		case <-r.proxy.Changes():
		case <-r.speaker.Events():
		case <-found:
		case <-r.timer.C:
		}
		if latest != nil && r.failed != nil && !time.Now().Before(r.retryAt) {
			r.try(ctx, *r.failed)
		}
		r.step(ctx)
	}
}

// Offer hands over what the cluster wants; only the newest offered is adopted.
// One goroutine calls it.
func (r *reconciler) Offer(desired fsm.Desired) {
	for {
		select {
		case r.latest <- desired:
			return
		case waiting := <-r.latest:
			// At the start, what was kept on disk is newer than what the log has yet.
			if waiting.Revision > desired.Revision {
				desired = waiting
			}
		}
	}
}

// View returns the present one.
func (r *reconciler) View() *View { return r.view.Load() }

// WaitApplied returns when the revision, or a later one, runs or has failed.
func (r *reconciler) WaitApplied(ctx context.Context, revision uint64) (uint64, error, error) {
	for {
		v := r.View()
		if v.Revision >= revision {
			return v.Revision, nil, nil
		}
		if v.FailedRevision >= revision {
			return v.Revision, v.Failure, nil
		}
		select {
		case <-v.replaced:
		case <-ctx.Done():
			return v.Revision, nil, fmt.Errorf("wait for revision %d, running %d: %w", revision, v.Revision, ctx.Err())
		}
	}
}

// do runs f on Run's goroutine and waits for it.
func (r *reconciler) do(ctx context.Context, f func(context.Context)) error {
	done := make(chan struct{})
	select {
	case r.requests <- func(runCtx context.Context) { f(runCtx); r.step(runCtx); close(done) }:
	case <-r.ended:
		return errStopped
	case <-ctx.Done():
		return ctx.Err()
	}
	<-done // Run carries out what it took
	return nil
}

// adopt makes what is newer run.
func (r *reconciler) adopt(ctx context.Context, desired fsm.Desired) {
	if r.running != nil && desired.Revision <= r.running.Revision {
		return // the log is being replayed from before what we kept on disk
	}
	r.try(ctx, desired)
}

// try makes a newer configuration run, whole or not at all. VIPs that go are
// withdrawn before their listeners close; those that come are on the interface
// before their listeners open, and are announced by the step that follows. Where
// it cannot, an operator's word on servers and new shared keys hold all the same.
func (r *reconciler) try(ctx context.Context, desired fsm.Desired) {
	version := desired.Snapshot.Version
	if err := r.carryOut(ctx, desired); err != nil {
		first := r.failed == nil || r.failed.Revision != desired.Revision
		if first || r.failure.Error() != err.Error() {
			r.logger.Error("configuration could not be applied, the old one stays", "version", version, "revision", desired.Revision, "error", err)
		}
		r.failed, r.failure, r.retryAt = &desired, err, time.Now().Add(retryInterval)
		r.lastBGP = nil
		if first {
			r.carryOutBeside(ctx, desired)
		}
		return
	}
	was := r.running
	r.runs(desired)
	r.failed, r.failure = nil, nil
	if was == nil || was.Snapshot.Version != version {
		r.logger.Info("configuration applied", "version", version, "revision", desired.Revision)
	} else {
		r.logger.Info("servers' states or shared keys applied", "version", version, "revision", desired.Revision)
	}
}

// runs notes what runs now, and keeps it on disk.
func (r *reconciler) runs(desired fsm.Desired) {
	r.running = &desired
	if r.unsaved = r.save(desired); r.unsaved != nil {
		r.logger.Error("configuration runs but could not be kept on disk", "version", desired.Snapshot.Version, "error", r.unsaved)
	}
}

// carryOutBeside makes run what stands beside a configuration that cannot be
// applied, with the one that runs.
func (r *reconciler) carryOutBeside(ctx context.Context, desired fsm.Desired) {
	if r.running == nil {
		return
	}
	mixed := beside(*r.running, desired)
	pc, err := r.proxyConfig(mixed)
	if err == nil {
		err = r.proxy.Apply(ctx, pc)
	}
	if err != nil {
		r.logger.Error("servers' states and shared keys could not be applied either", "revision", desired.Revision, "error", err)
		return
	}
	r.runs(mixed)
}

func (r *reconciler) carryOut(ctx context.Context, desired fsm.Desired) error {
	snap := desired.Snapshot
	var before []netip.Addr
	if r.running != nil {
		before = vipAddresses(r.running.Snapshot.Config)
	}
	after := vipAddresses(snap.Config)
	gone := func(a netip.Addr) bool { return !slices.Contains(after, a) }
	if slices.ContainsFunc(before, gone) {
		stays := func(vip string) bool {
			return r.gates[vip].Open && !slices.ContainsFunc(vipOf(r.running.Snapshot.Config, vip).Addresses, gone)
		}
		r.answer(r.running.Snapshot.Config, stays)
		state, err := openedState(r.running.Snapshot.Config, r.secrets, r.self, stays)
		if err != nil {
			return fmt.Errorf("withdraw the VIPs that go: %w", err)
		}
		r.handOver(ctx, state)
	}
	if !r.drained {
		r.setAddresses(append(slices.Clone(before), after...))
	}
	pc, err := r.proxyConfig(desired)
	if err == nil {
		err = r.proxy.Apply(ctx, pc)
	}
	if err != nil {
		if !r.drained {
			r.setAddresses(before)
		}
		return err
	}
	if !r.drained {
		r.setAddresses(after)
	}
	return nil
}

// proxyConfig is what the proxy should serve now: a drained node runs the
// configuration, with its health checks, but accepts nothing.
func (r *reconciler) proxyConfig(desired fsm.Desired) (proxy.Config, error) {
	pc, err := translate(desired, r.secrets)
	if err != nil {
		return proxy.Config{}, err
	}
	if r.drained {
		pc.Listeners = nil
	}
	return pc, nil
}

// serveAgain has the proxy serve what runs, after a drain began or ended.
func (r *reconciler) serveAgain(ctx context.Context) error {
	pc, err := r.proxyConfig(*r.running)
	if err != nil {
		return err
	}
	return r.proxy.Apply(ctx, pc)
}

// setAddresses puts exactly these on the interface. One that cannot be is
// remembered with the reason, and keeps its VIP's gate closed.
func (r *reconciler) setAddresses(want []netip.Addr) {
	slices.SortFunc(want, netip.Addr.Compare)
	want = slices.Compact(want)
	err := r.addrs.Reconcile(want)
	old := r.vipError
	r.vipError = make(map[netip.Addr]string)
	if err == nil {
		return
	}
	missing, lookErr := r.addrs.Missing()
	if lookErr != nil {
		missing, err = want, lookErr // nothing is known: better not to announce
	}
	for _, a := range missing {
		r.vipError[a] = err.Error()
	}
	if !maps.Equal(old, r.vipError) {
		r.logger.Error("VIP could not be put on the loopback interface", "addresses", missing, "error", err)
	}
}

// addressesWell says that all addresses were put on the interface and are there.
func (r *reconciler) addressesWell() bool {
	missing, err := r.addrs.Missing()
	return len(r.vipError) == 0 && len(missing) == 0 && err == nil
}

// step observes, moves the gates, and makes the speaker follow them.
func (r *reconciler) step(ctx context.Context) {
	now := time.Now()
	next := now.Add(stepInterval)
	r.followProbes(now)
	if r.running != nil && r.frozen != silent {
		if !r.drained && !r.stopping && r.frozen == thawed && !r.addressesWell() {
			r.setAddresses(vipAddresses(r.running.Snapshot.Config)) // somebody removed one, or its obstacle
		}
		r.moveGates(r.proxy.Status(), now)
		for _, g := range r.gates {
			if t := g.NextCheck(); t.After(now) && t.Before(next) {
				next = t
			}
		}
		r.announce(ctx)
	}
	r.timer.Reset(max(next.Sub(now), time.Millisecond))
	r.publish()
}

func (r *reconciler) moveGates(status proxy.Status, now time.Time) {
	gates := make(map[string]Gate, len(r.running.Snapshot.Config.VIPs))
	var found probe.State
	if r.vitals != nil {
		found = r.vitals.State()
	}
	for _, v := range r.running.Snapshot.Config.VIPs {
		was := r.gates[v.Name]
		o := r.observe(v, status)
		r.observeVitals(&o, v, found)
		is := was.Step(o, now)
		gates[v.Name] = is
		if is.Open != was.Open || was.Since.IsZero() || is.Well() != was.Well() {
			r.logger.Info("gate moved", "vip", v.Name, "open", is.Open, "reasons", reasonCodes(is.Reasons), "overruled", reasonCodes(is.Overruled))
		}
	}
	r.gates = gates
}

func reasonCodes(reasons []Reason) []ReasonCode {
	out := make([]ReasonCode, 0, len(reasons))
	for _, reason := range reasons {
		out = append(out, reason.Code)
	}
	return out
}

// observe collects what the gate of one VIP decides on.
func (r *reconciler) observe(v registry.VIP, status proxy.Status) Observation {
	o := Observation{
		Applied: true, Stopping: r.stopping, Draining: r.draining,
		MinHealthy: v.MinHealthy, NextHops: nextHops(r.running.Snapshot.Config, r.self, v), Unrouted: v.Mode == registry.ModeARP,
		NotSelected: !v.SelectsNode(r.self.Name),
	}
	for _, a := range v.Addresses {
		if text, ok := r.vipError[a]; ok {
			o.AddressError = text
		}
	}
	for _, l := range r.running.Snapshot.Config.Listeners {
		if l.VIP != v.Name {
			continue
		}
		o.Listeners++
		i := slices.IndexFunc(status.Listeners, func(s proxy.ListenerStatus) bool { return s.Name == l.Name })
		if i < 0 || !status.Listeners[i].Accepting {
			o.NotAccepting = append(o.NotAccepting, l.Name)
		}
		for _, name := range l.Pools() {
			o.see(name, status.Pools)
		}
	}
	return o
}

// see takes in the state of a pool, once.
func (o *Observation) see(name string, pools []proxy.PoolStatus) {
	i := slices.IndexFunc(pools, func(s proxy.PoolStatus) bool { return s.Name == name })
	if i < 0 || slices.Contains(o.Unchecked, name) || slices.Contains(o.Short, name) {
		return
	}
	if p := pools[i]; !p.Checked {
		o.Unchecked = append(o.Unchecked, name)
	} else if p.Healthy < o.MinHealthy {
		o.Short = append(o.Short, name)
	}
}

// announce hands the speaker and the holder what the gates allow, if that changed.
func (r *reconciler) announce(ctx context.Context) {
	open := func(vip string) bool { return r.gates[vip].Open }
	r.answer(r.running.Snapshot.Config, open)
	state, err := openedState(r.running.Snapshot.Config, r.secrets, r.self, open)
	if err != nil {
		r.bgpError = err
		return
	}
	if r.leaving {
		state = worse(state)
	}
	if r.lastBGP == nil || !reflect.DeepEqual(*r.lastBGP, state) {
		r.handOver(ctx, state)
	}
}

// handOver gives the speaker a new state, and remembers how that went.
func (r *reconciler) handOver(ctx context.Context, state bgp.State) {
	err := r.speaker.Reconcile(ctx, state)
	var unconfirmed *bgp.UnconfirmedError
	if errors.As(err, &unconfirmed) {
		// The new state stands: it is on its way, or the session is about to end.
		r.logger.Warn("a router did not acknowledge an announcement", "neighbors", unconfirmed.Neighbors)
		err = nil
	}
	if err != nil {
		if r.bgpError == nil || r.bgpError.Error() != err.Error() {
			r.logger.Error("announcements could not be changed", "error", err)
		}
		r.bgpError, r.lastBGP = err, nil
		return
	}
	r.bgpError, r.lastBGP = nil, &state
}

func (r *reconciler) publish() {
	v := &View{
		Draining: r.draining, Drained: r.drained, Failure: r.failure,
		Gates: r.gates, Handed: r.lastBGP, replaced: make(chan struct{}),
	}
	if r.running != nil {
		v.Version, v.Revision, v.Applied = r.running.Snapshot.Version, r.running.Revision, true
		v.Config, v.Desired = r.running.Snapshot.Config, *r.running
	}
	if r.failed != nil {
		v.FailedRevision, v.FailedVersion = r.failed.Revision, r.failed.Snapshot.Version
	}
	if r.unsaved != nil {
		v.Warnings = append(v.Warnings, fmt.Sprintf("configuration %d is not kept on disk, a restart would serve an older one: %s", v.Version, r.unsaved))
	}
	if r.bgpError != nil {
		v.Warnings = append(v.Warnings, "announcements could not be changed: "+r.bgpError.Error())
	}
	old := r.view.Swap(v)
	close(old.replaced)
}

func vipOf(c registry.Config, name string) registry.VIP {
	for _, v := range c.VIPs {
		if v.Name == name {
			return v
		}
	}
	return registry.VIP{}
}

// stateFiles is what a node keeps of itself on disk, and how it reads what is
// sealed in it.
type stateFiles struct {
	secrets      secrets
	saveApplied  func(fsm.Desired) error
	saveDraining func(bool) error
	draining     bool // as found at start
	vitals       vitals
	answers      answerer
}

// Refusals of requests.
var (
	errDrainUnderWay = errors.New("a drain or an upgrade is under way: wait for its end")
	errStopped       = errors.New("the node is stopping")
)
