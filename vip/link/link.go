// Package link tells which of a machine's interfaces a VIP belongs on, and
// whether that one can carry it.
package link

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Interface is a network interface at one moment.
type Interface struct {
	Name  string
	Index int
	MAC   net.HardwareAddr
	// Carrier: it is up, and so is what it is connected to.
	Carrier bool
	// Addresses are its own, with their subnets, but for those that a duplicate
	// address check is under way for, or has found.
	Addresses []netip.Prefix
}

// List gives the interfaces of this network namespace.
func List() ([]Interface, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	addresses, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	of := make(map[int][]netip.Prefix)
	for _, a := range addresses {
		ip, ok := netip.AddrFromSlice(a.IP)
		bits, _ := a.Mask.Size()
		if ok && a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) == 0 {
			of[a.LinkIndex] = append(of[a.LinkIndex], netip.PrefixFrom(ip.Unmap(), bits))
		}
	}
	list := make([]Interface, 0, len(links))
	for _, l := range links {
		a := l.Attrs()
		list = append(list, Interface{
			Name: a.Name, Index: a.Index, MAC: a.HardwareAddr, Addresses: of[a.Index],
			Carrier: a.Flags&net.FlagUp != 0 && a.RawFlags&unix.IFF_LOWER_UP != 0,
		})
	}
	return list, nil
}

// Choose gives the interface that a VIP's address belongs on: the one of that
// name or, without a name, the one with the smallest subnet that the address is
// in. trouble is why there is none that could answer for it; empty: there is.
func Choose(all []Interface, named string, a netip.Addr) (i Interface, trouble string) {
	best := -1
	for _, candidate := range all {
		if named != "" {
			if candidate.Name == named {
				return candidate, candidate.unfit(a)
			}
			continue
		}
		for _, p := range candidate.Addresses {
			// A VIP of ours, on lo, is alone in its prefix.
			if p.Contains(a) && !p.IsSingleIP() && p.Bits() > best {
				best, i = p.Bits(), candidate
			}
		}
	}
	switch {
	case named != "":
		return Interface{}, fmt.Sprintf("this node has no interface %s", named)
	case best < 0:
		return Interface{}, fmt.Sprintf("no interface of this node has a subnet that %s is in: name the interface, or give it an address of the subnet", a)
	}
	return i, i.unfit(a)
}

// unfit says why an address cannot be answered for on an interface, or nothing.
func (i Interface) unfit(a netip.Addr) string {
	if len(i.MAC) != 6 {
		return fmt.Sprintf("%s is no Ethernet interface", i.Name)
	}
	for _, p := range i.Addresses {
		if a.Is4() && p.Addr().Is4() || a.Is6() && p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() {
			return ""
		}
	}
	if a.Is4() {
		return fmt.Sprintf("%s has no IPv4 address of its own", i.Name)
	}
	return fmt.Sprintf("%s has no link-local IPv6 address, or it is being checked for duplicates", i.Name)
}
