package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/pharos-lb/pharos/cluster/api"
	"github.com/pharos-lb/pharos/node"
)

const nodeFileName = "pharos.yaml"

// nodeFiles keeps node files as package node does.
func nodeFiles() nodeHome {
	return nodeHome{
		check: func(c nodeConfig) (nodeConfig, error) {
			full := fileOf(c).WithDefaults()
			return configOf(full), full.Validate()
		},
		load: func(dir string) (nodeConfig, error) {
			c, err := node.LoadConfig(dir)
			if errors.Is(err, node.ErrNoConfig) {
				err = fmt.Errorf("%w: %w", errNoNode, err)
			}
			return configOf(c), err
		},
		write:  func(dir string, c nodeConfig) error { return node.WriteConfig(dir, fileOf(c)) },
		remove: func(dir string) error { return os.Remove(filepath.Join(dir, nodeFileName)) },
		bootstrap: func(ctx context.Context, dir string, founded api.Founded) error {
			return node.Bootstrap(ctx, dir, founded.Token)
		},
	}
}

func fileOf(c nodeConfig) node.Config {
	return node.Config{Name: c.Name, Address: c.Address, Addresses: c.Addresses, Peers: c.Peers}
}

func configOf(c node.Config) nodeConfig {
	return nodeConfig{Name: c.Name, Address: c.Address, Addresses: c.Addresses, Peers: c.Peers}
}
