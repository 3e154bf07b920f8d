package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/goccy/go-yaml"

	"github.com/pharos-lb/pharos/cluster/api"
)

const nodeFileName = "pharos.yaml"

// nodeFile is the part of a node file that commands know.
type nodeFile struct {
	Name      string       `yaml:"name"`
	Address   string       `yaml:"address"`
	Addresses []netip.Addr `yaml:"addresses,omitempty"`
	Peers     []string     `yaml:"peers,omitempty"`
}

// nodeFiles keeps node files, and has no node: a program that is linked without
// one can ask nodes and join a cluster, but not make the first state of one.
func nodeFiles() nodeHome {
	return nodeHome{
		check: checkNode, load: loadNode, write: writeNode,
		remove: func(dir string) error { return os.Remove(filepath.Join(dir, nodeFileName)) },
		bootstrap: func(context.Context, string, api.Founded) error {
			return errors.New("this program was linked without the node: use one that has \"pharos serve\"")
		},
	}
}

func checkNode(c nodeConfig) (nodeConfig, error) {
	address, err := netip.ParseAddrPort(c.Address)
	if err != nil || address.Addr().IsUnspecified() || address.Port() == 0 {
		return c, fmt.Errorf("address: %q: must be an IP address that other nodes can reach, and a port above 0", c.Address)
	}
	if len(c.Addresses) == 0 {
		c.Addresses = []netip.Addr{address.Addr()}
	}
	return c, nil
}

func loadNode(dir string) (nodeConfig, error) {
	path := filepath.Join(dir, nodeFileName)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nodeConfig{}, fmt.Errorf("%w: %s does not exist: make a cluster with \"pharos init\", join one with \"pharos join\", or name the directory with --dir", errNoNode, path)
	}
	if err != nil {
		return nodeConfig{}, fmt.Errorf("read the node file: %w", err)
	}
	var f nodeFile
	if err := yaml.NewDecoder(bytes.NewReader(data)).Decode(&f); err != nil {
		return nodeConfig{}, fmt.Errorf("%s: %s", path, yaml.FormatError(err, false, false))
	}
	if _, _, err := net.SplitHostPort(f.Address); err != nil {
		return nodeConfig{}, fmt.Errorf("%s: address: %w", path, err)
	}
	return nodeConfig(f), nil
}

func writeNode(dir string, c nodeConfig) error {
	data, err := yaml.Marshal(nodeFile(c))
	if err != nil {
		return fmt.Errorf("encode the node file: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, nodeFileName), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("write the node file: %w", err)
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("write the node file: %w", err)
	}
	return nil
}
