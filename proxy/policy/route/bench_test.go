package route

import (
	"fmt"
	"net/netip"
	"testing"
)

// Tables of n rules in the shapes that are met, and requests that fall under
// rules all over them.
var shapes = []struct {
	name  string
	rules func(n int) []Rule
	r     func(i int) *request // under rule i
}{
	{
		"hosts", func(n int) (rules []Rule) {
			for i := range n {
				rules = append(rules, Rule{Hosts: []string{fmt.Sprintf("customer-%d.example.com", i)}})
			}
			return rules
		},
		func(i int) *request { return get(fmt.Sprintf("customer-%d.example.com/assets/app.js", i)) },
	},
	{
		"wildcards", func(n int) (rules []Rule) {
			for i := range n {
				rules = append(rules, Rule{Hosts: []string{fmt.Sprintf("*.customer-%d.example.com", i)}})
			}
			return rules
		},
		func(i int) *request { return get(fmt.Sprintf("www.customer-%d.example.com/assets/app.js", i)) },
	},
	{
		"prefixes", func(n int) (rules []Rule) {
			for i := range n {
				rules = append(rules, Rule{Hosts: []string{"api.example.com"}, Path: fmt.Sprintf("/v1/service-%d", i)})
			}
			return rules
		},
		func(i int) *request {
			return get(fmt.Sprintf("api.example.com/v1/service-%d/orders/4711?expand=lines", i))
		},
	},
	{
		"mixed", mixed,
		func(i int) *request {
			host, path := i/20, i%20/2
			r := get(fmt.Sprintf("shop-%d.example.com/v1/service-%d/orders/4711?expand=lines", host, path))
			r.headers["x-canary"] = []byte("no")
			return r
		},
	},
}

// mixed has 10 prefixes a host, each with a canary by header or by network.
func mixed(n int) (rules []Rule) {
	for i := range n {
		r := Rule{Hosts: []string{fmt.Sprintf("shop-%d.example.com", i/20)}, Path: fmt.Sprintf("/v1/service-%d", i%20/2)}
		switch i % 4 {
		case 1:
			r.Headers = []Field{{Name: "X-Canary", Value: "yes"}}
		case 3:
			r.Methods, r.Sources = []string{"GET", "POST"}, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
		}
		rules = append(rules, r)
	}
	return rules
}

func BenchmarkMatch(b *testing.B) {
	for _, shape := range shapes {
		for _, n := range []int{10, 100, 1000, 10_000} {
			b.Run(fmt.Sprintf("%s/%d", shape.name, n), func(b *testing.B) {
				table := mustCompile(b, shape.rules(n))
				// Every rule is asked for equally often, in a shuffled order:
				// the worst case for caches. The request is copied to one
				// place, since one that was just received is in the cache.
				var sent []byte
				ends := make([][2]int, n)
				for i := range ends {
					r := shape.r(i * 7919 % n)
					if table.Match(r) == None {
						b.Fatalf("no rule for %s%s", r.host, r.path)
					}
					sent = append(sent, r.host...)
					ends[i][0] = len(sent)
					sent = append(sent, r.path...)
					ends[i][1] = len(sent)
				}
				r := shape.r(0)
				b.ReportAllocs()
				i, at := 0, 0
				for b.Loop() {
					r.host = append(r.host[:0], sent[at:ends[i][0]]...)
					r.path = append(r.path[:0], sent[ends[i][0]:ends[i][1]]...)
					table.Match(r)
					at = ends[i][1]
					if i++; i == n {
						i, at = 0, 0
					}
				}
			})
		}
	}
}

func BenchmarkMatchPaths(b *testing.B) {
	table := mustCompile(b, append(mixed(10_000),
		Rule{Hosts: []string{"re.example.com"}, Path: `/users/[0-9]+/avatar\.(png|jpg)`, PathKind: Regex},
		Rule{Hosts: []string{"q.example.com"}, Query: []Field{{Name: "version", Value: "2"}}}))
	for _, bb := range []struct{ name, url string }{
		{"plain", "shop-7.example.com/v1/service-5/orders/4711"},
		{"encoded", "shop-7.example.com/v1/service-5/orders/a%20b"},
		{"two readings", "shop-7.example.com/v1/service-5/projects/x%2Fy"},
		{"unknown host", "nobody.example.org/v1/service-5"},
		{"regex", "re.example.com/users/4711/avatar.png"},
		{"query", "q.example.com/?page=7&sort=name&version=2"},
	} {
		b.Run(bb.name, func(b *testing.B) {
			r := get(bb.url)
			b.ReportAllocs()
			for b.Loop() {
				table.Match(r)
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	rules := mixed(10_000)
	b.ReportAllocs()
	for b.Loop() {
		mustCompile(b, rules)
	}
}

func TestMatchDoesNotAllocate(t *testing.T) {
	table := mustCompile(t, append(mixed(100),
		Rule{Hosts: []string{"re.x"}, Path: `/users/[0-9]+/.*\.(png|jpg)`, PathKind: Regex},
		Rule{Hosts: []string{"re2.x"}, Path: `(a|b)*/?.*c.*`, PathKind: Regex},
		Rule{
			Hosts: []string{"f.x"}, Headers: []Field{{Name: "X", Regex: "[0-9]+"}}, Cookies: []Field{{Name: "y", Value: "1"}},
			Query: []Field{{Name: "a b", Value: "c d"}, {Name: "e", Regex: "f+ g"}}, Sources: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
		},
		Rule{Hosts: []string{"*.w.x"}},
	))
	tests := []struct {
		name string
		r    *request
		want int
	}{
		{"prefix", get("shop-1.example.com/v1/service-5/orders"), 30},
		{"prefix with an encoded path", get("shop-1.example.com/v1/x/../service-5/%6frders"), 30},
		{"prefix with two readings", get("shop-1.example.com/v1/service-5/x%2Fy"), 30},
		{"wildcard", get("a.b.w.x/"), 103},
		{"no rule", get("nobody/a"), None},
		{"bad path", get("shop-1.example.com/%zz"), None},
		{"regex", get("re.x/users/12/a.png"), 100},
		{"regex with an encoded path", get("re.x/users/12/%61.png"), 100},
		{"regex with backtracking", get("re2.x/ababc"), 101},
		{"conditions", get("f.x/?e=f%66+g&a+b=c%20d").with(header("x", "12")).with(cookie("y", "1")), 102},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := table.Match(tt.r); got != tt.want {
				t.Fatalf("rule %d, want %d", got, tt.want)
			}
			// The race detector makes sync.Pool forget at random.
			if n := testing.AllocsPerRun(1000, func() { table.Match(tt.r) }); n != 0 && !raced {
				t.Errorf("%v allocations, want 0", n)
			}
		})
	}
}
