package route

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pharos-lb/pharos/proxy/policy"
)

func mustCompile(t testing.TB, rules []Rule) *Table {
	t.Helper()
	table, err := Compile(rules)
	if err != nil {
		t.Fatalf("Compile: %v", err)
	}
	return table
}

// The example of the package's comment.
func TestExampleOfFallingThrough(t *testing.T) {
	table := mustCompile(t, []Rule{
		0: {Hosts: []string{"*.example.com"}, Path: "/v1", PathKind: Exact},
		1: {Hosts: []string{"api.example.com"}, Path: "/v1"},
		2: {Hosts: []string{"api.example.com"}, Path: "/v1", Headers: []Field{{Name: "X-Canary"}}},
		3: {Hosts: []string{"api.example.com"}, Path: "/", Methods: []string{"GET"}},
		4: {},
	})
	tests := []struct {
		name string
		r    *request
		want int
	}{
		{"the condition holds", get("api.example.com/v1/x").with(header("x-canary", "")), 2},
		{"the condition fails, the same path without it", get("api.example.com/v1/x").with(method("POST")), 1},
		{"a prefix of the exact host before an exact path of the wildcard", get("api.example.com/v1"), 1},
		{"the shorter prefix", get("api.example.com/v2"), 3},
		{"nothing of the host holds, the wildcard's path does not fit", get("api.example.com/v2").with(method("POST")), 4},
		{"the wildcard", get("www.example.com/v1"), 0},
		{"the wildcard takes more labels than one", get("a.b.example.com/v1"), 0},
		{"the wildcard does not take its own domain", get("example.com/v1"), 4},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := table.Match(tt.r); got != tt.want {
				t.Errorf("rule %d, want %d", got, tt.want)
			}
		})
	}
}

func TestOrder(t *testing.T) {
	prefix := func(s ...string) (all []netip.Prefix) {
		for _, s := range s {
			all = append(all, netip.MustParsePrefix(s))
		}
		return all
	}
	x, y := Field{Name: "x", Value: "1"}, Field{Name: "y", Value: "1"}
	tests := []struct {
		name  string
		rules []Rule // all match
		r     *request
		want  int
	}{
		{"exact host before wildcards", []Rule{{Hosts: []string{"*.b.c"}}, {Hosts: []string{"a.b.c"}}, {}}, get("a.b.c/"), 1},
		{"longest wildcard first", []Rule{{Hosts: []string{"*.c"}}, {Hosts: []string{"*.b.c"}}, {}}, get("a.b.c/"), 1},
		{"a wildcard before none", []Rule{{}, {Hosts: []string{"*.c"}}}, get("a.b.c/"), 1},
		{"host before path", []Rule{{Path: "/a", PathKind: Exact}, {Hosts: []string{"x"}}}, get("x/a"), 1},
		{"host in any case, with a final dot", []Rule{{}, {Hosts: []string{"A.B."}}}, get("a.b./"), 1},
		{"exact path before prefixes", []Rule{{Path: "/a"}, {Path: "/a", PathKind: Exact}}, get("x/a"), 1},
		{"longest prefix first", []Rule{{Path: "/"}, {Path: "/a/b"}, {Path: "/a"}}, get("x/a/b/c"), 1},
		{"prefix goes by segment", []Rule{{Path: "/a/b"}, {Path: "/a"}}, get("x/a/bc"), 1},
		{"prefix before regexes", []Rule{{Path: "/a/.*", PathKind: Regex}, {Path: "/a"}}, get("x/a/b"), 1},
		{"regexes in order of writing", []Rule{{Path: "/a.*", PathKind: Regex}, {Path: "/ab", PathKind: Regex}}, get("x/ab"), 0},
		{"a regex first written earlier, whatever the conditions", []Rule{{Path: "/a.*", PathKind: Regex}, {Path: "/ab", PathKind: Regex, Headers: []Field{x}}}, get("x/ab").with(header("x", "1")), 0},
		{"conditions on one regex, more first", []Rule{{Path: "/a.*", PathKind: Regex}, {Path: "/ab", PathKind: Regex}, {Path: "/a.*", PathKind: Regex, Headers: []Field{x}}}, get("x/ab").with(header("x", "1")), 2},
		{"a regex before none", []Rule{{}, {Path: "/a", PathKind: Regex}}, get("x/a"), 1},
		{"more conditions first", []Rule{{Headers: []Field{x}}, {Headers: []Field{x}, Cookies: []Field{y}}}, get("x/").with(header("x", "1")).with(cookie("y", "1")), 1},
		{"each header counts, methods count once", []Rule{{Methods: []string{"GET", "PUT", "POST"}}, {Headers: []Field{x, y}}}, get("x/").with(header("x", "1")).with(header("y", "1")), 1},
		{"as many conditions: the longer source prefix", []Rule{{Headers: []Field{x}}, {Sources: prefix("10.0.0.0/8")}, {Sources: prefix("10.1.0.0/16")}}, get("x/").with(from("10.1.2.3")).with(header("x", "1")), 2},
		{"it is the prefix around the client that counts", []Rule{{Sources: prefix("192.0.2.0/24", "10.0.0.0/8")}, {Sources: prefix("10.1.0.0/16")}}, get("x/").with(from("10.1.2.3")), 1},
		{"sources of a mapped client", []Rule{{}, {Sources: prefix("10.0.0.0/8")}}, get("x/").with(from("::ffff:10.1.2.3")), 1},
		{"sources of a client with a zone", []Rule{{}, {Sources: prefix("fe80::/10")}}, get("x/").with(from("fe80::1%eth0")), 1},
		{"else the order of writing", []Rule{{Headers: []Field{x}}, {Cookies: []Field{y}}}, get("x/").with(header("x", "1")).with(cookie("y", "1")), 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := mustCompile(t, tt.rules).Match(tt.r); got != tt.want {
				t.Errorf("rule %d, want %d", got, tt.want)
			}
		})
	}
}

