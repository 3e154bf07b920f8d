package route

import (
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Small alphabets, so that rules and requests meet.
var (
	hosts    = []string{"a.com", "b.a.com", "c.b.a.com", "*.a.com", "*.b.a.com", "*.com", "B.A.com.", "x"}
	paths    = []string{"/", "/a", "/a/", "/a/b", "/a/b/c", "/b", "/%61/b", "/a%20b", "/.a", "/a/./b", "/a%25b"}
	regexes  = []string{"/a/.*", "/[ab]", ".*b", "/a(/b)?", ".*"}
	methods  = []string{"GET", "POST", "x"}
	prefixes = []string{"10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "0.0.0.0/0", "2001:db8::/32", "::/0", "2001:db8:1::/48"}
	clients  = []string{"10.1.2.3", "10.1.9.9", "10.9.9.9", "192.0.2.1", "::ffff:10.1.2.3", "2001:db8:1::1", "2001:db8::1", "::1"}
	pieces   = []string{"/", "a", "b", "c", ".", "..", "%2e", "%2E", "%2f", "%2F", "%5c", `\`, ";", "%3B", "%61", "%20", "%25", "//", "/a", "/b", "/..", "%0", "%00", "\x00"}
	queries  = []string{"x", "=", "1", "2", "&", "+", "%20", "%31", "%", "y", "%78", "=1", "&x=1", "&y="}
)

func drawFields(t *rapid.T, label string) []Field {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Field {
		f := Field{Name: rapid.SampledFrom([]string{"x", "y", "Y"}).Draw(t, "name")}
		switch rapid.IntRange(0, 3).Draw(t, "kind") {
		case 0:
			f.Value = rapid.SampledFrom([]string{"1", "2", "1 2"}).Draw(t, "value")
		case 1:
			f.Regex = rapid.SampledFrom([]string{"1|2", "1?", "[ 12]+"}).Draw(t, "regex")
		case 2:
			f.Absent = true
		}
		return f
	}), 0, 2).Draw(t, label)
}

func few[T any](t *rapid.T, label string, from []T, most int) []T {
	if rapid.IntRange(0, 2).Draw(t, label+"?") > 0 {
		return nil
	}
	return rapid.SliceOfN(rapid.SampledFrom(from), 1, most).Draw(t, label)
}

func drawRule(t *rapid.T) Rule {
	r := Rule{Hosts: few(t, "hosts", hosts, 3), Methods: few(t, "methods", methods, 2)}
	switch rapid.IntRange(0, 4).Draw(t, "path kind") {
	case 0:
		r.Path, r.PathKind = rapid.SampledFrom(paths).Draw(t, "path"), Exact
	case 1, 2:
		r.Path = rapid.SampledFrom(paths).Draw(t, "path")
	case 3:
		r.Path, r.PathKind = rapid.SampledFrom(regexes).Draw(t, "path"), Regex
	}
	if rapid.Bool().Draw(t, "fields") {
		r.Headers, r.Cookies, r.Query = drawFields(t, "headers"), drawFields(t, "cookies"), drawFields(t, "query")
	}
	for _, s := range few(t, "sources", prefixes, 3) {
		r.Sources = append(r.Sources, netip.MustParsePrefix(s))
	}
	return r
}

// drawTable draws rules, and keeps those that compile together.
func drawTable(t *rapid.T) ([]Rule, *Table) {
	var rules []Rule
	table, err := Compile(nil)
	if err != nil {
		t.Fatalf("no rules at all: %v", err)
	}
	for range rapid.IntRange(1, 12).Draw(t, "rules") {
		more := append(rules[:len(rules):len(rules)], drawRule(t))
		if next, err := Compile(more); err == nil {
			rules, table = more, next
		}
	}
	return rules, table
}

func drawRequest(t *rapid.T) *request {
	r := get("x/")
	r.method = []byte(rapid.SampledFrom(methods).Draw(t, "method"))
	host := rapid.SampledFrom([]string{"a.com", "b.a.com", "c.b.a.com", "d.c.b.a.com", "com", ".com", "b..com", "x", "", "a.com.", "."}).Draw(t, "host")
	r.host = []byte(host)
	r.client = netip.MustParseAddr(rapid.SampledFrom(clients).Draw(t, "client"))
	path := "/" + strings.Join(rapid.SliceOfN(rapid.SampledFrom(pieces), 0, 8).Draw(t, "path"), "")
	switch rapid.IntRange(0, 9).Draw(t, "path kind") {
	case 0:
		path = "*"
	case 1, 2, 3:
		path = rapid.SampledFrom(paths).Draw(t, "path")
	}
	r.path = []byte(path)
	r.query = []byte(strings.Join(rapid.SliceOfN(rapid.SampledFrom(queries), 0, 6).Draw(t, "query"), ""))
	for _, m := range []map[string][]byte{r.headers, r.cookies} {
		for _, name := range []string{"x", "y"} {
			if rapid.Bool().Draw(t, "there") {
				m[name] = []byte(rapid.SampledFrom([]string{"", "1", "2", "1 2"}).Draw(t, "value"))
			}
		}
	}
	return r
}

// Whatever the rules and the requests: the table finds what trying the rules
// one after another in the documented order finds.
func agreesWithReference(t *rapid.T) {
	rules, table := drawTable(t)
	for range 10 {
		r := drawRequest(t)
		got, gotWhy := table.Find(r)
		want, wantWhy := referenceFind(rules, r)
		if got != want || gotWhy != wantWhy {
			t.Fatalf("%s %s%s?%s from %v, %q %q: rule %d (%v), want %d (%v)\nrules %+v",
				r.method, r.host, r.path, r.query, r.client, r.headers, r.cookies, got, gotWhy, want, wantWhy, rules)
		}
		if m := table.Match(r); m != got {
			t.Fatalf("Match = %d, Find = %d", m, got)
		}
	}
}

func TestTableAgreesWithReference(t *testing.T) { rapid.Check(t, agreesWithReference) }

func FuzzTable(f *testing.F) { f.Fuzz(rapid.MakeFuzz(agreesWithReference)) }

// The property above proves something of a reason only if it is drawn.
func TestEveryReasonIsDrawn(t *testing.T) {
	found := map[Reason]int{}
	reasons := rapid.Custom(func(t *rapid.T) []Reason {
		_, table := drawTable(t)
		var all []Reason
		for range 10 {
			_, why := table.Find(drawRequest(t))
			all = append(all, why)
		}
		return all
	})
	for seed := range 300 { // the same each time: a seed that finds nothing is no failure
		for _, why := range reasons.Example(seed) {
			found[why]++
		}
	}
	for _, why := range []Reason{Found, NoRule, BadPath, AmbiguousPath} {
		if found[why] == 0 {
			t.Errorf("no drawn request had the reason %q", why)
		}
	}
}

func FuzzNormalise(f *testing.F) {
	for _, s := range []string{"/", "/a/../b", "/%2e%2E/%2f;x", "//a;b/./", `/a\..\b`, "/%", "/%zz", "/a%00", "a", "", "*", "/a%25%32%46"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, path []byte) {
		for _, lax := range []bool{false, true} {
			want, wantOK := referenceReading(string(path), lax)
			got, ok := normalise(nil, path, lax)
			if ok != wantOK || ok && string(got) != want {
				t.Fatalf("normalise(%q, lax %v) = %q, %v; want %q, %v", path, lax, got, ok, want, wantOK)
			}
			if !ok {
				continue
			}
			if len(got) > len(path) {
				t.Fatalf("the reading %q is longer than %q", got, path)
			}
			if plain(path) && string(got) != string(path) {
				t.Fatalf("%q is said to be plain, and reads as %q", path, got)
			}
			if again, ok := normalise(nil, got, lax); !ok || string(again) != string(got) {
				t.Fatalf("%q reads as %q, and that as %q", path, got, again)
			}
		}
	})
}
