package holder

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/pharos-lb/pharos/vip/owner"
)

// Status is how it is with one VIP on this node.
type Status struct {
	VIP  string
	Held bool // this node answers for it
	// Holder is who does, as far as this node knows; empty: it knows of none.
	Holder string
	Since  time.Time // of Code; zero: nothing has been decided yet
	// Epoch is the lease's, rising from holder to holder; 0: this node has none.
	Epoch       uint64
	Code        owner.Code
	Message     string
	Conflicts   uint64 // with another machine, while this node answered
	Transitions uint64 // times that this node came to hold it
	Addresses   []AddressStatus
}

// AddressStatus is what an address of a VIP hangs on.
type AddressStatus struct {
	Address   netip.Addr
	Interface string // empty: none fits
	Carrier   bool
	Trouble   string // why it cannot be answered for there; empty: it can
}

// Able reports whether this node could hold the VIP, were its gate open and the
// lease to be had.
func (s Status) Able() bool {
	return s.Code != owner.CodeCarrier && s.Code != owner.CodeLink && s.Code != owner.CodeConflict
}

// Status gives all VIPs, by name.
func (h *Holder) Status() []Status {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]Status, 0, len(h.vips))
	for _, name := range slices.Sorted(maps.Keys(h.vips)) {
		v := h.vips[name]
		d := v.owner.Decision()
		s := Status{
			VIP: name, Held: d.Answer, Holder: v.state.Holder, Since: v.since, Code: d.Code, Message: d.Message,
			Conflicts: v.owner.Conflicts, Transitions: v.held,
		}
		switch {
		case d.Answer:
			s.Holder, s.Epoch = h.cfg.Self, v.state.Epoch
		case s.Holder == h.cfg.Self:
			s.Holder = ""
		}
		for _, w := range v.wires {
			s.Addresses = append(s.Addresses, AddressStatus{Address: w.address, Interface: w.on, Carrier: w.carrier, Trouble: w.trouble})
		}
		out = append(out, s)
	}
	return out
}
