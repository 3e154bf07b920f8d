package registry

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDiff(t *testing.T) {
	for _, test := range []struct {
		name  string
		alter func(*Config)
		want  []Change
	}{
		{name: "nothing", alter: func(*Config) {}},
		{name: "the order of things", alter: func(c *Config) {
			slices.Reverse(c.Pools)
			slices.Reverse(c.Pools[1].Servers)
		}},
		{
			name: "one server's weight", alter: func(c *Config) { c.Pools[0].Servers[1].Weight = ptr(7) },
			want: []Change{{"server", "payment_backend_pool/node_02", "change", []string{"weight: 0 -> 7"}}},
		},
		{
			name: "several fields", alter: func(c *Config) {
				c.Pools[0].HealthCheck.Interval = 1500 * time.Millisecond
				c.Pools[0].HealthCheck.ExpectStatus = []int{200}
				c.Neighbors[0].MED = nil
				c.Neighbors[0].NextHops["n3"] = []netip.Addr{addr("10.0.0.13")}
				c.VIPs[0].MinHealthy = 1
			},
			want: []Change{
				{"vip", "web", "change", []string{"min_healthy: none -> 1"}},
				{"neighbor", "tor1", "change", []string{"next_hops.n3: none -> [10.0.0.13]", "med: 0 -> none"}},
				{"pool", "payment_backend_pool", "change", []string{"health_check.expect_status: [200, 204] -> [200]", "health_check.interval: 1m -> 1.5s"}},
			},
		},
		{
			name: "additions and removals", alter: func(c *Config) {
				c.Listeners[0].Name = "https"
				c.Pools[0].Servers = append(c.Pools[0].Servers[1:], Server{Name: "a", Address: netip.MustParseAddrPort("10.0.0.1:80"), Weight: ptr(1), Backup: true})
			},
			want: []Change{
				{"listener", "http", "remove", nil},
				{"listener", "https", "add", []string{"vip: web", "port: 80", "protocol: http", "pool: payment_backend_pool"}},
				{"server", "payment_backend_pool/a", "add", []string{`address: "10.0.0.1:80"`, "weight: 1", "backup: true"}},
				{"server", "payment_backend_pool/node_01", "remove", nil},
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			from, to := exampleConfig(), exampleConfig().Clone()
			test.alter(&to)
			if d := cmp.Diff(test.want, Diff(from, to)); d != "" {
				t.Errorf("unexpected changes (-want +got):\n%s", d)
			}
			if got := from.Equal(to); got != (len(test.want) == 0) {
				t.Errorf("Equal is %t beside %d changes", got, len(test.want))
			}
			sameValues(t, "the configuration that was cloned", exampleConfig(), from)
		})
	}
}

func TestDiffOfCertificatesAndRoutes(t *testing.T) {
	for _, test := range []struct {
		name  string
		alter func(*Config)
		want  []Change
	}{
		{
			name: "a key", alter: func(c *Config) { c.Certificates[0].Key = "sealed:v1:b3RoZXI=" },
			want: []Change{{"certificate", "api", "change", []string{"key: (changed)"}}},
		},
		{
			name: "a staple and a removal", alter: func(c *Config) { c.Certificates[0].OCSP, c.Certificates = nil, c.Certificates[:1] },
			want: []Change{{"certificate", "api", "change", []string{`ocsp: "MAkKAQCgBDACBQA=" -> none`}}, {"certificate", "www", "remove", nil}},
		},
		{
			name: "a new certificate", alter: func(c *Config) {
				c.Certificates = append(c.Certificates, Certificate{Name: "new", Chain: "PEM", Key: "key"})
			},
			want: []Change{{"certificate", "new", "add", []string{"chain: PEM", "key: (secret)"}}},
		},
		{
			name: "routes", alter: func(c *Config) {
				r := c.Listeners[0].Routes
				r[0].Rewrite.RequestHeaders.Set["X-A"], r[0].Mirror.Percent = "z", 50
				r[1].Name = "root"
				c.Listeners[1].RedirectHTTPS = nil
			},
			want: []Change{
				{"listener", "http", "change", []string{"redirect_https.port: 8443 -> none", "redirect_https.status: 307 -> none"}},
				{"route", "https/exact", "remove", nil},
				{"route", "https/payments", "change", []string{"mirror.percent: 12.5 -> 50", "rewrite.request_headers.set.X-A: b -> z"}},
				{"route", "https/root", "add", []string{"path_exact: /", "pool: app"}},
			},
		},
		{
			name: "the order of routes, which decides between those that match alike", alter: func(c *Config) { slices.Reverse(c.Listeners[0].Routes) },
			want: []Change{{"listener", "https", "change", []string{"order of routes: moved comes later"}}},
		},
		{
			name: "a long text", alter: func(c *Config) { c.Listeners[0].ErrorPages[0].Body = strings.Repeat("x", 500) },
			want: []Change{{"listener", "https", "change", []string{
				`error_pages: [{status: [502, 503], content_type: "text/html; charset=utf-8", body: "<h1>Sorry</h1>\n<p>We are back soon.</p>\n"}] -> ` +
					`[{status: [502, 503], content_type: "text/html; charset=utf-8", ... (572 bytes)`,
			}}},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			from, to := full(t), full(t)
			test.alter(&to)
			if d := cmp.Diff(test.want, Diff(from, to)); d != "" {
				t.Errorf("unexpected changes (-want +got):\n%s", d)
			}
			if len(Diff(to, from)) != len(test.want) {
				t.Errorf("on the way back there are other changes: %v", Diff(to, from))
			}
		})
	}
}

