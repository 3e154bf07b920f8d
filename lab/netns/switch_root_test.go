package netns

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/pharos-lb/pharos/lab/topo"
)

func TestASwitchJoinsItsPorts(t *testing.T) {
	needRoot(t)
	l := bringUpOf(t, uniqueName("sw"), "l2")

	for _, node := range l.Nodes() {
		if node.Role == topo.RoleSwitch || node.Name == "client" {
			continue
		}
		for _, addr := range node.Addresses {
			output(t, l, "client", "pharos", "reach", addr.String())
		}
	}
	var ports []struct {
		Name   string `json:"ifname"`
		Master string `json:"master"`
		State  string `json:"state"`
	}
	if err := json.Unmarshal([]byte(output(t, l, "sw1", "bridge", "-j", "link")), &ports); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range ports {
		if p.Master != "sw1" || p.State != "forwarding" {
			t.Errorf("port %s of %q is %s, want forwarding of sw1", p.Name, p.Master, p.State)
		}
		names = append(names, p.Name)
	}
	slices.Sort(names)
	if want := []string{"sw1-b1", "sw1-b2", "sw1-b3", "sw1-client", "sw1-n1", "sw1-n2", "sw1-n3"}; !slices.Equal(names, want) {
		t.Errorf("ports %v, want %v", names, want)
	}
	if port, err := l.SwitchPort("n2"); err != nil || port.String() != "sw1:sw1-n2" {
		t.Errorf("port of n2: %v, %v", port, err)
	}
	if _, err := l.SwitchPort("sw1"); !errors.Is(err, ErrNoNode) {
		t.Errorf("port of the switch itself: %v, want ErrNoNode", err)
	}
	processes, err := l.Processes()
	if err != nil {
		t.Fatal(err)
	}
	if len(processes) != 3 {
		t.Errorf("processes %v, want those of the three backends", processes)
	}
}

// A port that is down takes the carrier from the machine on it, as a switch's
// does, and the switch keeps two machines apart where it is told to.
func TestASwitchBreaks(t *testing.T) {
	needRoot(t)
	l := bringUpOf(t, uniqueName("swb"), "l2")

	output(t, l, "sw1", "ip", "link", "set", "sw1-n1", "down")
	if err := poll(t.Context(), func() error { return carrier(t.Context(), l, "n1", false) }); err != nil {
		t.Error(err)
	}
	output(t, l, "sw1", "ip", "link", "set", "sw1-n1", "up")
	if err := poll(t.Context(), func() error { return carrier(t.Context(), l, "n1", true) }); err != nil {
		t.Error(err)
	}
	output(t, l, "client", "pharos", "reach", "10.0.50.11")

	output(t, l, "sw1", "nft", "table bridge cut {\n chain c { type filter hook forward priority 0; iifname sw1-n1 oifname sw1-n2 drop; }\n}")
	if out, err := l.Command(t.Context(), "n1", "pharos", "reach", "10.0.50.12").CombinedOutput(); err == nil {
		t.Errorf("n1 reaches n2 through the cut: %s", out)
	}
	output(t, l, "n1", "pharos", "reach", "10.0.50.13")
	output(t, l, "client", "pharos", "reach", "10.0.50.11")
	output(t, l, "client", "pharos", "reach", "10.0.50.12")
}

func carrier(ctx context.Context, l *Lab, node string, want bool) error {
	out, err := l.Command(ctx, node, "ip", "link", "show", "eth1").Output()
	if err != nil {
		return err
	}
	if got := bytes.Contains(out, []byte("LOWER_UP")); got != want {
		return fmt.Errorf("carrier of %s is %v (%q), want %v", node, got, out, want)
	}
	return nil
}
