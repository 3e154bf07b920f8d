package holder

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/pharos-lb/pharos/cluster/lease"
	"github.com/pharos-lb/pharos/cluster/lease/agent"
	"github.com/pharos-lb/pharos/vip/link"
	"github.com/pharos-lb/pharos/vip/owner"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	v4    = netip.MustParseAddr("10.0.50.100")
	v6    = netip.MustParseAddr("2001:db8:50::100")
	rival = net.HardwareAddr{2, 0, 0, 0, 0, 9}
)

// world is the leases and the links around a Holder, and what it did with them.
type world struct {
	*Holder
	t *testing.T

	mu         sync.Mutex
	state      lease.State
	unanswered time.Duration
	bidders    []agent.Bidder
	wants      map[string]lease.Want
	changed    chan struct{}
	interfaces []link.Interface
	news       func() // of interfaces
	links      map[string]*fakeLink
	openErr    error
	answers    bool // somebody answers probes
	stop       func()
}

func (w *world) SetWant(resource string, _ bool, want lease.Want) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !want.Hold && w.wants[resource].Hold && w.sends() {
		w.t.Error("a lease was given back while its VIP was answered for")
	}
	if !want.Hold {
		w.state.Held = false
	}
	w.wants[resource] = want
}

func (w *world) Forget(resource string) { w.SetWant(resource, false, lease.Want{}) }

func (w *world) State(string) (lease.State, time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.state
	s.Answered = 1
	return s, w.unanswered
}

func (w *world) WhileHeld(_ string, f func()) bool {
	f() // the guard is what is tested: a lease that has ended is package agent's affair
	return true
}

func (w *world) Bidders(string) []agent.Bidder {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.bidders)
}

func (w *world) Changed() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changed
}

// fakeLink counts what is sent on it.
type fakeLink struct {
	w      *world
	cfg    LinkConfig
	sent   []time.Time // announcements
	closed bool
}

func (l *fakeLink) Watch([]netip.Addr) error { return nil }
func (l *fakeLink) Close() error             { return nil }
func (l *fakeLink) Run(ctx context.Context) error {
	<-ctx.Done()
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	l.closed = true
	return nil
}

func (l *fakeLink) Announce(a netip.Addr) error {
	l.cfg.WhileHeld(a, func() {
		l.w.mu.Lock()
		defer l.w.mu.Unlock()
		l.sent = append(l.sent, time.Now())
	})
	return nil
}

// on is a link, and when it was announced on.
func (w *world) on(name string) (l *fakeLink, sent []time.Time, closed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	l = w.links[name]
	return l, slices.Clone(l.sent), l.closed
}

// claim has another machine claim an address.
func (w *world) claim(name string, a netip.Addr, by net.HardwareAddr) {
	l, _, _ := w.on(name)
	l.cfg.Rival(a, by)
}

func (w *world) announced() int {
	_, sent, _ := w.on("ARP eth1")
	return len(sent)
}

// wanted is what is wanted of the lease.
func (w *world) wanted() lease.Want {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.wants["office"]
}

// plug has these interfaces be there.
func (w *world) plug(all ...link.Interface) {
	w.mu.Lock()
	w.interfaces = all
	news := w.news
	w.mu.Unlock()
	news()
}

func (l *fakeLink) Probe(ctx context.Context, _ netip.Addr) (bool, error) {
	select {
	case <-time.After(200 * time.Millisecond):
	case <-ctx.Done():
	}
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	return l.w.answers, ctx.Err()
}

// eth is an interface that can carry VIPs of both families.
func eth(name string, carrier bool) link.Interface {
	return link.Interface{
		Name: name, Index: 2, MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Carrier: carrier,
		Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.50.11/24"), netip.MustParsePrefix("2001:db8:50::11/64"), netip.MustParsePrefix("fe80::1/64")},
	}
}

func office() VIP {
	return VIP{
		Name: "office", Addresses: []netip.Addr{v4, v6}, Open: true, Rank: 5,
		Policy: owner.Policy{Takeover: owner.LastResort, Preempt: true, PreemptDelay: time.Second, Lease: 250 * time.Millisecond},
	}
}

