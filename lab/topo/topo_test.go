package topo

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestDefaultTopologyIsTheDocumentedOne(t *testing.T) {
	bundle, err := Default()
	if err != nil {
		t.Fatal(err)
	}
	top := bundle.Topology
	roles := map[Role][]string{}
	for _, n := range top.Nodes {
		roles[n.Role] = append(roles[n.Role], n.Name)
	}
	want := map[Role][]string{
		RoleRouter: {"tor1"}, RoleNode: {"n1", "n2", "n3"}, RoleBackend: {"b1", "b2", "b3"}, RoleClient: {"client"},
	}
	if diff := cmp.Diff(want, roles); diff != "" {
		t.Errorf("roles (-want +got):\n%s", diff)
	}
	if len(top.Links) != 7 {
		t.Errorf("%d links, want one for each of the 7 neighbours of tor1", len(top.Links))
	}
	for _, l := range top.Links {
		if l.A.Node != "tor1" {
			t.Errorf("link %s %s is not with tor1", l.A, l.B)
		}
	}
	for name, want := range map[string][]string{
		"n2": {"10.0.2.2", "2001:db8:2::2"}, "b3": {"10.0.23.2", "2001:db8:23::2"}, "client": {"10.0.31.2", "2001:db8:31::2"},
	} {
		node, _ := top.Node(name)
		var got []string
		for _, a := range node.Addresses() {
			got = append(got, a.String())
		}
		if !slices.Equal(got, want) {
			t.Errorf("addresses of %s: %v, want %v", name, got, want)
		}
	}
	router, _ := top.Node("tor1")
	for _, key := range []string{"net.ipv4.fib_multipath_hash_policy", "net.ipv6.fib_multipath_hash_policy", "net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"} {
		if router.Sysctls[key] != "1" {
			t.Errorf("sysctl %s of tor1 is %q, want 1", key, router.Sysctls[key])
		}
	}
	if router.Image != "frr" {
		t.Errorf("image of tor1 is %q: its own word must replace that of its kind", router.Image)
	}
	if n1, _ := top.Node("n1"); n1.Image != "pharos:lab" || !slices.Contains(n1.CapAdd, "NET_ADMIN") {
		t.Errorf("n1 has image %q and capabilities %v: kinds and defaults are not merged", n1.Image, n1.CapAdd)
	}
	vips, err := bundle.VIPs()
	if err != nil {
		t.Fatal(err)
	}
	if want := []netip.Addr{netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("2001:db8:100::1")}; !slices.Equal(vips, want) {
		t.Errorf("VIPs %v, want %v", vips, want)
	}
}

func TestTheL2TopologyIsOneSegment(t *testing.T) {
	bundle, err := Open("l2")
	if err != nil {
		t.Fatal(err)
	}
	top := bundle.Topology
	roles := map[Role][]string{}
	for _, n := range top.Nodes {
		roles[n.Role] = append(roles[n.Role], n.Name)
		if (n.Kind == KindBridge) != (n.Role == RoleSwitch) {
			t.Errorf("%s is a %s with the role %s", n.Name, n.Kind, n.Role)
		}
		for _, a := range n.Addresses() {
			if !netip.MustParsePrefix("10.0.50.0/24").Contains(a) && !netip.MustParsePrefix("2001:db8:50::/64").Contains(a) {
				t.Errorf("address %s of %s is not of the segment", a, n.Name)
			}
		}
	}
	want := map[Role][]string{
		RoleSwitch: {"sw1"}, RoleNode: {"n1", "n2", "n3"}, RoleBackend: {"b1", "b2", "b3"}, RoleClient: {"client"},
	}
	if diff := cmp.Diff(want, roles); diff != "" {
		t.Errorf("roles (-want +got):\n%s", diff)
	}
	plugged := map[string]bool{}
	for _, l := range top.Links {
		// On a host with containerlab the ports are the host's interfaces.
		if l.A.Node != "sw1" || l.A.Interface != "sw1-"+l.B.Node || l.B.Interface != "eth1" {
			t.Errorf("link %s %s is not a port of sw1 named after its machine", l.A, l.B)
		}
		plugged[l.B.Node] = true
	}
	if len(plugged) != 7 {
		t.Errorf("%d machines on the switch, want 7", len(plugged))
	}
	vips, err := bundle.VIPs()
	if err != nil {
		t.Fatal(err)
	}
	if len(vips) != 6 || vips[0] != netip.MustParseAddr("10.0.50.100") || vips[1] != netip.MustParseAddr("2001:db8:50::100") {
		t.Errorf("VIPs %v, want three pairs, 10.0.50.100 and 2001:db8:50::100 first", vips)
	}
}

