package main

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/lab/netns"
	"github.com/pharos-lb/pharos/lab/topo"
)

// runLab runs "pharos lab" with arguments.
func runLab(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	cmd := newLabCommand()
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func TestLabRefusals(t *testing.T) {
	if os.Geteuid() != 0 {
		// Others run the whole program again in a namespace: see lab/netns/userns.
		if os.Getenv("PHAROS_REQUIRE_ROOT") == "1" {
			t.Fatal("PHAROS_REQUIRE_ROOT=1, and this is not root")
		}
		t.Skip("asks for labs of root: needs root")
	}
	broken := filepath.Join(t.TempDir(), "broken.clab.yml")
	if err := os.WriteFile(broken, []byte("name: x\ntopology:\n  nodes:\n    a: {kind: srl}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		args []string
		code int // 1 if the error has none
		want string
	}{
		{"an unknown subcommand", []string{"upp"}, 2, `there is no command "lab upp"`},
		{"an argument too many", []string{"up", "now"}, 2, `"lab up" takes no arguments`},
		{"a name that is a path", []string{"up", "--name", "../x"}, 1, `"../x" is not a lab's name`},
		{"a topology that is not there", []string{"up", "--topology", "/gone.clab.yml"}, 1, "/gone.clab.yml"},
		{"a topology with a fault", []string{"up", "--topology", broken}, 1, `broken.clab.yml:4:8: topology.nodes.a: kind "srl"`},
		{"the status of no lab", []string{"status", "--name", "no-such-lab"}, 1, "lab no-such-lab: the lab is not up: start it with `pharos lab up`"},
		{"an unknown output", []string{"status", "-o", "xml"}, 2, `-o "xml": must be table or json`},
		{"exec without a command", []string{"exec", "n1"}, 2, `"lab exec" takes NODE and a COMMAND`},
		{"exec with nothing after the dashes", []string{"exec", "n1", "--"}, 2, "there is no command to run after --"},
		{"exec in no lab", []string{"exec", "--name", "no-such-lab", "n1", "--", "true"}, 1, "is not up"},
		{"a shell nowhere", []string{"shell"}, 2, `"lab shell" takes a NODE`},
		{"a backend without addresses", []string{"backend", "--name", "b1"}, 1, "no address to listen on"},
		{"a backend on no address", []string{"backend", "--listen", "nonsense"}, 1, "backend backend: listen for http"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, err := runLab(t, tt.args...)
			if err == nil {
				t.Fatalf("succeeded: %s", out)
			}
			code := 1
			var coded interface{ ExitCode() int }
			if errors.As(err, &coded) {
				code = coded.ExitCode()
			}
			if code != tt.code || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("exit code %d, error %q; want %d, %q", code, err, tt.code, tt.want)
			}
		})
	}
	// What is wanted is so: no error.
	if out, err := runLab(t, "down", "--name", "no-such-lab"); err != nil || !strings.Contains(out, "lab no-such-lab is not up") {
		t.Errorf("down of no lab: %q, %v", out, err)
	}
}

func TestLabHidesWhatIsNotForUsers(t *testing.T) {
	visible := map[string]bool{}
	for _, c := range newLabCommand().Commands() {
		visible[c.Name()] = !c.Hidden
	}
	for name, want := range map[string]bool{"up": true, "down": true, "status": true, "exec": true, "shell": true, "backend": false, "hold": false} {
		if got, ok := visible[name]; !ok || got != want {
			t.Errorf("%s: there %v, visible %v; want visible %v", name, ok, got, want)
		}
	}
}

func TestLabStatusTable(t *testing.T) {
	status := labStatus{
		Name: "anycast",
		Nodes: []labNodeStatus{
			{Name: "tor1", Role: topo.RoleRouter, Addresses: []netip.Addr{netip.MustParseAddr("10.0.1.1")}, Processes: []netns.Process{{Name: "bgpd", Pid: 7, Alive: true}, {Name: "zebra", Pid: 6, Alive: true}}},
			{Name: "n2", Role: topo.RoleNode, Addresses: []netip.Addr{netip.MustParseAddr("10.0.2.2")}, Processes: []netns.Process{{Name: "main", Pid: 9}}},
			{Name: "client", Role: topo.RoleClient},
		},
		VIPs: []labVIPStatus{
			{Address: netip.MustParseAddr("198.51.100.1"), NextHops: []netip.Addr{netip.MustParseAddr("10.0.1.2"), netip.MustParseAddr("10.0.3.2")}},
			{Address: netip.MustParseAddr("2001:db8:100::1")},
		},
	}
	var out bytes.Buffer
	if err := status.print(&out); err != nil {
		t.Fatal(err)
	}
	want := `MACHINE  ROLE    ADDRESS   PROCESSES
tor1     router  10.0.1.1  bgpd (7), zebra (6)
n2       node    10.0.2.2  main (ended)
client   client  -         -

VIP              NEXT HOPS OF THE ROUTER
198.51.100.1     10.0.1.2 10.0.3.2
2001:db8:100::1  none: nobody announces it
`
	if out.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", out.String(), want)
	}
}

func TestStepPrinterShowsElapsedTime(t *testing.T) {
	var out bytes.Buffer
	stepPrinter(&out, time.Now().Add(-62*time.Second))("done")
	if got := out.String(); !strings.HasPrefix(got, "[ 62.") || !strings.HasSuffix(got, "s] done\n") {
		t.Errorf("%q", got)
	}
}
