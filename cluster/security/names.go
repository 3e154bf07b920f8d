package security

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
)

// ValidateName says whether a node may have this name. Node names are DNS
// labels (RFC 1123 section 2.1) in lower case, since they stand in certificates
// as DNS names: 1 to 63 of a-z, 0-9 and "-", with no "-" at either end.
func ValidateName(name string) error {
	if len(name) == 0 || len(name) > 63 {
		return fmt.Errorf("node name %q has %d characters: 1 to 63 are allowed", name, len(name))
	}
	for i := range len(name) {
		c := name[i]
		letter := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		inner := c == '-' && i > 0 && i < len(name)-1
		if !letter && !inner {
			return fmt.Errorf("node name %q: a-z, 0-9 and inner \"-\" are allowed, not %q", name, c)
		}
	}
	return nil
}

// ValidateAddress says whether others can use this as a node's control address:
// host:port with a port number and a host that is not the unspecified address.
func ValidateAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("control address %q is not host:port: %w", address, err)
	}
	if host == "" || len(host) > 255 {
		return fmt.Errorf("control address %q: the host must have 1 to 255 characters", address)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("control address %q: the port must be a number from 1 to 65535", address)
	}
	if ip, err := netip.ParseAddr(host); err == nil && (ip.IsUnspecified() || ip.IsMulticast()) {
		return fmt.Errorf("control address %q: other nodes cannot connect to %s", address, ip)
	}
	return nil
}