func TestPaths(t *testing.T) {
	table := mustCompile(t, []Rule{
		0: {Hosts: []string{"x"}, Path: "/"},
		1: {Hosts: []string{"x"}, Path: "/admin"},
		2: {Hosts: []string{"x"}, Path: "/exact", PathKind: Exact},
		3: {Hosts: []string{"x"}, Path: "/a%20b"},
		4: {Hosts: []string{"blind.x"}},
		5: {Hosts: []string{"re"}, Path: "/f/[^/]+", PathKind: Regex},
		6: {Hosts: []string{"x"}, Path: "/100%25"},
		7: {Hosts: []string{"*.x"}, Path: "/b"},
		8: {Hosts: []string{"head.x"}, Headers: []Field{{Name: "x"}}},
	})
	tests := []struct {
		name string
		r    string
		want int
		why  Reason
	}{
		{"as it is", "x/admin/x", 1, Found},
		{"by segment only", "x/administrator", 0, Found},
		{"case matters", "x/Admin", 0, Found},
		{"a final slash", "x/admin/", 1, Found},
		{"letters encoded", "x/%61%64min", 1, Found},
		{"hex in either case", "x/%4aa/../admin", 1, Found},
		{"dot segments", "x/y/../admin", 1, Found},
		{"dot segments above the root", "x/../../admin", 1, Found},
		{"dot segments encoded", "x/y/%2e%2E/admin", 1, Found},
		{"dot segments half encoded", "x/y/.%2e/./admin", 1, Found},
		{"a dot segment out of it", "x/admin/..", 0, Found},
		{"a hidden file is no dot segment", "x/admin/.x/..y/...", 1, Found},
		{"a space", "x/a%20b/c", 3, Found},
		{"a plus is a plus", "x/a+b", 0, Found},
		{"an encoded percent sign", "x/100%25", 6, Found},
		{"encoded twice is not decoded twice", "x/%2561dmin", 0, Found},
		{"asterisk falls under no path", "x*", None, NoRule},

		{"encoded slash, one server's traversal", "x/y%2F..%2Fadmin", None, AmbiguousPath},
		{"encoded slash in lower case", "x/y%2f..%2fadmin", None, AmbiguousPath},
		{"encoded slash after the segment", "x/admin%2Fx", None, AmbiguousPath},
		{"encoded slash that does not matter", "x/group%2Fproject", 0, Found},
		{"encoded slash below", "x/admin/group%2Fproject", 1, Found},
		{"encoded slash, out of it", "x/admin/..%2Fy", None, AmbiguousPath},
		{"encoded backslash", "x/y%5C..%5cadmin", None, AmbiguousPath},
		{"backslash", `x/y\..\admin`, None, AmbiguousPath},
		{"two slashes", "x//admin", None, AmbiguousPath},
		{"two slashes that do not matter", "x/admin//x//", 1, Found},
		{"two slashes and dots", "x/admin//..", None, AmbiguousPath},
		{"parameter", "x/admin;v=1/x", None, AmbiguousPath},
		{"parameter on a dot segment", "x/y/..;/admin", None, AmbiguousPath},
		{"parameter on a dot segment, encoded", "x/y/..%3b/admin", None, AmbiguousPath},
		{"parameter that does not matter", "x/admin/x;jsessionid=1", 1, Found},
		{"parameter on an exact path", "x/exact;jsessionid=1", None, AmbiguousPath},
		{"regex in both readings", "re/f/x%2Fy", None, AmbiguousPath},

		{"encoded slash in a parameter", "x/y;a%2F..%2Fadmin", None, BadPath},
		{"backslash in a parameter", `x/y;a\..\admin`, None, BadPath},
		{"percent sign alone", "x/100%", None, BadPath},
		{"percent sign and one digit", "x/%4", None, BadPath},
		{"percent sign and no digits", "x/%zz", None, BadPath},
		{"IIS's own encoding", "x/%u0061dmin", None, BadPath},
		{"NUL encoded", "x/admin%00.html", None, BadPath},
		{"too long to normalise", "x//" + strings.Repeat("a", maxNormal), None, LongPath},
		{"long and plain", "x/admin/" + strings.Repeat("a", 2*maxNormal), 1, Found},
		{"as long as can be normalised", "x/y/../admin/" + strings.Repeat("a", maxNormal-12), 1, Found},

		{"a host that looks at no path takes all", "blind.x/%zz", 4, Found},
		{"until the way up does look", "head.x/%zz", None, BadPath},
		{"even one too long", "blind.x//" + strings.Repeat("a", maxNormal), 4, Found},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var r *request
			if host, star := strings.CutSuffix(tt.r, "*"); star {
				r = get(host + "/")
				r.path = []byte("*")
			} else {
				r = get(tt.r)
			}
			before := string(r.path)
			if got, why := table.Find(r); got != tt.want || why != tt.why {
				t.Errorf("rule %d (%v), want %d (%v)", got, why, tt.want, tt.why)
			}
			if string(r.path) != before {
				t.Error("the request's path was written to")
			}
		})
	}
}