func TestOpenByName(t *testing.T) {
	if names := Names(); !slices.Equal(names, []string{"anycast", "l2"}) {
		t.Errorf("names %v", names)
	}
	for _, name := range Names() {
		if bundle, err := Open(name); err != nil || bundle.Topology.Name != name || bundle.File != name+".clab.yml" {
			t.Errorf("open %s: %v", name, err)
		}
	}
	// A file of the name is another thing.
	t.Chdir(t.TempDir())
	if err := os.WriteFile("l2", []byte(small), 0o600); err != nil {
		t.Fatal(err)
	}
	if bundle, err := Open("./l2"); err != nil || bundle.Topology.Name != "t" {
		t.Errorf("open the file: %v", err)
	}
}

const small = `name: t
topology:
  nodes:
    a: {kind: linux, image: x, labels: {pharos.role: router}, binds: ["f.conf:/etc/x/f.conf:ro"], exec: ["ip addr add 10.0.0.1/24 dev eth1"]}
    b: {kind: linux, image: x, labels: {pharos.role: client}, cmd: "run --name 'a b'"}
  links:
    - endpoints: ["a:eth1", "b:eth1"]
`

func TestParse(t *testing.T) {
	got, err := Parse("t.yml", []byte(small))
	if err != nil {
		t.Fatal(err)
	}
	want := &Topology{
		Name: "t",
		Nodes: []Node{
			{
				Name: "a", Kind: "linux", Image: "x", Role: RoleRouter,
				Labels: map[string]string{"pharos.role": "router"},
				Binds:  []Bind{{Source: "f.conf", Target: "/etc/x/f.conf", ReadOnly: true}},
				Exec:   [][]string{{"ip", "addr", "add", "10.0.0.1/24", "dev", "eth1"}},
			},
			{
				Name: "b", Kind: "linux", Image: "x", Role: RoleClient,
				Labels: map[string]string{"pharos.role": "client"},
				Cmd:    []string{"run", "--name", "a b"},
			},
		},
		Links: []Link{{A: Endpoint{"a", "eth1"}, B: Endpoint{"b", "eth1"}, MTU: DefaultMTU}},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestParseRefuses(t *testing.T) {
	tests := []struct {
		name, old, new string
		want           string // in the error, with its place
	}{
		{"an unknown key at the top", "name: t\n", "name: t\nnmae: u\n", "t.yml:2:1: "},
		{"an unknown key of a node", "image: x, labels: {pharos.role: client}", "imgae: x, labels: {pharos.role: client}", "t.yml:5:"},
		{"a wrong type", "binds: [", "binds: 5, x: [", "t.yml:4:"},
		{"YAML that ends early", "links:", "links: [", "t.yml:"},
		{"a name with a slash", "name: t\n", "name: ../t\n", "is not a lab's name"},
		{"another kind", "a: {kind: linux", "a: {kind: srl", `t.yml:4:8: topology.nodes.a: kind "srl"`},
		{"no role", "pharos.role: client", "role: client", "it must be router, node, backend, client or switch"},
		{"a machine as a switch", "pharos.role: client", "pharos.role: switch", "only kind bridge can be one"},
		{"a bridge as a client", "b: {kind: linux, image: x, labels: {pharos.role: client}, cmd: \"run --name 'a b'\"}", "b: {kind: bridge, labels: {pharos.role: client}}", "a bridge must be a switch"},
		{"a bridge with an image", "b: {kind: linux, image: x, labels: {pharos.role: client}, cmd: \"run --name 'a b'\"}", "b: {kind: bridge, image: x, labels: {pharos.role: switch}}", "a bridge has no image"},
		{"a bridge that runs something", "b: {kind: linux, image: x, labels: {pharos.role: client}", "b: {kind: bridge, labels: {pharos.role: switch}", "t.yml:5:8: topology.nodes.b: a bridge has no cmd"},
		{"a link to nowhere", `"b:eth1"]`, `"c:eth1"]`, `t.yml:7:29: topology.links[0].endpoints[1]: there is no node "c"`},
		{"a link with one end", `"a:eth1", "b:eth1"`, `"a:eth1"`, "this one has 1"},
		{"both ends the same", `"b:eth1"]`, `"a:eth1"]`, "is the end of another link already"},
		{"an interface name too long", `"b:eth1"]`, `"b:eth0123456789abcdef"]`, "is not NODE:INTERFACE"},
		{"an MTU below IPv6's", `"b:eth1"]`, "\"b:eth1\"]\n      mtu: 600", "600 is not from 1280"},
		{"an open quote", "'a b'", "'a b", "a quote is not closed"},
		{"a relative bind target", ":/etc/x/f.conf:ro", ":etc/x", "the target must be an absolute path"},
		{"an unknown bind option", "f.conf:ro", "f.conf:shared", `option "shared"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text := strings.Replace(small, tt.old, tt.new, 1)
			if text == small {
				t.Fatalf("the row changes nothing: %q is not in the file", tt.old)
			}
			_, err := Parse("t.yml", []byte(text))
			var fault *Error
			if !errors.As(err, &fault) {
				t.Fatalf("error %v, want an *Error", err)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %q, want %q in it", err, tt.want)
			}
		})
	}
}

func TestParseReportsAllFaults(t *testing.T) {
	text := strings.ReplaceAll(small, "kind: linux", "kind: srl")
	_, err := Parse("t.yml", []byte(text))
	if got := strings.Count(err.Error(), `kind "srl"`); got != 2 {
		t.Errorf("%d faults, want both:\n%v", got, err)
	}
}

func TestCopyToMakesABundleThatStandsAlone(t *testing.T) {
	bundle, err := Default()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := bundle.CopyTo(dir); err != nil {
		t.Fatal(err)
	}
	again, err := Open(filepath.Join(dir, bundle.File))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(bundle.Topology, again.Topology); diff != "" {
		t.Errorf("the copy differs:\n%s", diff)
	}
	binds := 0
	for _, n := range again.Topology.Nodes {
		for _, b := range n.Binds {
			binds++
			if _, err := os.Stat(filepath.Join(dir, b.Source)); err != nil {
				t.Errorf("bind of %s: %v", n.Name, err)
			}
		}
	}
	if binds == 0 {
		t.Error("no bind was checked")
	}
	if vips, err := again.VIPs(); err != nil || len(vips) != 2 {
		t.Errorf("VIPs of the copy: %v, %v", vips, err)
	}
}

func TestCopyToRefusesToLeaveTheFolder(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "t.yml")
	text := strings.Replace(small, "f.conf:/etc", "../f.conf:/etc", 1)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	bundle, err := Open(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := bundle.CopyTo(t.TempDir()); err == nil || !strings.Contains(err.Error(), "leaves the topology's folder") {
		t.Errorf("error %v, want a refusal", err)
	}
}

func TestOpenOfNothingNamesTheFile(t *testing.T) {
	_, err := Open(filepath.Join(t.TempDir(), "gone.clab.yml"))
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "gone.clab.yml") {
		t.Errorf("error %v", err)
	}
}

func FuzzParse(f *testing.F) {
	data, err := embedded.ReadFile(DefaultFile)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(small))
	f.Add([]byte("name: t\ntopology: {nodes: {s: {kind: bridge, labels: {pharos.role: switch}}}}"))
	f.Add([]byte("name: t\ntopology: {nodes: {1: {}, ~: {}}, links: [{endpoints: []}]}"))
	f.Add([]byte("a: &a [*a]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		top, err := Parse("f.yml", data)
		if err != nil {
			return
		}
		if len(top.Nodes) == 0 {
			t.Error("a topology without nodes was accepted")
		}
		for _, l := range top.Links {
			for _, e := range []Endpoint{l.A, l.B} {
				if _, ok := top.Node(e.Node); !ok {
					t.Errorf("link end %s has no node", e)
				}
			}
		}
	})
}

func FuzzSplitWords(f *testing.F) {
	for _, s := range []string{"a b", `a 'b c' "d\"e"`, `\`, `'`, "\t\n", `a\ b`, `""`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		words, err := splitWords(line)
		if err != nil {
			return
		}
		// Quoting each word again must give the same words.
		quoted := make([]string, len(words))
		for i, w := range words {
			quoted[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
		again, err := splitWords(strings.Join(quoted, " "))
		if err != nil || !slices.Equal(words, again) {
			t.Errorf("%q gave %q, and quoted again %q, %v", line, words, again, err)
		}
	})
}