// newWorld runs a Holder; the test is in a bubble of its own.
func newWorld(t *testing.T) *world {
	w := &world{
		t: t, wants: map[string]lease.Want{}, changed: make(chan struct{}), links: map[string]*fakeLink{},
		interfaces: []link.Interface{eth("eth1", true)},
	}
	w.Holder = New(Config{
		Self: "n1", Logger: slog.New(slog.DiscardHandler),
		Interfaces: func() ([]link.Interface, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			return slices.Clone(w.interfaces), nil
		},
		Watch: func(ctx context.Context, changed func()) error {
			w.mu.Lock()
			w.news = changed
			w.mu.Unlock()
			<-ctx.Done()
			return nil
		},
		Open: func(c LinkConfig) (Link, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.openErr != nil {
				return nil, w.openErr
			}
			l := &fakeLink{w: w, cfg: c}
			w.links[map[bool]string{false: "ARP ", true: "NDP "}[c.IPv6]+c.Interface] = l
			return l, nil
		},
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := w.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	w.stop = func() { cancel(); <-ended }
	t.Cleanup(w.stop)
	w.UseLeases(w)
	w.Set([]VIP{office()})
	synctest.Wait()
	return w
}

// change has the world be otherwise, and waits until that was acted on.
func (w *world) change(f func()) {
	w.mu.Lock()
	f()
	close(w.changed)
	w.changed = make(chan struct{})
	w.mu.Unlock()
	synctest.Wait()
}

// pass lets time go by.
func (w *world) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// sends reports whether an answer for the VIP would be sent now.
func (w *world) sends() bool {
	sent := 0
	for _, a := range []netip.Addr{v4, v6} {
		w.guard.whileHeld(a, func() { sent++ })
	}
	if sent == 1 {
		w.t.Error("only one of the VIP's addresses is answered for")
	}
	return sent > 0
}

// is fails unless the VIP is in this state.
func (w *world) is(code owner.Code, held bool) {
	w.t.Helper()
	s := w.Status()[0]
	if s.Code != code || s.Held != held || w.sends() != held {
		w.t.Fatalf("%s, held %t, answered for %t; want %s, %t (%s)", s.Code, s.Held, w.sends(), code, held, s.Message)
	}
}

// take gives the VIP to this node, by lease.
func (w *world) take() {
	w.t.Helper()
	w.change(func() { w.state = lease.State{Held: true, Epoch: 7, Holder: "n1"} })
	w.is(owner.CodeLease, true)
}

func TestHeldByLeaseAndAnnounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.is(owner.CodeAsking, false)
		want := lease.Want{Hold: true, Term: 250 * time.Millisecond, Renew: RenewOf(250 * time.Millisecond), Rank: 5}
		if diff := cmp.Diff(want, w.wanted()); diff != "" {
			t.Errorf("what it wants (-want +got):\n%s", diff)
		}
		start := time.Now()
		w.take()
		w.pass(66 * time.Second)
		for _, family := range []string{"ARP eth1", "NDP eth1"} {
			var at []time.Duration
			_, sent, _ := w.on(family)
			for _, s := range sent {
				at = append(at, s.Sub(start).Round(10*time.Millisecond))
			}
			ms := time.Millisecond
			want := []time.Duration{0, 20 * ms, 40 * ms, 60 * ms, 80 * ms, 5000 * ms, 5020 * ms, 5040 * ms, 5060 * ms, 5080 * ms, 65000 * ms}
			if diff := cmp.Diff(want, at); diff != "" {
				t.Errorf("%s announced (-want +got):\n%s", family, diff)
			}
		}
		s := w.Status()[0]
		if s.Holder != "n1" || s.Epoch != 7 || s.Transitions != 1 || s.Addresses[0].Interface != "eth1" || !s.Able() {
			t.Errorf("status %+v", s)
		}
		w.change(func() { w.state = lease.State{Holder: "n2"} })
		w.is(owner.CodeOther, false)
		if s := w.Status()[0]; s.Holder != "n2" || s.Epoch != 0 {
			t.Errorf("status %+v", s)
		}
	})
}

