package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pharos-lb/pharos/bgp"
	"github.com/pharos-lb/pharos/cluster/fsm"
	"github.com/pharos-lb/pharos/cluster/registry"
	"github.com/pharos-lb/pharos/proxy"
)

// parts are fakes of all that a reconciler moves. They write what was done to
// them into one journal, so that tests can hold the order against the rules.
type parts struct {
	mu        sync.Mutex
	journal   []string
	events    chan struct{}
	changes   chan struct{}
	onLo      []netip.Addr
	addrErr   error
	applyErr  error
	openErr   error
	refuse    func(proxy.Config) error // what Apply does with a configuration
	running   proxy.Config
	finish    chan struct{} // FinishDrain returns when closed
	accepts   uint64
	lingering int
	saved     []uint64
	drained   []bool
	announce  []netip.Prefix
	vitals    vitals
	answers   answerer
	answered  string
}

func newParts() *parts {
	p := &parts{events: make(chan struct{}, 1), changes: make(chan struct{}, 1), finish: make(chan struct{})}
	close(p.finish)
	return p
}

// OpenConfig and OpenSecret stand for an identity: nothing is sealed.
func (p *parts) OpenConfig(c registry.Config) (registry.Config, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return c, p.openErr
}

func (p *parts) OpenSecret(_, sealed string) (string, error) { return sealed, nil }

func (p *parts) note(format string, args ...any) {
	p.journal = append(p.journal, fmt.Sprintf(format, args...))
}

type fakeSpeaker struct{ *parts }

func (s fakeSpeaker) Events() <-chan struct{}     { return s.events }
func (s fakeSpeaker) Status() []bgp.SessionStatus { return nil }
func (s fakeSpeaker) Reconcile(_ context.Context, state bgp.State) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.announce = nil
	for _, n := range state.Neighbors {
		for _, r := range n.Routes {
			s.announce = append(s.announce, r.Prefix)
		}
	}
	told := fmt.Sprint(s.announce)
	for _, n := range state.Neighbors {
		for _, r := range n.Routes {
			if slices.Contains(r.Communities, gracefulShutdown) && r.MED != nil && *r.MED == math.MaxUint32 && r.Prepend > 0 {
				told = strings.TrimSuffix(told, "]") + " last choice]"
			}
		}
	}
	s.note("announce %s", told)
	return nil
}

type fakeAddrs struct{ *parts }

func (a fakeAddrs) Reconcile(want []netip.Addr) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.addrErr != nil {
		a.onLo = nil
		return a.addrErr
	}
	if !slices.Equal(a.onLo, want) {
		a.note("addresses %v", want)
	}
	a.onLo = slices.Clone(want)
	return nil
}

func (a fakeAddrs) Missing() ([]netip.Addr, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.addrErr != nil {
		return addrs("198.51.100.1"), nil
	}
	return nil, nil
}

type fakeProxy struct{ *parts }

func (f fakeProxy) Changes() <-chan struct{} { return f.changes }
func (f fakeProxy) BeginDrain() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.note("begin drain")
}

func (f fakeProxy) Lingering() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lingering
}

func (f fakeProxy) FinishDrain(ctx context.Context) proxy.DrainReport {
	select {
	case <-f.finish:
		return proxy.DrainReport{Finished: 1}
	case <-ctx.Done():
		return proxy.DrainReport{Cut: 1}
	}
}

func (f fakeProxy) Apply(_ context.Context, c proxy.Config) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuse != nil {
		if err := f.refuse(c); err != nil {
			return err
		}
	}
	if f.applyErr != nil && len(c.Listeners) > 0 {
		return f.applyErr
	}
	var names []string
	for _, l := range c.Listeners {
		names = append(names, l.Name)
	}
	f.note("listen %v", names)
	f.running = c
	return nil
}

