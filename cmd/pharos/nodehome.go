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
	"github.com/pharos-lb/pharos/node"
)

// bootstrapTimeout bounds making the first state: a few writes to disk.
const bootstrapTimeout = time.Minute

// nodeHome is what commands do to the data directory of a node. Tests replace
// parts of it, to have a disk or a bootstrap fail.
type nodeHome struct {
	// write makes the node file, and refuses to replace one.
	write func(dir string, c node.Config) error
	// bootstrap makes the first state of a new cluster, whole or not at all.
	bootstrap func(ctx context.Context, dir string, founded api.Founded) error
}

// nodeFiles is the real one.
func nodeFiles() nodeHome {
	return nodeHome{
		write: node.WriteConfig,
		bootstrap: func(ctx context.Context, dir string, founded api.Founded) error {
			return node.Bootstrap(ctx, dir, founded.Token)
		},
	}
}

// newConfig makes the contents of a node file from what was asked for. The
// node's own addresses are those given, or else the host of its control
// address.
func newConfig(name, address string, own []string) (node.Config, error) {
	c := node.Config{Name: name, Address: withPort(address)}
	for _, text := range own {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return node.Config{}, fmt.Errorf("--node-address %q is not an IP address", text)
		}
		c.Addresses = append(c.Addresses, a)
	}
	c = c.WithDefaults()
	if err := c.Validate(); err != nil {
		return node.Config{}, fmt.Errorf("the node cannot be made: %s", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return c, nil
}

// vacant is an error if dir has a node already, whole or not.
func vacant(dir string) error {
	const advice = "nothing was changed; run it with \"pharos serve\", or use another --dir"
	_, err := node.LoadConfig(dir)
	switch {
	case err == nil:
		return fmt.Errorf("%s holds a node already: %s", dir, advice)
	case !errors.Is(err, node.ErrNoConfig):
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
	c, err := node.LoadConfig(o.dir)
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
	return net.JoinHostPort(host, strconv.Itoa(node.DefaultControlPort))
}