func TestWhatEndsAHold(t *testing.T) {
	for name, test := range map[string]struct {
		do   func(*world)
		code owner.Code
		back func(*world) // what has it asked for again
	}{
		"the gate closes": {
			func(w *world) { v := office(); v.Open = false; w.Set([]VIP{v}) }, owner.CodeGate,
			func(w *world) { w.Set([]VIP{office()}) },
		},
		"the link loses its carrier": {
			func(w *world) { w.plug(eth("eth1", false)) }, owner.CodeCarrier,
			func(w *world) { w.plug(eth("eth1", true)) },
		},
		"the interface goes": {
			func(w *world) { w.plug() }, owner.CodeLink,
			func(w *world) { w.plug(eth("eth1", true)) },
		},
		"the kernel may answer": {
			func(w *world) { w.SetKernel(errors.New("read-only")) }, owner.CodeLink,
			func(w *world) { w.SetKernel(nil) },
		},
		"two rivals": {
			func(w *world) {
				w.pass(time.Second)
				for range 2 {
					w.claim("ARP eth1", v4, rival)
					synctest.Wait()
				}
			}, owner.CodeConflict,
			func(w *world) { w.pass(10 * time.Second) },
		},
		"the node leaves, and another is there": {
			func(w *world) {
				w.change(func() { w.bidders = []agent.Bidder{{Node: "n1", Rank: 5}, {Node: "n2", Rank: 1}} })
				v := office()
				v.Leaving = true
				w.Set([]VIP{v})
			}, owner.CodeGate,
			func(w *world) { w.Set([]VIP{office()}) },
		},
		"a better node has been there for long": {
			func(w *world) {
				w.change(func() { w.bidders = []agent.Bidder{{Node: "n2", Rank: 9}, {Node: "n1", Rank: 5}} })
				w.is(owner.CodeLease, true)
				w.pass(time.Second)
			}, owner.CodeYielded,
			func(w *world) { w.pass(time.Second) },
		},
		"the control plane stops": {
			func(w *world) { w.UseLeases(nil) }, owner.CodeAsking,
			func(w *world) { w.UseLeases(w) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.take()
				test.do(w)
				synctest.Wait()
				w.is(test.code, false)
				if name != "the control plane stops" && w.wanted().Hold {
					t.Error("the lease is wanted still")
				}
				test.back(w)
				synctest.Wait()
				if s := w.Status()[0]; !w.wanted().Hold || s.Code != owner.CodeAsking && s.Code != owner.CodeLease {
					t.Errorf("it is not asked for again: %s", s.Code)
				}
				w.take()
			})
		})
	}
}

func TestALeavingNodeStaysWhereNobodyElseIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.take()
		v := office()
		v.Leaving = true
		w.change(func() { w.bidders = []agent.Bidder{{Node: "n1", Rank: 5}} })
		w.Set([]VIP{v})
		w.is(owner.CodeLease, true)
	})
}

func TestWithoutAMajority(t *testing.T) {
	silent := func(w *world) {
		w.pass(settle) // it has just started
		w.change(func() { w.state, w.unanswered = lease.State{}, time.Second })
	}
	t.Run("a last resort is taken once the link was asked", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.take()
			silent(w)
			w.is(owner.CodeMajority, false)
			w.pass(200 * time.Millisecond) // the probe; it held the VIP last, so it goes first
			w.is(owner.CodeLastResort, true)
			w.change(func() { w.unanswered, w.state = 0, lease.State{Holder: "n2"} })
			w.is(owner.CodeOther, false)
		})
	})
	t.Run("another node waits for its place", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			silent(w)
			w.pass(499 * time.Millisecond)
			w.is(owner.CodeMajority, false)
			w.pass(202 * time.Millisecond)
			w.is(owner.CodeLastResort, true)
		})
	})
	t.Run("none is taken beside another", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.change(func() { w.answers = true })
			silent(w)
			w.pass(10 * time.Second)
			w.is(owner.CodeMajority, false)
		})
	})
	t.Run("strict takes none", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			v := office()
			v.Policy.Takeover = owner.Strict
			w.Set([]VIP{v})
			silent(w)
			w.pass(time.Minute)
			w.is(owner.CodeMajority, false)
		})
	})
	t.Run("a node that has just started takes none", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.change(func() { w.unanswered = time.Hour })
			w.pass(settle - time.Millisecond)
			w.is(owner.CodeAsking, false)
		})
	})
}

func TestAPartitionThatHealsIsAnnounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.take()
		w.pass(10 * time.Second)
		before := w.announced()
		w.change(func() { w.bidders = []agent.Bidder{{Node: "n1", Rank: 5}, {Node: "n3", Rank: 1}} })
		w.pass(time.Second)
		if sent := w.announced() - before; sent != 5 {
			t.Errorf("announced %d times when another node came back, want 5", sent)
		}
	})
}

func TestARivalIsCountedAndDefendedAgainst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.take()
		w.claim("NDP eth1", v6, rival) // on its way since before the takeover
		synctest.Wait()
		if s := w.Status()[0]; s.Conflicts != 0 {
			t.Error("what the former holder sent counts as a conflict")
		}
		w.pass(10 * time.Second)
		before := w.announced()
		w.claim("ARP eth1", v4, rival)
		w.pass(time.Second)
		if s := w.Status()[0]; s.Conflicts != 1 || !s.Held || w.announced()-before != 5 {
			t.Errorf("%+v, announced %d times", s, w.announced()-before)
		}
	})
}

func TestAnInterfaceThatCannotBeOpenedIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.take()
		w.mu.Lock()
		w.openErr = errors.New("operation not permitted")
		changed := eth("eth1", true)
		changed.MAC = net.HardwareAddr{2, 0, 0, 0, 0, 2} // of a bond, say: the socket answers by the old one
		w.interfaces = []link.Interface{changed}
		w.mu.Unlock()
		w.news()
		synctest.Wait()
		w.is(owner.CodeLink, false)
		if _, _, closed := w.on("ARP eth1"); !closed {
			t.Error("the socket of the old hardware address is open")
		}
		if s := w.Status()[0]; s.Able() || s.Addresses[0].Trouble != "operation not permitted" {
			t.Errorf("status %+v", s)
		}
		w.mu.Lock()
		w.openErr = nil
		w.mu.Unlock()
		w.pass(retry)
		w.take()
	})
}

func TestTheEndGivesAllBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.take()
		w.stop()
		_, _, arp := w.on("ARP eth1")
		_, _, ndp := w.on("NDP eth1")
		if w.sends() || w.wanted().Hold || !arp || !ndp {
			t.Error("something is held still")
		}
	})
}

func TestAVIPThatGoesIsGivenBackBeforeSetReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.take()
		w.Set(nil)
		if w.sends() || w.wanted().Hold || len(w.Status()) > 0 {
			t.Error("it is held still")
		}
		synctest.Wait()
		if _, _, closed := w.on("ARP eth1"); !closed {
			t.Error("its interface is listened on still")
		}
	})
}

func TestOnesThatSuitBetterGoFirst(t *testing.T) {
	bidders := []agent.Bidder{{Node: "n4", Rank: 9}, {Node: "n2", Rank: 8}, {Node: "n1", Rank: 5}, {Node: "n3", Rank: 2}}
	v := vip{VIP: office()}
	for self, want := range map[string]time.Duration{"n4": 0, "n2": 0, "n1": goFirst, "n3": 2 * goFirst} {
		if got := v.want(owner.Decision{Ask: true}, self, "n4", bidders).Delay; got != want {
			t.Errorf("%s waits %s, want %s: n4 holds", self, got, want)
		}
	}
}
