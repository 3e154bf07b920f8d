package addr

import (
	"errors"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// hostAddr is a as a host address. IPv6 skips duplicate address detection: on
// lo there is nobody to ask, and the address must be usable at once.
func hostAddr(a netip.Addr) *netlink.Addr {
	n := &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}}
	if a.Is6() {
		n.Flags = unix.IFA_F_NODAD
	}
	return n
}

// isNotThere is what the kernel answers about an address that is gone already.
func isNotThere(err error) bool { return errors.Is(err, unix.EADDRNOTAVAIL) }
