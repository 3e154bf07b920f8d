// Package addr keeps VIPs on the loopback interface by netlink, and removes
// what a crash left there.
package addr
