// Package member keeps the heartbeats of a cluster: which nodes are alive, what
// each says of itself, and how far its clock is off. It gossips with
// hashicorp/memberlist (SWIM with Lifeguard), encrypted with a key that all
// nodes share. What it knows is fast and may be wrong for a moment: nothing is
// decided by it that needs agreement.
package member

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// Config is what a node needs to take part.
type Config struct {
	// Name is the node's name, unique in the cluster.
	Name string
	// BindAddr is where heartbeats arrive, UDP and TCP. Port 0 takes a free one.
	BindAddr netip.AddrPort
	// AdvertiseAddr is where the others reach this node. Default: the BindAddr,
	// which must then be no wildcard.
	AdvertiseAddr netip.AddrPort
	// SecretKey encrypts the gossip: 32 bytes, the same on all nodes (AES-256 in GCM).
	SecretKey []byte
	// Seeds gives the gossip addresses, host:port, of the nodes that should be
	// there; this node's own may be among them. It is asked again whenever one
	// of them is missing.
	Seeds  func() []string
	Logger *slog.Logger

	// Now is this node's clock, which the others compare theirs with. Default time.Now.
	Now func() time.Time

	// ProbeInterval is the time between two heartbeats: each goes to another
	// member, in turn. Default 200ms.
	ProbeInterval time.Duration
	// ProbeTimeout is how long one is waited for, before others are asked to
	// try as well. Default 100ms.
	ProbeTimeout time.Duration
	// SuspicionMult is how many intervals a suspect has to object before it is
	// declared dead. Default 2.
	SuspicionMult int
}

// keyBytes is AES-256's.
const keyBytes = 32

func (c Config) withDefaults() Config {
	if c.ProbeInterval == 0 {
		c.ProbeInterval = 200 * time.Millisecond
	}
	if c.ProbeTimeout == 0 {
		c.ProbeTimeout = 100 * time.Millisecond
	}
	if c.SuspicionMult == 0 {
		c.SuspicionMult = 2
	}
	if !c.AdvertiseAddr.IsValid() {
		c.AdvertiseAddr = c.BindAddr
	}
	if c.Seeds == nil {
		c.Seeds = func() []string { return nil }
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// Validate reports every fault of the configuration at once. New calls it.
func (c Config) Validate() error {
	c = c.withDefaults()
	var faults []error
	if c.Name == "" {
		faults = append(faults, errors.New("name: missing"))
	}
	if !c.BindAddr.IsValid() {
		faults = append(faults, errors.New("bind_addr: missing"))
	} else if c.AdvertiseAddr.Addr().IsUnspecified() {
		faults = append(faults, fmt.Errorf("advertise_addr: nodes cannot be reached at %s: give an address of this node", c.AdvertiseAddr))
	}
	if len(c.SecretKey) != keyBytes {
		faults = append(faults, fmt.Errorf("secret_key: %d bytes, want %d", len(c.SecretKey), keyBytes))
	}
	if c.ProbeTimeout > c.ProbeInterval {
		faults = append(faults, fmt.Errorf("probe_timeout: %s is more than the probe_interval, %s", c.ProbeTimeout, c.ProbeInterval))
	}
	if c.SuspicionMult < 1 {
		faults = append(faults, fmt.Errorf("suspicion_mult: %d, want 1 or more", c.SuspicionMult))
	}
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("member configuration: %w", err)
	}
	return nil
}

// Membership is this node's part in the gossip. Its methods may be called from
// any goroutine, at any time.
type Membership struct {
	cfg    Config
	roster *roster
	ran    atomic.Bool

	mu      sync.Mutex
	want    Meta   // to be told
	encoded []byte // want, as bytes
	wake    chan struct{}
}

// New makes a membership that has not started. See Run.
func New(cfg Config) (*Membership, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	m := &Membership{cfg: cfg, roster: newRoster(cfg.Name, cfg.Logger, cfg.Now), wake: make(chan struct{}, 1)}
	return m, m.SetMeta(Meta{})
}

// SetMeta changes what this node says of itself. Changes that matter go out
// within tens of milliseconds; a change of Load alone only when it is large,
// and at most once a second. The error is ErrMetaTooLong, and changes nothing.
func (m *Membership) SetMeta(meta Meta) error {
	encoded, err := meta.encode()
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.want, m.encoded = meta, encoded
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default:
	}
	return nil
}

// Members lists the nodes by name, this one included once it runs. A dead one
// stays listed for an hour.
func (m *Membership) Members() []Member {
	members, _ := m.roster.list()
	return members
}

// Watch is Members, and a channel that is closed at the next change: a node
// came alive, died, or has new metadata or a clock that was not known before.
func (m *Membership) Watch() ([]Member, <-chan struct{}) { return m.roster.list() }