func TestPathWithoutASlashFallsUnderNoPath(t *testing.T) {
	table := mustCompile(t, []Rule{{Path: ".*", PathKind: Regex}})
	for _, path := range []string{"", "a", "**"} {
		r := get("x/")
		r.path = []byte(path)
		if got, why := table.Find(r); got != None || why != BadPath {
			t.Errorf("%q: rule %d (%v), want none (%v)", path, got, why, BadPath)
		}
	}
}

func TestQuery(t *testing.T) {
	tests := []struct {
		name  string
		field Field
		query string
		want  bool
	}{
		{"equal", Field{Name: "a", Value: "1"}, "b=2&a=1", true},
		{"the first counts", Field{Name: "a", Value: "1"}, "a=2&a=1", false},
		{"percent-decoded", Field{Name: "a b", Value: "c/d"}, "a%20b=c%2fd", true},
		{"plus is a space", Field{Name: "a", Value: "b c"}, "a=b+c", true},
		{"an encoded plus is a plus", Field{Name: "a", Value: "b+c"}, "a=b%2Bc", true},
		{"a percent sign alone stands for itself", Field{Name: "a", Value: "100%"}, "a=100%", true},
		{"longer than asked for", Field{Name: "a", Value: "1"}, "a=12", false},
		{"shorter than asked for", Field{Name: "a", Value: "12"}, "a=1", false},
		{"name longer", Field{Name: "a", Value: "1"}, "ab=1", false},
		{"there without a value", Field{Name: "a"}, "a", true},
		{"not there", Field{Name: "a"}, "b=a", false},
		{"absent", Field{Name: "a", Absent: true}, "b=a", true},
		{"not absent", Field{Name: "a", Absent: true}, "b&%61", false},
		{"regex", Field{Name: "a", Regex: "[0-9]+"}, "a=12", true},
		{"regex on the whole value", Field{Name: "a", Regex: "1|2"}, "a=12", false},
		{"regex on what is decoded", Field{Name: "a", Regex: "b c"}, "a=b+%63", true},
		{"regex on more than can be decoded", Field{Name: "a", Regex: ".*"}, "a=%20" + strings.Repeat("a", maxNormal), false},
		{"empty pairs", Field{Name: "a"}, "&&=&a", true},
		{"a second = is of the value", Field{Name: "a", Value: "b=c"}, "a=b=c", true},
		{"semicolons do not part", Field{Name: "a", Value: "1"}, "b=2;a=1", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			table := mustCompile(t, []Rule{{Query: []Field{tt.field}}})
			if got := table.Match(get("x/?" + tt.query)); (got == 0) != tt.want {
				t.Errorf("rule %d, want a match: %v", got, tt.want)
			}
		})
	}
}