func (f fakeProxy) Status() proxy.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	var s proxy.Status
	for _, l := range f.running.Listeners {
		s.Listeners = append(s.Listeners, proxy.ListenerStatus{Name: l.Name, Accepting: true, Accepted: f.accepts})
	}
	for _, p := range f.running.Pools {
		s.Pools = append(s.Pools, proxy.PoolStatus{Name: p.Name, Healthy: len(p.Servers), Checked: true})
	}
	return s
}

// reconcilerFor runs a reconciler on fakes until the test ends.
func reconcilerFor(t *testing.T, p *parts, draining bool) *reconciler {
	files := stateFiles{
		draining:     draining,
		secrets:      p,
		vitals:       p.vitals,
		answers:      p.answers,
		saveApplied:  func(d fsm.Desired) error { p.saved = append(p.saved, d.Revision); return nil },
		saveDraining: func(d bool) error { p.drained = append(p.drained, d); return nil },
	}
	self := Config{Name: "n1", Addresses: addrs("10.0.1.2")}
	r := newReconciler(self, fakeSpeaker{p}, fakeAddrs{p}, fakeProxy{p}, files, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = r.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return r
}

// oneVIP is a configuration of a VIP of the given name and address.
func oneVIP(version uint64, names ...string) fsm.Desired {
	c := registry.Config{
		Neighbors: []registry.Neighbor{{Name: "tor", Address: netip.MustParseAddr("10.0.1.1"), ASN: 65000, LocalASN: 65010, Nodes: []string{"n1"}}},
		Pools:     []registry.Pool{{Name: "app", Servers: []registry.Server{{Name: "b1", Address: netip.MustParseAddrPort("10.0.21.2:80")}}}},
	}
	for i, name := range names {
		c.VIPs = append(c.VIPs, registry.VIP{Name: name, Addresses: addrs(fmt.Sprintf("198.51.100.%d", i+1)), Mode: registry.ModeBGP})
		c.Listeners = append(c.Listeners, registry.Listener{Name: "http-" + name, VIP: name, Port: 80, Protocol: registry.ProtocolHTTP, Pool: "app"})
	}
	return fsm.FromSnapshot(registry.Snapshot{Version: version, Config: c})
}

// take returns the journal so far and starts a new one.
func (p *parts) take() []string {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	j := p.journal
	p.journal = nil
	return j
}

func wantJournal(t *testing.T, p *parts, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, p.take()); diff != "" {
		t.Errorf("journal (-want +got):\n%s", diff)
	}
}

func TestAddressBeforeListenerBeforeAnnouncement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParts()
		r := reconcilerFor(t, p, false)
		r.Offer(oneVIP(1, "a"))
		wantJournal(t, p, "addresses [198.51.100.1]", "listen [http-a]", "announce [198.51.100.1/32]")
		if v := r.View(); v.Version != 1 || !v.Gates["a"].Open {
			t.Errorf("view: %+v", v)
		}
		if diff := cmp.Diff([]uint64{1}, p.saved); diff != "" {
			t.Errorf("saved versions: %s", diff)
		}
		r.Offer(oneVIP(1, "b")) // not newer
		wantJournal(t, p)
	})
}

// A VIP that other nodes are to announce is withdrawn, and served on: its address
// and listeners stay, for what the router sends until it has converged.
func TestSelectorsMoveAnnouncementsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParts()
		r := reconcilerFor(t, p, false)
		r.Offer(oneVIP(1, "a", "b"))
		p.take()
		for version, step := range []struct {
			name   string
			change func(*registry.VIP)
			want   string
			reason ReasonCode
		}{
			{"other nodes", func(v *registry.VIP) { v.Nodes = []string{"n2", "n3"} }, "announce [198.51.100.2/32]", ReasonNotSelected},
			{"this node too", func(v *registry.VIP) { v.Nodes = []string{"n1", "n2"} }, "announce [198.51.100.1/32 198.51.100.2/32]", ""},
			{"other neighbors", func(v *registry.VIP) { v.Neighbors = []string{"elsewhere"} }, "announce [198.51.100.2/32]", ReasonNoNeighbor},
			{"its neighbor", func(v *registry.VIP) { v.Neighbors = []string{"tor"} }, "announce [198.51.100.1/32 198.51.100.2/32]", ""},
		} {
			desired := oneVIP(uint64(2+version), "a", "b")
			step.change(&desired.Snapshot.Config.VIPs[0])
			r.Offer(desired)
			wantJournal(t, p, "listen [http-a http-b]", step.want)
			if g := r.View().Gates["a"]; step.reason == "" && !g.Open || step.reason != "" && !slices.Equal(reasonCodes(g.Reasons), []ReasonCode{step.reason}) {
				t.Errorf("%s: %+v", step.name, g)
			}
		}
	})
}

