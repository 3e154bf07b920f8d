// Package holder answers for the ARP-mode VIPs that this node holds: it brings
// the lease, the node's gates, the links and what is heard on them to package
// owner, and does what that decides.
package holder

import (
	"context"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/pharos-lb/pharos/cluster/lease"
	"github.com/pharos-lb/pharos/cluster/lease/agent"
	"github.com/pharos-lb/pharos/vip/link"
	"github.com/pharos-lb/pharos/vip/owner"
)

// Leases is what it needs of cluster/lease/agent.
type Leases interface {
	SetWant(resource string, bids bool, w lease.Want)
	Forget(resource string)
	State(resource string) (s lease.State, unanswered time.Duration)
	WhileHeld(resource string, f func()) bool
	Bidders(resource string) []agent.Bidder
	Changed() <-chan struct{}
}

// Link is what it needs of vip/arp and vip/ndp: the neighbors on one interface.
type Link interface {
	Watch([]netip.Addr) error
	Run(context.Context) error
	Close() error
	Announce(netip.Addr) error
	Probe(context.Context, netip.Addr) (answered bool, err error)
}

// LinkConfig is how a Link asks and tells.
type LinkConfig struct {
	Interface string
	IPv6      bool
	WhileHeld func(netip.Addr, func())
	Rival     func(netip.Addr, net.HardwareAddr)
}

// Config is what a Holder needs. All is required.
type Config struct {
	Self string
	// Interfaces are this machine's, and Watch calls back when they may have
	// changed, from its call until ctx ends.
	Interfaces func() ([]link.Interface, error)
	Watch      func(ctx context.Context, changed func()) error
	Open       func(LinkConfig) (Link, error)
	Logger     *slog.Logger
}

// VIP is an ARP-mode VIP, as this node should deal with it.
type VIP struct {
	Name      string
	Addresses []netip.Addr
	Interface string // empty: the one with the address's subnet
	// Open: the node's gate is. Leaving: it is about to close, and another node may
	// have the VIP already, if there is one.
	Open, Leaving bool
	// Policy's Place is the node's among all that may hold the VIP.
	Policy owner.Policy
	Rank   uint32 // the highest gets it
}

// Holder is the ARP-mode VIPs of this node. Its methods may be called from any
// goroutine.
type Holder struct {
	cfg    Config
	logger *slog.Logger
	wake   chan struct{} // of size 1
	guard  guard

	mu         sync.Mutex
	ctx        context.Context // of Run; nil: it does not run
	group      *sync.WaitGroup // of Run's goroutines
	vips       map[string]*vip
	ports      map[portKey]*port
	leases     Leases // nil: the control plane does not run
	settled    time.Time
	interfaces []link.Interface
	stale      bool // interfaces are to be read again
	rewire     bool // ports are to be looked at again
	retryAt    time.Time
	kernel     string // why the kernel may answer ARP itself; empty: it does not
	rivals     map[netip.Addr]net.HardwareAddr
}

// New makes a Holder that does nothing yet.
func New(cfg Config) *Holder {
	return &Holder{
		cfg: cfg, logger: cfg.Logger, wake: make(chan struct{}, 1),
		vips: make(map[string]*vip), ports: make(map[portKey]*port), rivals: make(map[netip.Addr]net.HardwareAddr),
	}
}

// settle is how long after its start a node claims nothing without a lease: its
// sessions are not open yet, and its own voice is not to be had.
const settle = lease.MaxTerm

// Set says what there is to be dealt with. When it returns, nothing is answered
// for that is not in vips, or whose gate is closed.
func (h *Holder) Set(vips []VIP) {
	h.mu.Lock()
	defer h.mu.Unlock()
	names := make(map[string]bool, len(vips))
	for _, is := range vips {
		names[is.Name] = true
		v := h.vips[is.Name]
		if v == nil {
			v = &vip{}
			h.vips[is.Name] = v
			h.rewire = true
		}
		h.rewire = h.rewire || v.Interface != is.Interface || !slices.Equal(v.Addresses, is.Addresses)
		v.VIP = is
	}
	for name, v := range h.vips {
		if !names[name] {
			h.drop(v)
			delete(h.vips, name)
			h.rewire = true
		}
	}
	h.step(time.Now())
	h.nudge()
}

