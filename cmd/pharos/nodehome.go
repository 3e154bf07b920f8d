package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/pharos-lb/pharos/cluster/api"
)

// defaultControlPort is what an address without a port means.
const defaultControlPort = 7443

// bootstrapTimeout bounds making the first state: a few writes to disk.
const bootstrapTimeout = time.Minute

// errNoNode says that a data directory has no node file.
var errNoNode = errors.New("no node here")

// nodeConfig is what commands read and write of a node file.
type nodeConfig struct {
	Name      string
	Address   string       // control, host:port
	Addresses []netip.Addr // the node's own, towards the routers
	Peers     []string     // control addresses of other members
}

// nodeHome is what commands need of the node in a data directory. nodefile.go
// makes the one there is.
type nodeHome struct {
	// check fills in what is absent, and finds all that is wrong.
	check func(nodeConfig) (nodeConfig, error)
	// load reads the node file; errNoNode if there is none.
	load func(dir string) (nodeConfig, error)
	// write makes the node file, and refuses to replace one.
	write func(dir string, c nodeConfig) error
	// remove takes away what write made.
	remove func(dir string) error
	// bootstrap makes the first state of a new cluster, whole or not at all.
	bootstrap func(ctx context.Context, dir string, founded api.Founded) error
}

// newConfig makes the contents of a node file from what was asked for. The
// node's own addresses are those given, or else the host of its control
// address.
func (h nodeHome) newConfig(name, address string, own []string) (nodeConfig, error) {
	c := nodeConfig{Name: name, Address: withPort(address)}
	for _, text := range own {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return nodeConfig{}, fmt.Errorf("--node-address %q is not an IP address", text)
		}
		c.Addresses = append(c.Addresses, a)
	}
	c, err := h.check(c)
	if err != nil {
		return nodeConfig{}, fmt.Errorf("the node cannot be made: %s", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return c, nil
}

// vacant is an error if dir has a node already, whole or not.
func (h nodeHome) vacant(dir string) error {
	const advice = "nothing was changed; run it with \"pharos serve\", or use another --dir"
	_, err := h.load(dir)
	switch {
	case err == nil:
		return fmt.Errorf("%s holds a node already: %s", dir, advice)
	case !errors.Is(err, errNoNode):
		return fmt.Errorf("%s seems to hold a node already: %s: %w", dir, advice, err)
	}
	if taken, err := api.HasIdentity(dir); err != nil {
		return err
	} else if taken {
		return fmt.Errorf("%s belongs to a cluster already: %s", dir, advice)
	}
	return nil
}

// controlAddress is where commands ask: the address given, or this machine's
// node's own.
func (o *options) controlAddress() (string, error) {
	if o.address != "" {
		return withPort(o.address), nil
	}
	c, err := o.node.load(o.dir)
	if err != nil {
		return "", err
	}
	return c.Address, nil
}

// withPort adds the default control port to an address without one.
func withPort(address string) string {
	if _, _, err := net.SplitHostPort(address); err == nil || address == "" {
		return address
	}
	host := strings.TrimSuffix(strings.TrimPrefix(address, "["), "]")
	return net.JoinHostPort(host, strconv.Itoa(defaultControlPort))
}
