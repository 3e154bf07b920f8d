package registry

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// genConfig makes any valid configuration, awkward names and all.
func genConfig() *rapid.Generator[Config] {
	name := rapid.OneOf(
		rapid.StringMatching(`[a-z0-9][a-z0-9_.-]{0,62}`),
		rapid.SampledFrom([]string{"true", "no", "null", "on", "y", "1", "1.5", "0x1f", "010", "1e3", "1_0", "n-", "a.", "2026-11-22", "12.30"}),
	)
	names := func(low, high int) *rapid.Generator[[]string] {
		return rapid.SliceOfNDistinct(name, low, high, rapid.ID[string])
	}
	address := rapid.Custom(func(t *rapid.T) netip.Addr {
		n := rapid.Uint16().Draw(t, "address")
		if rapid.Bool().Draw(t, "ipv6") {
			return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 14: byte(n >> 8), 15: byte(n)})
		}
		return netip.AddrFrom4([4]byte{10, 1, byte(n >> 8), byte(n)})
	})
	community := rapid.Custom(func(t *rapid.T) string {
		return fmt.Sprintf("%d:%d", rapid.Uint16().Draw(t, "asn"), rapid.Uint16().Draw(t, "value"))
	})
	communities := rapid.SliceOfNDistinct(community, 0, 3, rapid.ID[string])
	asn := rapid.Uint32Range(1, 23455)
	seconds := func(low, high int) *rapid.Generator[time.Duration] {
		return rapid.Map(rapid.IntRange(low, high), func(n int) time.Duration { return time.Duration(n) * time.Second })
	}
	return rapid.Custom(func(t *rapid.T) Config {
		var c Config
		addresses := rapid.SliceOfNDistinct(address, 3, 6, rapid.ID[netip.Addr]).Draw(t, "addresses")
		for i, n := range names(0, 3).Draw(t, "vips") {
			c.VIPs = append(c.VIPs, VIP{Name: n, Addresses: addresses[i : i+1], Mode: ModeBGP, Communities: orNil(communities.Draw(t, "communities"))})
		}
		for i, n := range names(0, 3).Draw(t, "neighbors") {
			b := Neighbor{
				Name: n, Address: addresses[i], Port: rapid.Uint16Min(1).Draw(t, "port"), ASN: asn.Draw(t, "asn"), LocalASN: asn.Draw(t, "local"),
				Nodes: names(1, 3).Draw(t, "nodes"), HoldTime: seconds(3, 65535).Draw(t, "hold"), ConnectRetry: seconds(1, 3600).Draw(t, "retry"),
				Communities: orNil(communities.Draw(t, "communities")), ASPathPrepend: rapid.IntRange(0, 16).Draw(t, "prepend"),
			}
			if rapid.Bool().Draw(t, "has med") {
				b.MED = ptr(rapid.Uint32().Draw(t, "med"))
			}
			for _, node := range b.Nodes {
				if rapid.Bool().Draw(t, "has next hop") {
					if b.NextHops == nil {
						b.NextHops = map[string][]netip.Addr{}
					}
					b.NextHops[node] = []netip.Addr{address.Draw(t, "next hop")}
				}
			}
			c.Neighbors = append(c.Neighbors, b)
		}
		for _, n := range names(0, 3).Draw(t, "pools") {
			p := Pool{Name: n, Balance: BalanceRoundRobin}
			if rapid.Bool().Draw(t, "checked") {
				p.HealthCheck = &HealthCheck{
					Interval: time.Duration(rapid.Int64Range(int64(50*time.Millisecond), int64(time.Hour)).Draw(t, "interval")),
					Timeout:  time.Duration(rapid.Int64Range(int64(time.Millisecond), int64(10*time.Second)).Draw(t, "timeout")),
					Fall:     rapid.IntRange(1, 100).Draw(t, "fall"), Rise: rapid.IntRange(1, 100).Draw(t, "rise"),
				}
				if rapid.Bool().Draw(t, "http") {
					p.HealthCheck.HTTP = rapid.StringMatching(`/[!-"$-~]{0,20}`).Draw(t, "path")
					p.HealthCheck.ExpectStatus = rapid.SliceOfNDistinct(rapid.IntRange(200, 599), 1, 3, rapid.ID[int]).Draw(t, "status")
				}
			}
			for i, n := range names(0, 3).Draw(t, "servers") {
				p.Servers = append(p.Servers, Server{
					Name: n, Address: netip.AddrPortFrom(addresses[i], rapid.Uint16Min(1).Draw(t, "port")),
					Weight: ptr(rapid.IntRange(0, 256).Draw(t, "weight")), Backup: rapid.Bool().Draw(t, "backup"),
				})
			}
			c.Pools = append(c.Pools, p)
		}
		if len(c.VIPs) == 0 || len(c.Pools) == 0 {
			return c
		}
		for i, n := range names(0, 3).Draw(t, "listeners") {
			c.Listeners = append(c.Listeners, Listener{
				Name: n, VIP: rapid.SampledFrom(c.VIPs).Draw(t, "vip").Name, Port: uint16(80 + i),
				Protocol: rapid.SampledFrom([]Protocol{ProtocolTCP, ProtocolHTTP}).Draw(t, "protocol"), Pool: rapid.SampledFrom(c.Pools).Draw(t, "pool").Name,
			})
		}
		return c
	})
}