// A node that starts has its last configuration from disk, and then reads its
// log from an older state on, maybe before the reconciler has looked.
func TestTheNewestOfWhatIsOfferedIsAdopted(t *testing.T) {
	r := newReconciler(Config{Name: "n1"}, nil, nil, nil, stateFiles{}, slog.New(slog.DiscardHandler))
	for _, version := range []uint64{7, 5, 6} {
		r.Offer(oneVIP(version, "a"))
	}
	if got := <-r.latest; got.Revision != 7 {
		t.Errorf("revision %d is adopted", got.Revision)
	}
}

func TestAVIPThatGoesIsWithdrawnFirstAndRemovedLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParts()
		r := reconcilerFor(t, p, false)
		r.Offer(oneVIP(1, "a", "b"))
		p.take()
		r.Offer(oneVIP(2, "a"))
		wantJournal(t, p,
			"announce [198.51.100.1/32]",
			"listen [http-a]",
			"addresses [198.51.100.1]",
		)
	})
}

func TestAConfigurationThatCannotBeAppliedLeavesTheOldOneAndIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParts()
		r := reconcilerFor(t, p, false)
		r.Offer(oneVIP(1, "a"))
		p.take()
		p.applyErr = errors.New("port 80 is taken")
		r.Offer(oneVIP(2, "a", "b"))
		p.take()
		version, failure, err := r.WaitApplied(t.Context(), 2)
		if err != nil || version != 1 || failure == nil || !strings.Contains(failure.Error(), "taken") {
			t.Fatalf("wait for version 2: runs %d, failure %v, error %v", version, failure, err)
		}
		if v := r.View(); !v.Gates["a"].Open {
			t.Errorf("the VIP of the old configuration was withdrawn: %v", v.Gates["a"].Reasons)
		}
		if got := fmt.Sprint(p.onLo); got != "[198.51.100.1]" {
			t.Errorf("on the interface: %s", got)
		}
		p.mu.Lock()
		p.applyErr = nil
		p.mu.Unlock()
		time.Sleep(retryInterval + stepInterval)
		if v := r.View(); v.Version != 2 || v.FailedVersion != 0 || !v.Gates["b"].Open {
			t.Errorf("after the port was freed: %+v", v)
		}
	})
}

func TestAConfigurationWhoseKeysCannotBeOpenedIsNotServedInPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParts()
		r := reconcilerFor(t, p, false)
		r.Offer(oneVIP(1, "a"))
		p.take()
		p.openErr = errors.New("key of certificate api: is sealed by another cluster")
		r.Offer(oneVIP(2, "a", "b"))
		p.take()
		version, failure, err := r.WaitApplied(t.Context(), 2)
		if err != nil || version != 1 || failure == nil || !strings.Contains(failure.Error(), "certificate api") {
			t.Fatalf("wait for version 2: runs %d, failure %v, error %v", version, failure, err)
		}
		if n := len(p.running.Listeners); n != 1 {
			t.Errorf("%d listeners run", n)
		}
	})
}

