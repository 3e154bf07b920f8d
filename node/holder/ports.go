package holder

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/pharos-lb/pharos/vip/link"
)

// retry is how often an interface that could not be opened is tried again,
// beside when something about it changes.
const retry = 2 * time.Second

type portKey struct {
	name string
	ipv6 bool
}

// port is an interface that is listened on, for one family.
type port struct {
	link  Link
	index int
	mac   net.HardwareAddr
	close func()
}

// wire is what an address of a VIP hangs on.
type wire struct {
	address netip.Addr
	on      string
	port    *port // nil: trouble
	carrier bool
	trouble string
}

// wire finds each address's interface, and has those listened on that are needed.
// The caller holds mu.
func (h *Holder) wire(now time.Time) {
	h.rewire, h.retryAt = false, time.Time{}
	watched := make(map[portKey][]netip.Addr)
	chosen := make(map[portKey]link.Interface)
	for _, v := range h.vips {
		v.wires = v.wires[:0]
		for _, a := range v.Addresses {
			i, trouble := link.Choose(h.interfaces, v.Interface, a)
			if trouble == "" && a.Is4() {
				trouble = h.kernel
			}
			v.wires = append(v.wires, wire{address: a, on: i.Name, carrier: i.Carrier, trouble: trouble})
			if trouble == "" {
				key := portKey{i.Name, a.Is6()}
				watched[key], chosen[key] = append(watched[key], a), i
			}
		}
	}
	for key, p := range h.ports {
		if i, ok := chosen[key]; !ok || i.Index != p.index || !slices.Equal(i.MAC, p.mac) {
			p.close()
			delete(h.ports, key)
		}
	}
	failed := make(map[portKey]string)
	for key, addresses := range watched {
		if err := h.listen(key, chosen[key], addresses); err != nil {
			h.logger.Warn("VIPs cannot be answered for on an interface", "interface", key.name, "error", err)
			failed[key], h.retryAt = err.Error(), now.Add(retry)
		}
	}
	for _, v := range h.vips {
		for i := range v.wires {
			w := &v.wires[i]
			if w.trouble == "" {
				key := portKey{w.on, w.address.Is6()}
				w.port, w.trouble = h.ports[key], failed[key]
			}
		}
	}
}

// listen opens a port, if it is not open, and names the addresses.
func (h *Holder) listen(key portKey, i link.Interface, addresses []netip.Addr) error {
	p := h.ports[key]
	if p == nil {
		l, err := h.cfg.Open(LinkConfig{Interface: key.name, IPv6: key.ipv6, WhileHeld: h.guard.whileHeld, Rival: h.hearRival})
		if err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(h.ctx)
		p = &port{link: l, index: i.Index, mac: i.MAC, close: cancel}
		h.ports[key] = p
		h.group.Go(func() {
			if err := l.Run(ctx); err != nil {
				h.logger.Error("an interface is not listened on any more", "interface", key.name, "error", err)
			}
		})
	}
	if err := p.link.Watch(addresses); err != nil {
		p.close()
		delete(h.ports, key)
		return fmt.Errorf("watch over the VIPs: %w", err)
	}
	return nil
}

// hearRival is called from a link's goroutine.
func (h *Holder) hearRival(a netip.Addr, other net.HardwareAddr) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.rivals[a] = other
	h.nudge()
}