func orNil[T any](s []T) []T {
	if len(s) == 0 {
		return nil
	}
	return s
}

func TestAnyValidConfigSurvivesYAMLAndJSON(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := genConfig().Draw(rt, "config")
		if faults := c.Validate(); len(faults) > 0 {
			rt.Fatalf("the generator made an invalid configuration:\n%v", faults)
		}
		survives(t, c)
	})
}

// survives checks that a valid configuration is the same after YAML and JSON.
func survives(t *testing.T, c Config) {
	t.Helper()
	doc, err := c.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := Parse("marshalled", doc)
	if err != nil {
		t.Fatalf("Parse refuses what Marshal wrote: %v\n%s", err, doc)
	}
	sameValues(t, "the configuration after Marshal and Parse", c, parsed)
	data, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var decoded Config
	if err := json.Unmarshal(data, &decoded); err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	sameValues(t, "the configuration after JSON", c, decoded)
	sameValues(t, "a clone", c, c.Clone())
	sameValues(t, "a configuration whose defaults are filled in already", c, c.WithDefaults())
	if !c.Equal(parsed) {
		t.Fatalf("Equal denies that these are the same: %v", Diff(c, parsed))
	}
}

func TestDiffIsEmptyOfEqualConfigsAlone(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		a, b := genConfig().Draw(rt, "a"), genConfig().Draw(rt, "b")
		if len(Diff(a, a)) > 0 {
			rt.Fatalf("a configuration differs from itself: %v", Diff(a, a))
		}
		forth, back := Diff(a, b), Diff(b, a)
		if len(forth) != len(back) {
			rt.Fatalf("%d changes there, %d back:\n%v\n%v", len(forth), len(back), forth, back)
		}
		order := []string{KindVIP, KindNeighbor, KindListener, KindPool, KindServer}
		if !slices.IsSortedFunc(forth, func(a, b Change) int { return slices.Index(order, a.Kind) - slices.Index(order, b.Kind) }) {
			rt.Fatalf("the kinds are out of order: %v", forth)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(example))
	docs, err := filepath.Glob("testdata/faults/*.yaml")
	if err != nil || len(docs) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, path := range docs {
		doc, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(doc)
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		c, err := Parse("fuzz.yaml", doc)
		if err != nil {
			faults, ok := err.(Faults)
			if !ok || len(faults) == 0 || len(faults) > maxFaults {
				t.Fatalf("an error that is not Faults: %#v", err)
			}
			for _, fault := range faults {
				if fault.Line < 1 || fault.Column < 1 || fault.Message == "" || fault.File != "fuzz.yaml" {
					t.Fatalf("an incomplete fault: %#v", fault)
				}
			}
			return
		}
		if faults := c.Validate(); len(faults) > 0 {
			t.Fatalf("Validate refuses what Parse accepted:\n%v", faults)
		}
		survives(t, c)
	})
}