func TestDrainWithdrawsThenConvergesThenFinishesThenCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParts()
		p.finish = make(chan struct{})
		p.lingering = 1
		r := reconcilerFor(t, p, false)
		r.Offer(oneVIP(1, "a"))
		p.take()
		result := make(chan DrainResult, 1)
		go func() {
			res, err := r.Drain(t.Context(), false)
			if err != nil {
				t.Error(err)
			}
			result <- res
		}()
		wantJournal(t, p, "begin drain")
		time.Sleep(time.Second)
		wantJournal(t, p) // still announced: a request is in flight
		p.mu.Lock()
		p.lingering = 0
		p.mu.Unlock()
		time.Sleep(drainPoll)
		wantJournal(t, p, "announce [198.51.100.1/32 last choice]")
		time.Sleep(convergeMin + drainPoll)
		wantJournal(t, p, "announce []")
		for range 10 { // the router still sends new connections for half a second
			time.Sleep(50 * time.Millisecond)
			p.mu.Lock()
			p.accepts++
			p.mu.Unlock()
		}
		wantJournal(t, p)
		if err := r.Undrain(t.Context()); !errors.Is(err, errDrainUnderWay) {
			t.Errorf("undrain in the middle: %v", err)
		}
		time.Sleep(convergeQuiet + drainPoll)
		r.Offer(oneVIP(2, "a", "b"))
		wantJournal(t, p) // the proxy is busy
		close(p.finish)
		// A drained node follows the configuration without serving it.
		wantJournal(t, p, "listen []", "addresses []", "listen []")
		if res := <-result; res.Converged < 500*time.Millisecond+convergeQuiet-drainPoll || res.Shut < convergeMin || res.Report.Finished != 1 {
			t.Errorf("result: %+v", res)
		}
		if got := codes(r.View().Gates["a"]); !slices.Contains(got, ReasonDraining) {
			t.Errorf("reasons while drained: %v", got)
		}

		if v := r.View(); v.Version != 2 {
			t.Errorf("a drained node stayed at version %d", v.Version)
		}
		if err := r.Undrain(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantJournal(t, p, "addresses [198.51.100.1 198.51.100.2]", "listen [http-a http-b]", "announce [198.51.100.1/32 198.51.100.2/32]")
		if diff := cmp.Diff([]bool{true, false}, p.drained); diff != "" {
			t.Errorf("kept on disk: %s", diff)
		}
	})
}

func TestDrainCutsAtTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParts()
		p.lingering = 1
		p.finish = make(chan struct{})
		r := reconcilerFor(t, p, false)
		r.Offer(oneVIP(1, "a"))
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		res, err := r.Drain(ctx, true)
		if err != nil || res.Report.Cut != 1 || res.Took != 5*time.Second || res.Lingered != 2500*time.Millisecond {
			t.Errorf("result %+v, error %v", res, err)
		}
		if got := codes(r.View().Gates["a"]); !slices.Contains(got, ReasonStopping) {
			t.Errorf("reasons after the stop: %v", got)
		}
	})
}

func TestADrainedNodeStaysDrainedOverARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParts()
		r := reconcilerFor(t, p, true)
		r.Offer(oneVIP(1, "a"))
		wantJournal(t, p, "listen []", "announce []")
		if got := codes(r.View().Gates["a"]); !slices.Contains(got, ReasonDraining) {
			t.Errorf("reasons: %v", got)
		}
	})
}

func TestALostAddressClosesTheGateUntilItIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParts()
		r := reconcilerFor(t, p, false)
		r.Offer(oneVIP(1, "a"))
		p.take()
		p.mu.Lock()
		p.addrErr = errors.New("address in use on eth0")
		p.mu.Unlock()
		p.changes <- struct{}{}
		wantJournal(t, p, "announce []")
		if got := r.View().Gates["a"].Reasons; len(got) != 1 || got[0].Code != ReasonNoAddress || !strings.Contains(got[0].Message, "eth0") {
			t.Errorf("reasons: %+v", got)
		}
		p.mu.Lock()
		p.addrErr = nil
		p.mu.Unlock()
		time.Sleep(stepInterval + holdDownMin + stepInterval)
		if !r.View().Gates["a"].Open {
			t.Errorf("still closed: %v", r.View().Gates["a"].Reasons)
		}
	})
}