// UseLeases says by what leases are had; nil: by nothing, since the control plane
// stops. Nothing is answered for by the former ones when it returns.
func (h *Holder) UseLeases(l Leases) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.guard.use(l)
	h.leases, h.settled = l, time.Now().Add(settle)
	h.step(time.Now())
	h.nudge()
}

// SetKernel says why the kernel may answer ARP for a VIP by itself; nil: it does
// not. While it may, no IPv4 VIP is held.
func (h *Holder) SetKernel(trouble error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.kernel = ""
	if trouble != nil {
		h.kernel = "the kernel may answer ARP for it on each node: " + trouble.Error()
	}
	h.rewire = true
	h.nudge()
}

func (h *Holder) nudge() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// Run answers until ctx ends, and gives all back then.
func (h *Holder) Run(ctx context.Context) error {
	var group sync.WaitGroup
	inner, cancel := context.WithCancel(ctx)
	defer group.Wait()
	defer cancel()
	h.mu.Lock()
	h.ctx, h.group, h.stale, h.rewire = inner, &group, true, true
	h.mu.Unlock()
	group.Go(func() {
		_ = h.cfg.Watch(inner, func() { // it ends with inner
			h.mu.Lock()
			h.stale = true
			h.mu.Unlock()
			h.nudge()
		})
	})
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		h.mu.Lock()
		var changed <-chan struct{}
		if h.leases != nil {
			changed = h.leases.Changed() // before it is looked at
		}
		now := time.Now()
		h.step(now)
		next := h.next(now)
		h.mu.Unlock()
		timer.Reset(max(next.Sub(now), time.Millisecond))
		select {
		case <-changed:
		case <-h.wake:
		case <-timer.C:
		case <-ctx.Done():
			h.stop()
			return nil
		}
	}
}

// stop falls silent and gives all back.
func (h *Holder) stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, v := range h.vips {
		h.drop(v)
	}
	for key, p := range h.ports {
		p.close()
		delete(h.ports, key)
	}
	h.ctx = nil
}

// drop gives one VIP back. The caller holds mu.
func (h *Holder) drop(v *vip) {
	h.guard.refuse(v.Addresses)
	v.quit()
	if h.leases != nil {
		h.leases.Forget(v.Name)
	}
	if v.owner.Decision().Answer {
		h.logger.Info("VIP released", "vip", v.Name, "reason", "removed")
	}
	v.owner, v.schedule = owner.Owner{}, owner.Schedule{}
}

// step does what is due. The caller holds mu.
func (h *Holder) step(now time.Time) {
	if h.ctx == nil {
		return
	}
	if h.stale {
		list, err := h.cfg.Interfaces()
		if err != nil {
			h.logger.Warn("interfaces could not be read", "error", err)
			h.retryAt = now.Add(retry)
		} else {
			h.interfaces, h.stale, h.rewire = list, false, true
		}
	}
	if h.rewire || !h.retryAt.IsZero() && !now.Before(h.retryAt) {
		h.wire(now)
	}
	for _, name := range slices.Sorted(maps.Keys(h.vips)) {
		h.stepVIP(h.vips[name], now)
	}
}

// next is when a step is due without an event. The caller holds mu.
func (h *Holder) next(now time.Time) time.Time {
	next := now.Add(time.Minute)
	sooner := func(t time.Time) {
		if !t.IsZero() && t.Before(next) {
			next = t
		}
	}
	sooner(h.retryAt)
	for _, v := range h.vips {
		sooner(v.owner.Next(v.Policy, now))
		sooner(v.schedule.Next())
		sooner(v.lonely)
	}
	return next
}
