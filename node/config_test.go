package node

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestConfigDefaults(t *testing.T) {
	for _, tt := range []struct{ name, address, control, gossip string }{
		{"address alone", "10.0.0.11", "10.0.0.11:7443", "10.0.0.11:7946"},
		{"address and port", "10.0.0.11:9000", "10.0.0.11:9000", "10.0.0.11:7946"},
		{"IPv6", "2001:db8::1", "[2001:db8::1]:7443", "[2001:db8::1]:7946"},
		{"IPv6 in brackets", "[2001:db8::1]", "[2001:db8::1]:7443", "[2001:db8::1]:7946"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := Config{Name: "n1", Address: tt.address}.WithDefaults()
			if c.Address != tt.control || c.Gossip != tt.gossip || len(c.Addresses) != 1 || c.DrainTimeout != 10*time.Second || c.UpgradeTimeout != time.Hour || c.Metrics != strings.Replace(tt.gossip, "7946", "9090", 1) {
				t.Errorf("got %+v", c)
			}
			if err := c.Validate(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestConfigReportsEveryFault(t *testing.T) {
	c := Config{
		Name: "N_1", Address: "example.org:7443", Gossip: "0.0.0.0:7946",
		Addresses: []netip.Addr{netip.MustParseAddr("fe80::1%eth0")}, Peers: []string{"x"}, DrainTimeout: -1, UpgradeTimeout: 169 * time.Hour, Metrics: "on", Engine: "kqueue",
	}
	err := c.Validate()
	for _, field := range []string{"name:", "address:", "gossip:", "addresses[0]:", "peers[0]:", "drain_timeout:", "upgrade_timeout:", "metrics:", "engine:"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("no fault names %q: %v", field, err)
		}
	}
}

func TestConfigRoundTripAndSecondWriteRefused(t *testing.T) {
	dir := t.TempDir()
	want := Config{
		Name: "n1", Address: "10.0.0.11:7443", Gossip: "10.0.0.11:7946",
		Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.11"), netip.MustParseAddr("2001:db8::11")},
		Peers:     []string{"10.0.0.12:7443"}, DrainTimeout: 3 * time.Second, UpgradeTimeout: time.Minute, AccessLog: "/var/log/pharos.log",
		Metrics: "127.0.0.1:9100", Engine: "epoll",
	}
	if err := WriteConfig(dir, want); err != nil {
		t.Fatal(err)
	}
	got, err := LoadConfig(dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("(-wrote +read):\n%s", diff)
	}
	if err := WriteConfig(dir, Config{Name: "n2", Address: "10.0.0.12"}); !errors.Is(err, os.ErrExist) {
		t.Errorf("second write: %v, want os.ErrExist", err)
	}
}

func TestLoadConfigRefuses(t *testing.T) {
	if _, err := LoadConfig(t.TempDir()); !errors.Is(err, ErrNoConfig) {
		t.Errorf("empty directory: %v", err)
	}
	for _, tt := range []struct{ name, file, want string }{
		{"unknown key", "name: n1\naddress: 10.0.0.1:7443\nadress: x\n", "adress"},
		{"wrong type, with its line and column", "name: [n1]\naddress: 10.0.0.1:7443\n", "[1:7]"},
		{"not YAML", "name: 'n1\n", "pharos.yaml"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, configFile), []byte(tt.file), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := LoadConfig(dir); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want it to name %q", err, tt.want)
			}
		})
	}
}
