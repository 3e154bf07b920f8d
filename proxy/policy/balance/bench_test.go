package balance

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// algorithms is one configuration for each way to balance.
var algorithms = []Config{
	{Algorithm: RoundRobinName},
	{Algorithm: LeastConn},
	{Algorithm: SourceHash},
	{Algorithm: RandomTwo},
	{Algorithm: Latency},
}

// pool returns members of these weights, with records of their own.
func pool(weights ...int) []Member {
	m := make([]Member, len(weights))
	for i, w := range weights {
		address := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 8080)
		m[i] = Member{ID: Identity(fmt.Sprintf("node_%d", i), address), Weight: w, Load: new(Load)}
	}
	return m
}

func equal(n int) []int {
	w := make([]int, n)
	for i := range w {
		w[i] = 1
	}
	return w
}

// thousand is weights of all sizes.
func thousand() []int {
	w := make([]int, 1000)
	for i := range w {
		w[i] = 1 + i%256
	}
	return w
}

// busy is a pool of 1,000 at work: about two in flight for a mean weight, and
// latencies from 1 to 50 ms.
func busy(c Config) (Picker, []Member) {
	m := pool(thousand()...)
	p := New(c, m, nil)
	for i := range m {
		for range 1 + m[i].Weight/64 {
			m[i].Load.Begin()
		}
		m[i].Load.Observe(time.Second, time.Duration(1+i%50)*time.Millisecond)
	}
	return p, m
}

// A pick alone, and a pick with what a request does to the counts.
func BenchmarkPick1000(b *testing.B) {
	const now = 2 * time.Second
	for _, c := range algorithms {
		b.Run(string(c.Algorithm), func(b *testing.B) {
			p, m := busy(c)
			b.Run("pick/serial", func(b *testing.B) {
				b.ReportAllocs()
				for key := uint64(1); b.Loop(); key = mix(key) {
					p.Pick(key, now)
				}
			})
			b.Run("pick/parallel", func(b *testing.B) {
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					for key := uint64(1); pb.Next(); key = mix(key) {
						p.Pick(key, now)
					}
				})
			})
			// A client that keeps 64 requests in flight.
			type client struct {
				key  uint64
				open [64]*Load
				n    int
			}
			request := func(c *client) {
				c.key = mix(c.key)
				l := m[p.Pick(c.key, now)].Load
				l.Begin()
				if old := c.open[c.n%len(c.open)]; old != nil {
					old.Observe(now, 10*time.Millisecond)
					old.End()
				}
				c.open[c.n%len(c.open)] = l
				c.n++
			}
			b.Run("request/serial", func(b *testing.B) {
				b.ReportAllocs()
				var c client
				for b.Loop() {
					request(&c)
				}
			})
			b.Run("request/parallel", func(b *testing.B) {
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					var c client
					for pb.Next() {
						request(&c)
					}
				})
			})
		})
	}
}

// What a change of a pool's members or weights costs, off the request path.
func BenchmarkNew1000(b *testing.B) {
	for _, c := range algorithms {
		b.Run(string(c.Algorithm), func(b *testing.B) {
			m := pool(thousand()...)
			p := New(c, m, nil)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				m[i%len(m)].Weight++ // or the hash would keep its table
				p = New(c, m, p)
			}
		})
	}
}

// A slow start scales all weights up: the longest cycle that is laid out.
func BenchmarkRoundRobinLayoutScaled1000(b *testing.B) {
	w := thousand()
	for i := range w {
		w[i] = w[i]*10 + i%7
	}
	b.ReportAllocs()
	for b.Loop() {
		NewRoundRobin(w, 0)
	}
}

func BenchmarkKey(b *testing.B) {
	r := &request{path: text("/api/v1/accounts/42/payments"), query: text("page=3&order=date"), client: netip.MustParseAddr("2001:db8::1"), headers: map[string]text{"x-tenant": text("acme")}}
	for _, c := range []Config{{Algorithm: SourceHash}, {Algorithm: URIHash}, {Algorithm: HeaderHash, HashName: "x-tenant"}} {
		b.Run(string(c.Algorithm), func(b *testing.B) {
			k := NewKeyer(c)
			b.ReportAllocs()
			for b.Loop() {
				k.Key(r)
			}
		})
	}
}
