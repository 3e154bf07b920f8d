package sticky

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// Whatever the value: no panic, and a value is taken only if a jar could have
// made it.
func FuzzParse(f *testing.F) {
	for _, format := range formats {
		f.Add([]byte(made(f, newJar(f, Config{Format: format}, "web", old), "web1", time.Time{}, noon)))
		f.Add([]byte(made(f, newJar(f, Config{Format: format}, "api", old), "a b", time.Time{}, noon)))
	}
	f.Add([]byte("1BppCrABppCrA"))
	f.Add([]byte("2" + strings.Repeat("A", 100)))
	f.Add([]byte("a%2"))
	jars := map[Format]*Jar{}
	for _, format := range formats {
		jars[format] = newJar(f, Config{Format: format, MaxIdle: idleUnless(format), Name: "S"}, "web", old)
	}
	s := new(Scratch)
	f.Fuzz(func(t *testing.T, value []byte) {
		for format, j := range jars {
			r := sent("S", string(value))
			d := j.Parse(r, noon, s)
			if !bytes.Equal(r.view, value) {
				t.Fatal("the request was written to")
			}
			if d.Verdict != Valid {
				if d.Server != nil || d.Refresh || !d.First.IsZero() || !d.Last.IsZero() {
					t.Fatalf("%s: %v with content: %+v", format, d.Verdict, d)
				}
				continue
			}
			switch server := string(d.Server); {
			case len(server) == 0 || len(server) > MaxServer:
				t.Fatalf("%s: a server of %d bytes", format, len(server))
			case format == Plain:
				if again := made(t, j, server, time.Time{}, noon); again != string(value) {
					t.Fatalf("%q names %q, whose cookie is %q", value, server, again)
				}
			case value[0] == signedVersion:
				if again := made(t, jars[Signed], server, d.First, d.Last); again != string(value) {
					t.Fatalf("%q is taken, and %q would be made", value, again)
				}
			}
		}
	})
}

func idleUnless(f Format) time.Duration {
	if f == Plain {
		return 0
	}
	return time.Hour
}

// What is left of a Cookie field are the other pairs, in their order.
func FuzzAppendWithout(f *testing.F) {
	for _, s := range []string{"S=a", "a=b; S=c; d=e", ";;", " S =x;\t", "S"} {
		f.Add([]byte(s))
	}
	j := newJar(f, Config{Format: Plain, Name: "S"}, "web")
	f.Fuzz(func(t *testing.T, value []byte) {
		got, removed := j.AppendWithout(nil, value)
		if !removed {
			if !bytes.Equal(got, value) {
				t.Fatalf("%q became %q, and nothing was removed", value, got)
			}
			return
		}
		var want []string
		there := false
		for pair := range strings.SplitSeq(string(value), ";") {
			pair = strings.Trim(pair, " \t")
			name, _, equals := strings.Cut(pair, "=")
			if equals && strings.Trim(name, " \t") == "S" {
				there = true
			} else if pair != "" {
				want = append(want, pair)
			}
		}
		if !there || string(got) != strings.Join(want, "; ") {
			t.Fatalf("%q became %q, want %q", value, got, want)
		}
		if _, again := j.AppendWithout(nil, got); again {
			t.Fatalf("%q still holds the cookie", got)
		}
	})
}
