package fib

import (
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// testdata/monitor.txt and routes.jsonl were captured with iproute2 6.1 on
// kernel 6.18, while the routes named in the expectations below were changed.

func captured(t *testing.T, file string) []string {
	t.Helper()
	text, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if len(lines) < 5 {
		t.Fatalf("testdata/%s has %d lines", file, len(lines))
	}
	return lines
}

// follow runs the captured record through a Table, and gives "second hops" for each change.
func follow(t *testing.T, prefix string) []string {
	t.Helper()
	table := Table{Prefix: netip.MustParsePrefix(prefix)}
	var got []string
	for _, line := range captured(t, "monitor.txt") {
		e, err := ParseMonitor(line, time.UTC)
		if err != nil {
			t.Fatal(err)
		}
		if c, changed := table.Apply(e); changed {
			got = append(got, c.At.Format("05.000000")+" "+text(c.Hops))
		}
	}
	return got
}

func text(hops []NextHop) string {
	var all []string
	for _, h := range hops {
		all = append(all, h.String())
	}
	return strings.Join(all, " ")
}

func TestFollowCapturedRecord(t *testing.T) {
	for prefix, want := range map[string][]string{
		"198.51.100.1/32": {
			"49.252484 10.0.1.2 10.0.2.2",
			"49.274111 10.0.1.2",          // replaced by a route with one way
			"49.298929 ",                  // deleted
			"49.324403 10.0.1.2 10.0.2.2", // through a next-hop object of two
			"49.334193 10.0.1.2",          // of one
			"49.350115 fe80::1%v2",        // a gateway of the other family
			"49.359742 ",                  // a blackhole: no way out
		},
		"2001:db8:100::1/128": {
			"49.258402 2001:db8:1::2 2001:db8:2::2",
			"49.279204 2001:db8:1::2", // one way alone was deleted
			"49.284534 2001:db8:1::2 2001:db8:2::2",
			"49.303929 ",
		},
		"192.0.2.1/32": nil, // of which the record says nothing
	} {
		t.Run(prefix, func(t *testing.T) {
			if diff := cmp.Diff(want, follow(t, prefix)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseCapturedRoutes(t *testing.T) {
	want := []string{
		"198.51.100.1/32 10.0.1.2 10.0.2.2",
		"2001:db8:100::1/128 2001:db8:1::2 2001:db8:2::2",
		"198.51.100.1/32 10.0.1.2",
		"2001:db8:100::1/128 2001:db8:1::2 2001:db8:2::2",
		"198.51.100.1/32 10.0.1.2 10.0.2.2",
		"198.51.100.1/32 10.0.1.2",
		"198.51.100.1/32 fe80::1%v2",
		"198.51.100.1/32 ", // blackhole
		"",                 // no route
	}
	var got []string
	at := time.Unix(7, 0)
	for _, line := range captured(t, "routes.jsonl") {
		events, err := ParseRoutes([]byte(line), at)
		if err != nil {
			t.Fatal(err)
		}
		line := ""
		for _, e := range events {
			if !e.At.Equal(at) || e.Deleted {
				t.Errorf("%+v", e)
			}
			table := Table{Prefix: e.Prefix}
			table.Apply(e)
			line += e.Prefix.String() + " " + text(table.Hops())
		}
		got = append(got, line)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTheLowestMetricCarries(t *testing.T) {
	hop := func(s string) []NextHop { return []NextHop{{Gateway: netip.MustParseAddr(s), Device: "v1"}} }
	prefix := netip.MustParsePrefix("198.51.100.1/32")
	table := Table{Prefix: prefix}
	for _, step := range []struct {
		name    string
		event   Event
		changed bool
		want    string
	}{
		{"one route", Event{Prefix: prefix, Metric: 20, Hops: hop("10.0.1.2")}, true, "10.0.1.2"},
		{"a worse one", Event{Prefix: prefix, Metric: 100, Hops: hop("10.0.9.9")}, false, "10.0.1.2"},
		{"the same once more", Event{Prefix: prefix, Metric: 20, Hops: hop("10.0.1.2")}, false, "10.0.1.2"},
		{"another prefix", Event{Prefix: netip.MustParsePrefix("198.51.100.2/32"), Hops: hop("10.0.3.2")}, false, "10.0.1.2"},
		{"another table", Event{Prefix: prefix, Table: "100", Hops: hop("10.0.3.2")}, false, "10.0.1.2"},
		{"the better one goes", Event{Prefix: prefix, Metric: 20, Deleted: true, Hops: hop("10.0.1.2")}, true, "10.0.9.9"},
		{"a discarding one in front", Event{Prefix: prefix, Metric: 0, Type: "blackhole"}, true, ""},
	} {
		if _, changed := table.Apply(step.event); changed != step.changed || text(table.Hops()) != step.want {
			t.Errorf("%s: next hops %q, changed %v; want %q, %v", step.name, text(table.Hops()), changed, step.want, step.changed)
		}
	}
}

func TestParseMonitorRefuses(t *testing.T) {
	for name, line := range map[string]string{
		"nothing":        "",
		"no stamp":       "198.51.100.1 via 10.0.1.2 dev v1",
		"another stamp":  "[Sun Nov 22] 198.51.100.1 via 10.0.1.2 dev v1",
		"no prefix":      "[2026-11-22T23:52:49.252484] Deleted",
		"no address":     "[2026-11-22T23:52:49.252484] Object \"x\" is unknown",
		"no gateway":     "[2026-11-22T23:52:49.252484] 198.51.100.1 via dev v1",
		"via at the end": "[2026-11-22T23:52:49.252484] 198.51.100.1 via inet6",
		"no device":      "[2026-11-22T23:52:49.252484] 198.51.100.1 dev",
		"no metric":      "[2026-11-22T23:52:49.252484] 198.51.100.1 dev v1 metric x",
	} {
		t.Run(name, func(t *testing.T) {
			if e, err := ParseMonitor(line, time.UTC); !errors.Is(err, ErrFormat) {
				t.Errorf("got %+v, %v; want ErrFormat", e, err)
			}
		})
	}
}

func FuzzParseMonitor(f *testing.F) {
	f.Add("[2026-11-22T23:52:49.252484] 198.51.100.1 nhid 25 proto bgp metric 20 \\\tnexthop via 10.0.1.2 dev v1 weight 1 \\\tnexthop via 10.0.2.2 dev v2 weight 1 ")
	f.Add("[2026-11-22T23:52:49.279204] Deleted 2001:db8:100::1 via 2001:db8:2::2 dev v2 proto bgp metric 20 pref medium")
	f.Add("[2026-11-22T23:52:49.350115] 198.51.100.1 via inet6 fe80::1 dev v2 ")
	f.Add("[2026-11-22T23:52:49.359742] blackhole default")
	f.Fuzz(func(t *testing.T, line string) {
		e, err := ParseMonitor(line, time.UTC)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatalf("an error of another kind: %v", err)
			}
			return
		}
		table := Table{Prefix: e.Prefix}
		if c, changed := table.Apply(e); changed && e.Deleted {
			t.Fatalf("deleting from an empty table left %v", c.Hops)
		}
	})
}

func FuzzParseRoutes(f *testing.F) {
	f.Add([]byte(`[{"dst":"198.51.100.1","nhid":10,"protocol":"bgp","flags":[],"nexthops":[{"gateway":"10.0.1.2","dev":"v1","weight":1,"flags":[]}]}]`))
	f.Add([]byte(`[{"dst":"198.51.100.1","via":{"family":"inet6","host":"fe80::1"},"dev":"v2","flags":[]}]`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, in []byte) {
		events, err := ParseRoutes(in, time.Unix(0, 0))
		if err != nil && !errors.Is(err, ErrFormat) {
			t.Fatalf("an error of another kind: %v", err)
		}
		for _, e := range events {
			if !e.Prefix.IsValid() {
				t.Fatalf("%+v has no prefix", e)
			}
		}
	})
}
