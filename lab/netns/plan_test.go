package netns

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pharos-lb/pharos/lab/topo"
)

func TestMissingProgramsAreNamedWithTheirPackages(t *testing.T) {
	required := []requirement{{"ip", "iproute2"}, {"/usr/lib/frr/zebra", "frr"}, {"/usr/lib/frr/bgpd", "frr"}, {"nft", "nftables"}}
	look := func(name string) (string, error) {
		if name == "ip" {
			return "/sbin/ip", nil
		}
		return "", os.ErrNotExist
	}
	err := checkTools(required, look)
	var missing *MissingError
	if !errors.As(err, &missing) {
		t.Fatalf("error %v, want a *MissingError", err)
	}
	want := "the lab needs /usr/lib/frr/zebra, /usr/lib/frr/bgpd, nft: apt-get install frr nftables"
	if err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
	if err := checkTools(required[:1], look); err != nil {
		t.Errorf("nothing is missing: %v", err)
	}
}

func TestLookToolWantsAProgram(t *testing.T) {
	file := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{file, filepath.Dir(file), "/gone", "no-such-program"} {
		if found, err := lookTool(name); err == nil {
			t.Errorf("%s: found as %s", name, found)
		}
	}
	if _, err := lookTool("sh"); err != nil {
		t.Error(err)
	}
}

func TestPlanMounts(t *testing.T) {
	host, sources, dir := t.TempDir(), t.TempDir(), t.TempDir()
	there := filepath.Join(host, "there.conf")
	for _, file := range []string{there, filepath.Join(sources, "a"), filepath.Join(sources, "b")} {
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a, b := filepath.Join(sources, "a"), filepath.Join(sources, "b")
	gone := filepath.Join(host, "gone.conf")
	tests := []struct {
		name  string
		binds []topo.Bind
		want  []mount
		err   string
	}{
		{"a target that is there", []topo.Bind{{Source: "a", Target: there, ReadOnly: true}}, []mount{{Source: a, Target: there, ReadOnly: true}}, ""},
		{
			"one that is not, beside one that is",
			[]topo.Bind{{Source: "a", Target: there}, {Source: b, Target: gone}},
			[]mount{{Source: filepath.Join(dir, "mnt", host), Target: host}, {Source: a, Target: there}, {Source: b, Target: gone}},
			"",
		},
		{"a folder that is not there", []topo.Bind{{Source: "a", Target: filepath.Join(host, "no", "file")}}, nil, "there is no folder"},
		{"a new file in a folder of the system", []topo.Bind{{Source: "a", Target: "/etc/no-such-file"}}, nil, "would hide the system's own"},
		{"a source that is not there", []topo.Bind{{Source: "c", Target: there}}, nil, "no such file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := planMounts(tt.binds, sources, dir)
			if (err == nil) != (tt.err == "") || (err != nil && !strings.Contains(err.Error(), tt.err)) {
				t.Fatalf("error %v, want %q", err, tt.err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			for _, m := range got {
				if rest, ok := strings.CutPrefix(m.Target, host+"/"); ok && len(got) > len(tt.binds) {
					if _, err := os.Stat(filepath.Join(dir, "mnt", host, rest)); err != nil {
						t.Errorf("nothing to mount %s on: %v", m.Target, err)
					}
				}
			}
		})
	}
}

func TestProgramsOf(t *testing.T) {
	conf := func(name string) topo.Bind { return topo.Bind{Source: name, Target: "/etc/frr/" + name} }
	tests := []struct {
		name string
		node topo.Node
		want string // names and first words
		err  string
	}{
		{"a node", topo.Node{Image: "pharos:lab", Role: topo.RoleNode, Cmd: []string{"serve"}}, "main=pharos serve", ""},
		{"an image with a registry and a digest", topo.Node{Image: "r.example:5000/x/pharos@sha256:0", Role: topo.RoleBackend, Cmd: []string{"lab", "backend"}}, "main=pharos lab backend", ""},
		{"a client needs no process", topo.Node{Image: "pharos:lab", Role: topo.RoleClient, Cmd: []string{"lab", "hold"}}, "", ""},
		{"a node without a cmd", topo.Node{Image: "pharos", Role: topo.RoleNode}, "", ""},
		{"a router: zebra first", topo.Node{Image: "frr", Binds: []topo.Bind{conf("bgpd.conf"), conf("vtysh.conf"), conf("zebra.conf"), conf("bfdd.conf")}}, "zebra=/usr/lib/frr/zebra bfdd=/usr/lib/frr/bfdd bgpd=/usr/lib/frr/bgpd", ""},
		{"a router without zebra", topo.Node{Image: "frr", Binds: []topo.Bind{conf("bgpd.conf")}}, "", "zebra.conf among them"},
		{"another image", topo.Node{Image: "alpine"}, "", "only images named pharos and frr"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			programs, err := programsOf(tt.node)
			if (err == nil) != (tt.err == "") || (err != nil && !strings.Contains(err.Error(), tt.err)) {
				t.Fatalf("error %v, want %q", err, tt.err)
			}
			var got []string
			for _, p := range programs {
				words := p.argv
				if p.name != mainProcess {
					words = words[:1]
				}
				got = append(got, p.name+"="+strings.Join(words, " "))
			}
			if text := strings.Join(got, " "); text != tt.want {
				t.Errorf("%q, want %q", text, tt.want)
			}
		})
	}
}

func TestNamesThatAreNoNamesOfLabs(t *testing.T) {
	for _, name := range []string{"", "..", "a/b", "A", "-a", "a-", strings.Repeat("a", 33), "a b"} {
		if _, err := Open(name); err == nil || !strings.Contains(err.Error(), "is not a lab's name") {
			t.Errorf("open %q: %v", name, err)
		}
		if err := Down(t.Context(), name); err == nil || !strings.Contains(err.Error(), "is not a lab's name") {
			t.Errorf("down %q: %v", name, err)
		}
	}
	if err := checkName("anycast-2"); err != nil {
		t.Error(err)
	}
}
