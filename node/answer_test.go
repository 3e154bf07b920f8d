package node

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pharos-lb/pharos/cluster/fsm"
	"github.com/pharos-lb/pharos/cluster/registry"
	"github.com/pharos-lb/pharos/node/holder"
	"github.com/pharos-lb/pharos/vip/owner"
)

func TestARPVIPs(t *testing.T) {
	c := registry.Config{VIPs: []registry.VIP{
		{Name: "anycast", Addresses: addrs("198.51.100.1"), Mode: registry.ModeBGP},
		{Name: "plain", Addresses: addrs("10.0.50.100"), Mode: registry.ModeARP},
		{Name: "elsewhere", Addresses: addrs("10.0.50.101"), Mode: registry.ModeARP, Nodes: []string{"n2"}},
		{Name: "odd", Addresses: addrs("10.0.50.102"), Mode: registry.ModeARP, Nodes: []string{"n1", "n2"}, ARP: &registry.ARP{
			Interface: "eth1", Priority: 50, Preempt: new(bool), Takeover: registry.TakeoverStrict, Lease: time.Second,
			Nodes: []registry.ARPNode{{Name: "n1", Interface: "eth2"}, {Name: "n2", Priority: 150}},
		}},
	}}
	got := arpVIPs(c, Config{Name: "n1"}, []string{"n1", "n2", "n3"}, func(vip string) bool { return vip == "odd" }, true)
	want := []holder.VIP{
		{
			Name: "plain", Addresses: addrs("10.0.50.100"), Leaving: true, Rank: holder.Rank("plain", "n1", 100),
			Policy: owner.Policy{
				Takeover: owner.LastResort, Preempt: true, PreemptDelay: 10 * time.Second, Lease: 250 * time.Millisecond,
				Place: holder.Place("n1", map[string]uint32{
					"n1": holder.Rank("plain", "n1", 100), "n2": holder.Rank("plain", "n2", 100), "n3": holder.Rank("plain", "n3", 100),
				}),
			},
		},
		{
			Name: "odd", Addresses: addrs("10.0.50.102"), Interface: "eth2", Open: true, Leaving: true, Rank: holder.Rank("odd", "n1", 50),
			Policy: owner.Policy{Takeover: owner.Strict, PreemptDelay: 10 * time.Second, Lease: time.Second, Place: 1},
		},
	}
	if diff := cmp.Diff(want, got, equateAddrs); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// fakeAnswers notes which VIPs may be answered for.
type fakeAnswers struct{ *parts }

func (f fakeAnswers) Set(vips []holder.VIP) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var open []string
	for _, v := range vips {
		switch {
		case v.Open && v.Leaving:
			open = append(open, v.Name+" unless another does")
		case v.Open:
			open = append(open, v.Name)
		}
	}
	if told := fmt.Sprint("answer ", open); f.answered != told {
		f.answered = told
		f.note("%s", told)
	}
}

// arpVIP is oneVIP in mode arp, without a neighbor.
func arpVIP(version uint64, names ...string) fsm.Desired {
	d := oneVIP(version, names...)
	d.Snapshot.Config.Neighbors = nil
	for i := range d.Snapshot.Config.VIPs {
		d.Snapshot.Config.VIPs[i].Mode = registry.ModeARP
	}
	return d
}

func TestAVIPIsAnsweredForOnlyWhileItIsServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParts()
		p.answers = fakeAnswers{p}
		r := reconcilerFor(t, p, false)
		r.Offer(arpVIP(1, "a", "b"))
		wantJournal(t, p, "addresses [198.51.100.1 198.51.100.2]", "listen [http-a http-b]", "answer [a b]", "announce []")
		r.Offer(arpVIP(2, "a"))
		wantJournal(t, p, "answer [a]", "announce []", "listen [http-a]", "addresses [198.51.100.1]")

		// Another process takes over: it is that one's affair.
		if err := r.freeze(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := r.setFrozen(t.Context(), silent); err != nil {
			t.Fatal(err)
		}
		r.thaw(t.Context())
		wantJournal(t, p)

		if _, err := r.Drain(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		wantJournal(t, p, "begin drain", "answer [a unless another does]", "answer []", "listen []", "addresses []")
	})
}
