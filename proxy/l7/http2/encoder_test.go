package http2

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2/hpack"
	"pgregory.net/rapid"

	"github.com/pharos-lb/pharos/proxy/l7/http1"
)

// The static table is that of RFC 7541 appendix A, as package hpack has it.
func TestStaticIndex(t *testing.T) {
	first := map[string]int{}
	for i := 1; i <= staticEntries; i++ {
		var name string
		dec := hpack.NewDecoder(0, func(f hpack.HeaderField) { name = f.Name })
		if _, err := dec.Write([]byte{0x80 | byte(i)}); err != nil {
			t.Fatal(err)
		}
		if first[name] == 0 {
			first[name] = i
		}
	}
	if len(first) < 50 {
		t.Fatalf("%d names in the static table", len(first))
	}
	for name, want := range first {
		if got := staticIndex([]byte(name)); got != want {
			t.Errorf("index of %s = %d, want %d", name, got, want)
		}
	}
}

func TestEncoderRemembersWhatComesTwice(t *testing.T) {
	e := encoder{limit: tableSize}
	name, value := []byte("x-frame-options"), []byte("DENY")
	var lengths []int
	for range 4 {
		lengths = append(lengths, len(e.field(nil, name, value)))
	}
	// Written out, written out and remembered, and then an index.
	if diff := cmp.Diff([]int{22, 22, 1, 1}, lengths); diff != "" {
		t.Error(diff)
	}
	// What never comes again drives nothing out.
	for i := range 10_000 {
		e.field(nil, []byte("x-request-id"), fmt.Appendf(nil, "%08d", i))
	}
	if n := len(e.field(nil, name, value)); n != 1 || len(e.entries) > 2 {
		t.Errorf("%d bytes, %d entries", n, len(e.entries))
	}
}

func TestSecretsAreNeverIndexed(t *testing.T) {
	for _, name := range []string{"authorization", "Proxy-Authorization", "cookie", "Set-Cookie"} {
		e := encoder{limit: tableSize}
		for range 4 {
			b := e.field(nil, []byte(name), []byte("secret"))
			sensitive := false
			dec := hpack.NewDecoder(tableSize, func(f hpack.HeaderField) { sensitive = f.Sensitive })
			if _, err := dec.Write(b); err != nil || !sensitive {
				t.Errorf("%s: %x, %v", name, b, err)
			}
		}
		if len(e.entries) != 0 {
			t.Errorf("%s is in the table", name)
		}
	}
}

// Whatever is encoded, package hpack decodes to the same, while the table
// shrinks and grows.
func TestEncoderAgainstHpack(t *testing.T) {
	names := []string{"a", "Content-Type", "date", "x-long-name-" + strings.Repeat("x", 200), "cookie", ":authority", "server"}
	rapid.Check(t, func(t *rapid.T) {
		e := encoder{limit: tableSize}
		var got []string
		dec := hpack.NewDecoder(tableSize, func(f hpack.HeaderField) { got = append(got, f.Name+"="+f.Value) })
		for range rapid.IntRange(1, 40).Draw(t, "blocks") {
			if rapid.IntRange(0, 4).Draw(t, "resize") == 0 {
				last := 0
				for range rapid.IntRange(1, 3).Draw(t, "times") {
					last = rapid.SampledFrom([]int{0, 40, 100, 300, 1000, 4096, 1 << 20}).Draw(t, "limit")
					e.resize(last)
				}
				dec.SetAllowedMaxDynamicTableSize(uint32(last))
			}
			b := e.begin(nil)
			var want []string
			status := rapid.SampledFrom([]int{200, 204, 206, 302, 304, 400, 404, 418, 500, 503}).Draw(t, "status")
			b = e.status(b, status)
			want = append(want, fmt.Sprintf(":status=%d", status))
			for range rapid.IntRange(0, 8).Draw(t, "fields") {
				name := rapid.SampledFrom(names).Draw(t, "name")
				value := rapid.SampledFrom([]string{"", "1", "2", strings.Repeat("v", 90), strings.Repeat("w", 900), strings.Repeat("z", 2000)}).Draw(t, "value")
				b = e.field(b, []byte(name), []byte(value))
				want = append(want, strings.ToLower(name)+"="+value)
			}
			got = nil
			if _, err := dec.Write(b); err != nil {
				t.Fatalf("%x: %v", b, err)
			}
			if err := dec.Close(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatal(diff)
			}
			size := 0
			for _, entry := range e.entries {
				size += len(entry.text) + entryOverhead
			}
			if size != e.size || e.size > e.limit {
				t.Fatalf("size %d, counted %d, limit %d", e.size, size, e.limit)
			}
		}
	})
}

func TestIntegers(t *testing.T) {
	// RFC 7541 appendix C.1.
	for _, tt := range []struct {
		n      int
		prefix uint
		want   []byte
	}{{10, 5, []byte{10}}, {1337, 5, []byte{31, 154, 10}}, {42, 8, []byte{42}}, {31, 5, []byte{31, 0}}, {127, 7, []byte{127, 0}}} {
		if got := appendInteger(nil, 0, tt.prefix, tt.n); !bytes.Equal(got, tt.want) {
			t.Errorf("%d in %d bits = %v, want %v", tt.n, tt.prefix, got, tt.want)
		}
	}
}

func BenchmarkEncoder(b *testing.B) {
	fields := nginxFields()
	b.Run("ours", func(b *testing.B) {
		b.ReportAllocs()
		e := encoder{limit: tableSize}
		var buf []byte
		n := 0
		for b.Loop() {
			buf = e.fields(e.status(buf[:0], 200), fields, false)
			n = len(buf)
		}
		b.ReportMetric(float64(n), "B/block")
	})
	b.Run("hpack", func(b *testing.B) {
		b.ReportAllocs()
		var buf bytes.Buffer
		e := hpack.NewEncoder(&buf)
		for b.Loop() {
			buf.Reset()
			_ = e.WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
			for _, f := range fields {
				if f.Kind != http1.Connection {
					_ = e.WriteField(hpack.HeaderField{Name: strings.ToLower(string(f.Name)), Value: string(f.Value)})
				}
			}
		}
		b.ReportMetric(float64(buf.Len()), "B/block")
	})
	// One field in eight is new each time, as dates and tags are.
	b.Run("ours, changing", func(b *testing.B) {
		b.ReportAllocs()
		e := encoder{limit: tableSize}
		var buf, tag []byte
		i, total := 0, 0
		for b.Loop() {
			tag = fmt.Appendf(tag[:0], "\"%016d\"", i)
			fields[6].Value = tag
			buf = e.fields(e.status(buf[:0], 200), fields, false)
			i++
			total += len(buf)
		}
		b.ReportMetric(float64(total)/float64(i), "B/block")
	})
	b.Run("hpack, changing", func(b *testing.B) {
		b.ReportAllocs()
		var buf bytes.Buffer
		var tag []byte
		e := hpack.NewEncoder(&buf)
		i, total := 0, 0
		for b.Loop() {
			tag = fmt.Appendf(tag[:0], "\"%016d\"", i)
			fields[6].Value = tag
			buf.Reset()
			_ = e.WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
			for _, f := range fields {
				if f.Kind != http1.Connection {
					_ = e.WriteField(hpack.HeaderField{Name: strings.ToLower(string(f.Name)), Value: string(f.Value)})
				}
			}
			i++
			total += buf.Len()
		}
		b.ReportMetric(float64(total)/float64(i), "B/block")
	})
}
