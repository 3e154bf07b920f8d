package registry

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const example = `# a comment
vips:
  - {name: web, addresses: [198.51.100.1, 2001:db8:100::1], mode: bgp, communities: [65000:100, "65000:200"]}
neighbors:
  - name: tor1
    address: 10.0.0.1
    asn: 65000
    local_asn: 65010
    nodes: [n1, n2, n3]
    hold_time: 9s
    med: 0
    as_path_prepend: 2
    next_hops:
      n1: [10.0.0.11, "2001:db8::11"]
      n2: [10.0.0.12]
listeners:
  - name: http
    vip: web
    port: 80
    protocol: http
    pool: payment_backend_pool
pools:
  - name: payment_backend_pool
    balance: round_robin
    health_check: {http: /healthz, expect_status: [200, 204], interval: 1m, fall: 2}
    servers:
      - {name: node_01, address: "10.0.1.10:8080", weight: 3}
      - {name: node_02, address: 10.0.1.11:8080, weight: 0}
      - {name: node_03, address: "[2001:db8::12]:8080", backup: true}
  - name: checked_by_tcp
    health_check: {}
`

func ptr[T any](v T) *T { return &v }

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func exampleConfig() Config {
	return Config{
		VIPs: []VIP{{
			Name: "web", Addresses: []netip.Addr{addr("198.51.100.1"), addr("2001:db8:100::1")}, Mode: ModeBGP,
			Communities: []string{"65000:100", "65000:200"},
		}},
		Neighbors: []Neighbor{{
			Name: "tor1", Address: addr("10.0.0.1"), Port: 179, ASN: 65000, LocalASN: 65010, Nodes: []string{"n1", "n2", "n3"},
			HoldTime: 9 * time.Second, ConnectRetry: time.Second, MED: ptr(uint32(0)), ASPathPrepend: 2,
			NextHops: map[string][]netip.Addr{"n1": {addr("10.0.0.11"), addr("2001:db8::11")}, "n2": {addr("10.0.0.12")}},
		}},
		Listeners: []Listener{{Name: "http", VIP: "web", Port: 80, Protocol: ProtocolHTTP, Pool: "payment_backend_pool"}},
		Pools: []Pool{
			{
				Name: "payment_backend_pool", Balance: BalanceRoundRobin,
				HealthCheck: &HealthCheck{HTTP: "/healthz", ExpectStatus: []int{200, 204}, Interval: time.Minute, Timeout: 10 * time.Second, Fall: 2, Rise: 5},
				Servers: []Server{
					{Name: "node_01", Address: netip.MustParseAddrPort("10.0.1.10:8080"), Weight: ptr(3)},
					{Name: "node_02", Address: netip.MustParseAddrPort("10.0.1.11:8080"), Weight: ptr(0)},
					{Name: "node_03", Address: netip.MustParseAddrPort("[2001:db8::12]:8080"), Weight: ptr(1), Backup: true},
				},
			},
			{
				Name: "checked_by_tcp", Balance: BalanceRoundRobin,
				HealthCheck: &HealthCheck{Interval: 2 * time.Second, Timeout: 2 * time.Second, Fall: 3, Rise: 5},
			},
		},
	}
}

// sameValues compares every field, exactly.
func sameValues(t *testing.T, what string, want, got Config) {
	t.Helper()
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); d != "" {
		t.Fatalf("%s differs (-want +got):\n%s", what, d)
	}
}

func TestParseFillsInEveryField(t *testing.T) {
	got, err := Parse("cluster.yaml", []byte(example))
	if err != nil {
		t.Fatal(err)
	}
	sameValues(t, "the parsed configuration", exampleConfig(), got)
	if faults := got.Validate(); len(faults) > 0 {
		t.Fatalf("Validate refuses what Parse accepted:\n%v", faults)
	}
}

func TestMarshalGivesADocumentOfTheSameConfig(t *testing.T) {
	doc, err := exampleConfig().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", doc)
	got, err := Parse("again", doc)
	if err != nil {
		t.Fatal(err)
	}
	sameValues(t, "the configuration after Marshal and Parse", exampleConfig(), got)
}

func TestEmptyDocumentsAreTheEmptyConfig(t *testing.T) {
	for name, doc := range map[string]string{
		"nothing": "", "white space": " \n\n", "comments": "# nothing here\n", "document start": "---\n", "null": "null\n",
		"empty mapping": "{}\n", "lists without values": "vips:\npools: []\n", "byte order mark": "\uFEFF",
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Parse("empty.yaml", []byte(doc))
			if err != nil {
				t.Fatal(err)
			}
			sameValues(t, "the configuration", Config{}, got)
		})
	}
}

func TestParseReadsTheLineEndsOfOtherSystems(t *testing.T) {
	got, err := Parse("cluster.yaml", []byte("\uFEFF"+strings.ReplaceAll(example, "\n", "\r\n")))
	if err != nil {
		t.Fatal(err)
	}
	sameValues(t, "the configuration", exampleConfig(), got)
}

func TestParseBoundsTheDocumentAndTheAnswer(t *testing.T) {
	for _, test := range []struct {
		name, doc, want string
		faults          int
	}{
		{"size", strings.Repeat("#", MaxDocument+1), "the document has 16777217 bytes", 1},
		{"unknown keys", "pools:\n" + strings.Repeat("  - {name: a, b: c}\n", maxFaults), "unknown key", maxFaults},
		{"names", "pools:\n" + strings.Repeat("  - {name: a}\n", 2*maxFaults), "is the name of", maxFaults},
		{"anchors", strings.Repeat("- &a\n", 2*maxFaults), "anchors", maxFaults},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Parse("x", []byte(test.doc))
			var faults Faults
			if !errors.As(err, &faults) || len(faults) > test.faults || len(faults) == 0 || !strings.Contains(faults.Error(), test.want) {
				t.Errorf("got %d faults, the first: %v", len(faults), faults[:min(len(faults), 1)])
			}
		})
	}
}

func TestValidateGivesPathsWithoutPositions(t *testing.T) {
	c := exampleConfig()
	c.Pools[0].Servers[0].Weight = nil
	c.Pools[0].Servers[1].Weight = ptr(300)
	c.Neighbors[0].Address = netip.Addr{}
	c.Listeners[0].Port = 0
	const want = `neighbors[0].address: is invalid IP, must be an IPv4 or IPv6 address
pools[0].servers[0].weight: is required
pools[0].servers[1].weight: is 300, must be 0 to 256
listeners[0].port: is 0, must be 1 to 65535`
	if d := cmp.Diff(want, c.Validate().Error()); d != "" {
		t.Errorf("unexpected faults (-want +got):\n%s", d)
	}
}
