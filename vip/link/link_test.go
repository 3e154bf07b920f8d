package link

import (
	"net"
	"net/netip"
	"strings"
	"testing"
)

func TestChoose(t *testing.T) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	with := func(name string, addresses ...string) Interface {
		i := Interface{Name: name, MAC: mac, Carrier: true}
		for _, a := range addresses {
			i.Addresses = append(i.Addresses, netip.MustParsePrefix(a))
		}
		return i
	}
	lo := with("lo", "127.0.0.1/8", "10.0.50.100/32", "2001:db8:50::100/128")
	lo.MAC = nil
	tunnel := with("tun0", "10.9.0.1/24")
	tunnel.MAC = nil
	all := []Interface{
		lo, tunnel, with("eth0", "10.0.0.1/16", "fe80::1/64"), with("eth1", "10.0.50.11/24", "2001:db8:50::11/64", "fe80::2/64"),
		with("eth2", "2001:db8:60::11/64"), with("eth3", "fe80::3/64"),
	}
	for name, test := range map[string]struct {
		named, address, want, trouble string
	}{
		"the smallest subnet":                 {"", "10.0.50.100", "eth1", ""},
		"a wider one where that is all":       {"", "10.0.51.100", "eth0", ""},
		"IPv6":                                {"", "2001:db8:50::100", "eth1", ""},
		"by name, outside of its subnets":     {"eth1", "192.0.2.1", "eth1", ""},
		"the VIP itself on lo makes no link":  {"", "2001:db8:70::1", "", "no interface of this node has a subnet that 2001:db8:70::1 is in"},
		"no such name":                        {"eth9", "10.0.50.100", "", "this node has no interface eth9"},
		"no Ethernet":                         {"", "10.9.0.100", "tun0", "tun0 is no Ethernet interface"},
		"IPv4 without an address of its own":  {"eth3", "10.0.50.100", "eth3", "eth3 has no IPv4 address of its own"},
		"IPv6 without a link-local address":   {"", "2001:db8:60::100", "eth2", "eth2 has no link-local IPv6 address"},
		"link-local alone is enough for IPv6": {"eth3", "2001:db8:60::100", "eth3", ""},
	} {
		t.Run(name, func(t *testing.T) {
			i, trouble := Choose(all, test.named, netip.MustParseAddr(test.address))
			if i.Name != test.want || !strings.HasPrefix(trouble, test.trouble) || trouble != "" && test.trouble == "" {
				t.Errorf("got %q, %q, want %q, %q", i.Name, trouble, test.want, test.trouble)
			}
		})
	}
}
