package sticky

import (
	"testing"
	"time"
)

// What is done for each request and response, as the loops do it: with their
// own room, and a buffer that is there.
func work(t testing.TB, f Format) map[string]func() {
	c := Config{Format: f}
	if f != Plain {
		c.MaxIdle, c.MaxLife = time.Hour, 24*time.Hour
	}
	j, s, buf := newJar(t, c, "web", next, old), new(Scratch), make([]byte, 0, 1024)
	good := sent("SERVERID", made(t, j, "node-17", time.Time{}, noon))
	older := sent("SERVERID", made(t, newJar(t, c, "web", old), "node-17", time.Time{}, noon))
	forged := sent("SERVERID", made(t, newJar(t, c, "api", old), "node-17", time.Time{}, noon))
	field := []byte("_ga=GA1.2.1234567890.1700000000; SERVERID=" + good.value + "; session=0123456789abcdef0123456789abcdef; theme=dark")
	read := func(r *request) func() {
		return func() {
			if d := j.Parse(r, noon, s); d.Stays("other") {
				t.Error("the cookie is of another server")
			}
		}
	}
	return map[string]func(){
		"parse":         read(good),
		"parse older":   read(older),
		"parse forged":  read(forged),
		"append":        func() { buf, _ = j.Append(buf[:0], s, "node-17", time.Time{}, noon) },
		"strip request": func() { buf, _ = j.AppendWithout(buf[:0], field) },
		"parse garbage": read(sent("SERVERID", good.value+"\x01")),
	}
}

func TestNothingAllocates(t *testing.T) {
	for _, f := range formats {
		for name, do := range work(t, f) {
			if n := testing.AllocsPerRun(1000, do); n != 0 {
				t.Errorf("%s, %s: %v allocations, want 0", f, name, n)
			}
		}
	}
}

func BenchmarkJar(b *testing.B) {
	for _, f := range formats {
		for name, do := range work(b, f) {
			b.Run(string(f)+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					do()
				}
			})
		}
	}
}