func TestCompileRefuses(t *testing.T) {
	sources := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	tests := []struct {
		name  string
		rules []Rule
		want  []string // fields, and a part of the reason
	}{
		{"several faults at once", []Rule{{Path: "a", Methods: []string{"get", ""}}, {Hosts: []string{""}}}, []string{
			"rules[0].path: does not begin with a slash", "rules[0].methods[0]: write GET", "rules[0].methods[1]: not a method", "rules[1].hosts[0]: is empty",
		}},
		{"hosts", []Rule{{Hosts: []string{"*", "a.*.b", "*a.b", "a..b", "a b", "a:80", "ä.de", "-a", "a/", "::1", "[::1", "[0::1]", "[1.2.3.4]", strings.Repeat("a", 64), strings.Repeat("a.", 130), "*."}}}, []string{
			"rules[0].hosts[0]: every host", "rules[0].hosts[1]: wildcard elsewhere", "rules[0].hosts[2]: wildcard elsewhere", "rules[0].hosts[3]: empty label",
			"rules[0].hosts[4]: holds ' '", "rules[0].hosts[5]: port", "rules[0].hosts[6]: xn--", "rules[0].hosts[7]: hyphen", "rules[0].hosts[8]: holds '/'",
			"rules[0].hosts[9]: brackets", "rules[0].hosts[10]: brackets", "rules[0].hosts[11]: write [::1]", "rules[0].hosts[12]: brackets",
			"rules[0].hosts[13]: 63", "rules[0].hosts[14]: 253", "rules[0].hosts[15]: every host",
		}},
		{"a host twice", []Rule{{Hosts: []string{"a", "A."}}}, []string{"rules[0].hosts[1]: listed twice"}},
		{"paths", []Rule{{Path: "/a?b"}, {Path: "/a%"}, {Path: "/a;b"}, {Path: "/a//b"}, {Path: "/a%2Fb"}, {Path: "/" + strings.Repeat("a", maxNormal)}}, []string{
			"rules[0].path: query", "rules[1].path: percent", "rules[2].path: different ways", "rules[3].path: different ways", "rules[4].path: different ways", "rules[5].path: longer",
		}},
		{"path kinds", []Rule{{Path: "/a", PathKind: "glob"}, {PathKind: Exact}, {PathKind: Regex}}, []string{"rules[0].path_kind: not known", "rules[1].path: empty", "rules[2].path: empty"}},
		{"regexes", []Rule{{Path: "(", PathKind: Regex}, {Path: "a)(b", PathKind: Regex}, {Headers: []Field{{Name: "a", Regex: "["}}}}, []string{
			"rules[0].path: missing", "rules[1].path: unexpected", "rules[2].headers[0].regex: missing",
		}},
		{"a regex as deep as can be, but for what is put around it", []Rule{{Path: strings.Repeat("(", 999) + strings.Repeat(")", 999), PathKind: Regex}}, []string{"rules[0].path: nests too deeply"}},
		{"fields", []Rule{{Headers: []Field{{Name: "a b"}, {Name: "c", Value: "1", Regex: "2"}, {Name: "d", Value: "1", Absent: true}}, Query: []Field{{}}}}, []string{
			"rules[0].headers[0].name: not a name", "rules[0].headers[1].regex: value", "rules[0].headers[2].absent: neither", "rules[0].query[0].name: not a name",
		}},
		{"fields that contradict each other", []Rule{{Headers: []Field{{Name: "a", Value: "1"}, {Name: "A", Value: "2"}, {Name: "a", Absent: true}}, Cookies: []Field{{Name: "a"}, {Name: "a"}, {Name: "A"}}}}, []string{
			"rules[0].headers[1]: contradicts [0]", "rules[0].headers[2]: contradicts [0]", "rules[0].headers[2]: contradicts [1]", "rules[0].cookies[1]: repeats [0]",
		}},
		{"sources", []Rule{{Sources: []netip.Prefix{{}, netip.MustParsePrefix("10.0.0.1/8"), netip.MustParsePrefix("::ffff:10.0.0.0/104"), sources[0], sources[0]}}}, []string{
			"rules[0].sources[0]: not a prefix", "rules[0].sources[1]: write 10.0.0.0/8", "rules[0].sources[2]: as IPv4", "rules[0].sources[4]: twice",
		}},
		{"the same rule twice", []Rule{{Path: "/a"}, {Path: "/b"}, {Path: "/%61/"}}, []string{"rules[2]: rules[0] asks for the same"}},
		{"the same conditions in another order", []Rule{
			{Methods: []string{"GET", "PUT"}, Headers: []Field{{Name: "a"}, {Name: "B"}}, Sources: sources},
			{Methods: []string{"PUT", "GET"}, Headers: []Field{{Name: "b"}, {Name: "A"}}, Sources: sources},
		}, []string{"rules[1]: rules[0] asks for the same"}},
		{"the same at one of the hosts", []Rule{{Hosts: []string{"a", "b"}}, {Hosts: []string{"c", "B"}}}, []string{"rules[1].hosts[1]: rules[0] asks for the same at b"}},
		{"a regex behind a prefix of everything", []Rule{{Hosts: []string{"a", "b"}, Path: ".*php", PathKind: Regex}, {Hosts: []string{"a"}, Path: "/"}}, []string{"rules[0].path: can never match at a: rules[1]"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			table, err := Compile(tt.rules)
			if err == nil || table != nil {
				t.Fatalf("Compile = %v, %v; want faults", table, err)
			}
			var got []string
			for _, e := range err.(interface{ Unwrap() []error }).Unwrap() {
				var c *policy.Fault
				if !errors.As(e, &c) {
					t.Fatalf("%v is a %T", e, e)
				}
				got = append(got, c.Field+": "+c.Reason)
			}
			if len(got) != len(tt.want) {
				t.Fatalf("faults:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
			for i, want := range tt.want {
				field, part, _ := strings.Cut(want, ": ")
				if !strings.HasPrefix(got[i], field+": ") || !strings.Contains(got[i], part) {
					t.Errorf("fault %q, want %q", got[i], want)
				}
			}
		})
	}
}

func TestCompileTakes(t *testing.T) {
	tests := []struct {
		name  string
		rules []Rule
	}{
		{"none", nil},
		{"one of everything", []Rule{{
			Hosts: []string{"a", "*.a", "[::1]", "192.0.2.1", "_dmarc.a", "xn--4ca.de"}, Path: "/", PathKind: Prefix, Methods: []string{"GET", "get-it"},
			Headers: []Field{{Name: "a", Value: "1"}}, Cookies: []Field{{Name: "a", Regex: "1"}}, Query: []Field{{Name: "a b", Absent: true}},
		}}},
		{"the same path as prefix and exact", []Rule{{Path: "/a"}, {Path: "/a", PathKind: Exact}, {Path: "/a", PathKind: Regex}}},
		{"exact with and without a final slash", []Rule{{Path: "/a", PathKind: Exact}, {Path: "/a/", PathKind: Exact}}},
		{"a regex behind a conditional prefix of everything", []Rule{{Path: ".*", PathKind: Regex}, {Path: "/", Methods: []string{"GET"}}}},
		{"two regexes for one field", []Rule{{Headers: []Field{{Name: "a", Regex: ".*b"}, {Name: "a", Regex: "c.*"}}}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := Compile(tt.rules); err != nil {
				t.Errorf("Compile: %v", err)
			}
		})
	}
}

// Fields are relative to the rule when it is validated by itself.
func TestValidateRule(t *testing.T) {
	err := Rule{Hosts: []string{"*"}, Path: "a"}.Validate()
	want := `hosts[0]: "*" stands for every host: leave hosts out instead` + "\n" + `path: "a" does not begin with a slash`
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Errorf("Validate (-want +got):\n%s", diff)
	}
}