// Run takes part until ctx ends, then says good-bye and returns, after its
// goroutines have ended. It keeps trying to reach the seeds that are missing.
// The error is that the address could not be bound. A Membership runs once.
func (m *Membership) Run(ctx context.Context) error {
	if !m.ran.CompareAndSwap(false, true) {
		return errors.New("a membership runs once")
	}
	m.mu.Lock()
	told := m.want // by Create, or older
	m.mu.Unlock()
	list, err := memberlist.Create(m.memberlistConfig())
	if err != nil {
		return fmt.Errorf("listen for heartbeats on %s (UDP and TCP): %w; if another program has the port, stop it or set another one", m.cfg.BindAddr, err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { m.gossipMeta(ctx, list, told) })
	wg.Go(func() { m.seek(ctx, list) })
	<-ctx.Done()
	wg.Wait()
	if err := list.Leave(leaveTimeout); err != nil {
		m.cfg.Logger.Info("left without saying good-bye", "error", err)
	}
	if err := list.Shutdown(); err != nil {
		return fmt.Errorf("stop listening for heartbeats: %w", err)
	}
	return nil
}

const leaveTimeout = 500 * time.Millisecond

// memberlistConfig differs from memberlist's LAN defaults where those take
// seconds: a death is known within 1 s at 200ms, 100ms, 2.
func (m *Membership) memberlistConfig() *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	c.Name = m.cfg.Name
	c.BindAddr, c.BindPort = m.cfg.BindAddr.Addr().String(), int(m.cfg.BindAddr.Port())
	c.AdvertiseAddr, c.AdvertisePort = m.cfg.AdvertiseAddr.Addr().String(), int(m.cfg.AdvertiseAddr.Port())
	c.SecretKey = m.cfg.SecretKey
	c.ProbeInterval, c.ProbeTimeout, c.SuspicionMult = m.cfg.ProbeInterval, m.cfg.ProbeTimeout, m.cfg.SuspicionMult
	c.AwarenessMaxMultiplier = 4 // a node that is slow itself blames others at most 4 times slower
	c.GossipInterval = 20 * time.Millisecond
	c.PushPullInterval = 5 * time.Second
	c.TCPTimeout = 2 * time.Second
	c.DeadNodeReclaimTime = 10 * time.Second // a node may come back at another address
	c.EnableCompression = false              // messages are small, CPU is dear
	c.Logger = newListLogger(m.cfg.Logger)
	c.Delegate, c.Events, c.Ping, c.Conflict = delegate{m}, m.roster, m.roster, m.roster
	return c
}

// gossipMeta tells the others when this node's metadata changed.
func (m *Membership) gossipMeta(ctx context.Context, list *memberlist.Memberlist, sent Meta) {
	at := time.Now()
	for ctx.Err() == nil {
		m.mu.Lock()
		want := m.want
		m.mu.Unlock()
		var later <-chan time.Time
		if wait, tell := due(sent, want, time.Since(at)); tell && wait == 0 {
			if err := list.UpdateNode(leaveTimeout); err != nil {
				m.cfg.Logger.Debug("metadata is still to reach the first member", "error", err)
			}
			sent, at = want, time.Now()
			continue
		} else if tell {
			later = time.After(wait)
		}
		select {
		case <-m.wake:
		case <-later:
		case <-ctx.Done():
		}
	}
}

const (
	seekFirst = 250 * time.Millisecond
	seekMost  = 10 * time.Second
)

// seek joins the seeds that are missing, less and less often while their number
// does not change, and soon again when it does.
func (m *Membership) seek(ctx context.Context, list *memberlist.Memberlist) {
	pause, before := seekFirst, -1
	for ctx.Err() == nil {
		m.roster.forget()
		missing := m.roster.missing(m.cfg.Seeds())
		if len(missing) != before {
			pause, before = seekFirst, len(missing)
		}
		for _, seed := range missing {
			if ctx.Err() != nil {
				break
			}
			if _, err := list.Join([]string{seed}); err != nil {
				m.cfg.Logger.Debug("seed does not answer", "seed", seed, "error", err)
			}
		}
		select {
		case <-time.After(pause + rand.N(pause/2)): // jitter: nodes start together
		case <-ctx.Done():
		}
		pause = min(2*pause, seekMost)
	}
}

// delegate gives memberlist this node's metadata. It takes no messages.
type delegate struct{ m *Membership }

func (d delegate) NodeMeta(int) []byte {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	return d.m.encoded
}

func (delegate) NotifyMsg([]byte)                {}
func (delegate) GetBroadcasts(_, _ int) [][]byte { return nil }
func (delegate) LocalState(bool) []byte          { return nil }
func (delegate) MergeRemoteState([]byte, bool)   {}
