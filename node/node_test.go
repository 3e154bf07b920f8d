package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/cluster/api"
)

// founded makes a data directory with the first node of a cluster, on free
// loopback ports.
func founded(t *testing.T) (string, Config) {
	t.Helper()
	dir := t.TempDir()
	made, err := api.Found(dir, "n1", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	c := Config{Name: "n1", Address: freePort(t), Gossip: freePort(t)}.WithDefaults()
	if err := WriteConfig(dir, c); err != nil {
		t.Fatal(err)
	}
	if err := Bootstrap(t.Context(), dir, made.Token); err != nil {
		t.Fatal(err)
	}
	return dir, c
}

// freePort finds a port of loopback that is free, and is none of those that the
// kernel gives to outgoing connections: one of those could take it meanwhile.
func freePort(t *testing.T) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(20_000)))
		if err != nil {
			continue
		}
		defer l.Close()
		return l.Addr().String()
	}
	t.Fatal("no port is free")
	return ""
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	squat := func(t *testing.T, address string) {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
	}
	for _, tt := range []struct {
		name   string
		damage func(t *testing.T, dir string, c Config)
		want   string
	}{
		{"no node file", func(t *testing.T, dir string, _ Config) { remove(t, dir, configFile) }, "pharos init"},
		{"no identity", func(t *testing.T, dir string, _ Config) { remove(t, dir, "security") }, "missing"},
		{"the control port is taken", func(t *testing.T, _ string, c Config) { squat(t, c.Address) }, "control port"},
		{"the gossip port is taken", func(t *testing.T, _ string, c Config) { squat(t, c.Gossip) }, "gossip port"},
		{"the log is damaged", func(t *testing.T, dir string, _ Config) {
			if err := os.Truncate(filepath.Join(dir, "raft", "log.db"), 5000); err != nil {
				t.Fatal(err)
			}
		}, "log.db"},
		{"another name", func(t *testing.T, dir string, c Config) {
			remove(t, dir, configFile)
			c.Name = "n9"
			if err := WriteConfig(dir, c); err != nil {
				t.Fatal(err)
			}
		}, "cannot be renamed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir, c := founded(t)
			tt.damage(t, dir, c)
			if _, err := New(Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want it to say %q", err, tt.want)
			}
		})
	}
}

func remove(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

// A node whose copy of the last configuration is damaged starts all the same,
// leads its cluster of one, and stops when told.
func TestANodeStartsWithoutItsLastConfiguration(t *testing.T) {
	dir, _ := founded(t)
	if err := os.WriteFile(filepath.Join(dir, "applied.json"), []byte("{damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	n, err := New(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	leaderCtx, stop := context.WithTimeoutCause(t.Context(), 30*time.Second, errors.New("no leader within 30s"))
	defer stop()
	name, _, err := n.store.WaitLeader(leaderCtx)
	if err != nil || name != "n1" {
		t.Errorf("leader %q, %v", name, err)
	}
	if status := n.status(); status.Name != "n1" || status.AppliedVersion != 0 {
		t.Errorf("status: %v", status)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("the run ended with %v", err)
	}
}