func TestJSONIsStable(t *testing.T) {
	// It is in Raft logs: a change of this text is a change of format.
	c := exampleConfig()
	c.Pools = c.Pools[1:]
	c.Listeners = nil
	got, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"vips":[{"name":"web","addresses":["198.51.100.1","2001:db8:100::1"],"mode":"bgp","communities":["65000:100","65000:200"]}],` +
		`"neighbors":[{"name":"tor1","address":"10.0.0.1","port":179,"asn":65000,"local_asn":65010,"nodes":["n1","n2","n3"],"med":0,"as_path_prepend":2,` +
		`"next_hops":{"n1":["10.0.0.11","2001:db8::11"],"n2":["10.0.0.12"]},"hold_time":"9s","connect_retry":"1s"}],` +
		`"pools":[{"name":"checked_by_tcp","balance":"round_robin","health_check":{"fall":3,"rise":5,"interval":"2s","timeout":"2s"},"servers":null}]}`
	if d := cmp.Diff(want, string(got)); d != "" {
		t.Errorf("unexpected JSON (-want +got):\n%s", d)
	}
}

func TestJSONOfANewerVersionIsRefusedEverywhere(t *testing.T) {
	for _, doc := range []string{
		`{"neighbors":[{"name":"a","bfd":{"echo":true}}]}`,
		`{"pools":[{"name":"a","health_check":{"grpc":true}}]}`,
		`{"pools":[{"name":"a","health_check":{"interval":"soon"}}]}`,
	} {
		var c Config
		if err := json.Unmarshal([]byte(doc), &c); err == nil {
			t.Errorf("%s was read as %+v", doc, c)
		}
	}
}

func TestMarshalRefusesAnInvalidConfig(t *testing.T) {
	c := exampleConfig()
	c.Listeners[0].Pool = "gone"
	if doc, err := c.Marshal(); err == nil || !strings.Contains(err.Error(), `listeners[0].pool: there is no pool "gone"`) {
		t.Fatalf("got %v and the document\n%s", err, doc)
	}
}

func TestWithDefaults(t *testing.T) {
	c := Config{
		VIPs:      []VIP{{Name: "web"}},
		Neighbors: []Neighbor{{Name: "tor"}},
		Pools: []Pool{
			{Name: "p", HealthCheck: &HealthCheck{HTTP: "/", Interval: time.Minute}, Servers: []Server{{Name: "s"}, {Name: "z", Weight: ptr(0)}}},
			{Name: "q"},
		},
	}
	before := c.Clone()
	want := Config{
		VIPs:      []VIP{{Name: "web", Mode: ModeBGP}},
		Neighbors: []Neighbor{{Name: "tor", Port: 179, HoldTime: 3 * time.Second, ConnectRetry: time.Second}},
		Pools: []Pool{
			{
				Name: "p", Balance: BalanceRoundRobin,
				HealthCheck: &HealthCheck{HTTP: "/", ExpectStatus: []int{200}, Interval: time.Minute, Timeout: 10 * time.Second, Fall: 3, Rise: 5},
				Servers:     []Server{{Name: "s", Weight: ptr(1)}, {Name: "z", Weight: ptr(0)}},
			},
			{Name: "q", Balance: BalanceRoundRobin},
		},
	}
	sameValues(t, "the configuration with defaults", want, c.WithDefaults())
	sameValues(t, "the configuration before", before, c)
}

func TestParseCommunity(t *testing.T) {
	if c, ok := ParseCommunity("65000:100"); !ok || c != 65000<<16|100 {
		t.Fatalf("got %d, %t", c, ok)
	}
	for _, s := range []string{"", ":", "1", "1:", ":1", "65536:0", "0:65536", "+1:1", "01:1", "1:1:1", " 1:1"} {
		if c, ok := ParseCommunity(s); ok {
			t.Errorf("%q was read as %d", s, c)
		}
	}
}
