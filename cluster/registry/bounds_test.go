package registry

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestParseBoundsThingsAndMarks(t *testing.T) {
	many := func(n int, format string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	const listener = "vips: [{name: web, addresses: [198.51.100.1]}]\npools: [{name: p}]\nlisteners:\n  - name: a\n    vip: web\n    port: 1\n    protocol: http\n    routes:\n"
	for _, test := range []struct{ name, doc, want string }{
		{"routes", listener + many(10001, "      - {name: r%d, pool: p}\n"), "has 10001 elements, at most 10000 are allowed"},
		{"certificates", "certificates:\n" + many(1001, "  - {name: c%d}\n"), "has 1001 elements, at most 1000 are allowed"},
		{"bytes of text", listener + "      - {name: r, respond: {status: 200, body: " + strings.Repeat("x", 65537) + "}}\n", "has 65537 bytes, at most 65536"},
		{"states of one pattern", listener + "      - {name: r, path_regex: \"a{1000}[a-z]{1000}\", pool: p}\n", "takes more than 2000 states"},
		{"states of all patterns", listener + many(1000, "      - {name: r%[1]d, path_regex: \"[a-z]{1000}%[1]d\", pool: p}\n"), "together above 1000000 states"},
		{"marks", "a: [" + strings.Repeat("b,", maxMarks) + "]", fmt.Sprintf("more than %d marks", maxMarks)},
		{"keys between block scalars", "a:\n" + many(1001, "  k%d: |\n    x\n"), "more than 1000 keys"},
		{"depth between block scalars", many(17, "%[1]d: |\n  x\n") + strings.Repeat("- ", 33) + "x", "nested more than 32 levels"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Parse("x", []byte(test.doc))
			var faults Faults
			if !errors.As(err, &faults) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %d faults, the first: %v", len(faults), faults[:min(len(faults), 1)])
			}
		})
	}
}

// routes is a document of so many routes.
func routes(n int) []byte {
	var b strings.Builder
	b.WriteString("vips: [{name: web, addresses: [198.51.100.1]}]\npools:\n")
	for i := range 1000 {
		fmt.Fprintf(&b, "  - name: p%d\n    servers: [{name: a, address: 10.%d.%d.1:80}]\n", i, i/250, i%250)
	}
	b.WriteString("listeners:\n  - name: a\n    vip: web\n    port: 80\n    protocol: http\n    routes:\n")
	for i := range n {
		fmt.Fprintf(&b, `      - name: r%d
        hosts: [h%d.example.com]
        path: /v1/p%d
        methods: [GET, POST]
        headers: [{name: X-Version, value: "2"}]
        pool: p%d
`, i, i/10, i, i%1000)
	}
	return []byte(b.String())
}

func BenchmarkParse10000Routes(b *testing.B) {
	doc := routes(10000)
	b.SetBytes(int64(len(doc)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse("routes", doc); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOf10000Routes(b *testing.B) {
	c, err := Parse("routes", routes(10000))
	if err != nil {
		b.Fatal(err)
	}
	data, err := c.MarshalJSON()
	if err != nil {
		b.Fatal(err)
	}
	other := c.Clone()
	other.Listeners[0].Routes[5000].Path = "/other"
	for _, bench := range []struct {
		name string
		run  func() error
	}{
		{"Validate", func() error { return errors.Join(errorOf(c.Validate())) }},
		{"Marshal", func() error { _, err := c.Marshal(); return err }},
		{"MarshalJSON", func() error { _, err := c.MarshalJSON(); return err }},
		{"UnmarshalJSON", func() error { var again Config; return again.UnmarshalJSON(data) }},
		{"Clone", func() error { c.Clone(); return nil }},
		{"Effective", func() error { c.Effective(); return nil }},
		{"Diff", func() error {
			if n := len(Diff(c, other)); n != 1 {
				return fmt.Errorf("%d changes", n)
			}
			return nil
		}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := bench.run(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func errorOf(f Faults) error {
	if len(f) == 0 {
		return nil
	}
	return f
}
