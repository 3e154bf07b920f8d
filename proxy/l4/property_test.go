package l4

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pharos-lb/pharos/proxy/l7/engine/inmem"
	"github.com/pharos-lb/pharos/proxy/policy/shed"
	"github.com/pharos-lb/pharos/proxy/pool"
	"github.com/pharos-lb/pharos/proxy/proxyproto"
	"github.com/pharos-lb/pharos/proxy/site"
)

// pair is one client, and the server that it came to.
type pair struct {
	client, server *inmem.Peer
	sent, got      [2]strings.Builder // by clients, by servers: [0] is what clients send
	ended          bool
}

// Whatever clients and servers do, in whatever order: what arrives is the
// beginning of what was sent, and all of it where both ends are clean; and in
// the end everything is given back that connections hold.
func TestRelaysKeepTheirBooks(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := newBench(t)
		limiter := shed.NewClientLimiter(shed.ClientConfig{Connections: 4}, seed)
		introduces := rapid.Bool().Draw(rt, "introduces")
		s := &site.Site{Pool: b.pool, Clients: limiter, Stream: site.Stream{Idle: testIdle}}
		if introduces {
			s.AcceptProxy = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
		}
		b.l.SetSite(s)
		b.update(func(s *pool.Spec) {
			s.Limits = shed.Config{MaxInFlight: 3, Queue: 2, QueueTimeout: 5 * time.Second}
			s.Servers[0].MaxInFlight = 2
		})
		var pairs []*pair
		waiting := make(map[string]*pair) // by their first words: who comes to a server says who it is
		servers := make(map[*inmem.Peer]*strings.Builder)
		b.loop.Accept = func(address netip.AddrPort, p *inmem.Peer) error {
			if b.dead[address] {
				return inmem.ErrRefused
			}
			servers[p] = new(strings.Builder)
			return nil
		}
		look := func() {
			b.loop.Run()
			for p, text := range servers {
				text.WriteString(p.Read())
				if name, _, ok := strings.Cut(text.String(), ":"); ok {
					if who := waiting[name]; who != nil {
						who.server = p
						who.got[0].WriteString(text.String())
						delete(waiting, name)
						delete(servers, p)
					}
				}
			}
			for _, p := range pairs {
				p.got[1].WriteString(p.client.Read())
				if p.server != nil {
					p.got[0].WriteString(p.server.Read())
				}
			}
			b.loop.Run()
		}
		any := func() *pair { return pairs[rapid.IntRange(0, len(pairs)-1).Draw(rt, "who")] }
		actions := map[string]func(*rapid.T){
			"connect": func(rt *rapid.T) {
				p := &pair{client: b.connect()}
				name := string(rune('A' + len(pairs)))
				pairs = append(pairs, p)
				waiting[name] = p
				if introduces {
					p.client.Write(string(proxyproto.AppendV1(nil, realClient, realTarget)))
				}
				p.client.Write(name + ":")
				p.sent[0].WriteString(name + ":")
			},
			"client writes": func(rt *rapid.T) {
				if len(pairs) > 0 {
					p, text := any(), strings.Repeat("c", rapid.IntRange(1, 100000).Draw(rt, "n"))
					if !p.ended {
						p.client.Write(text)
						p.sent[0].WriteString(text)
					}
				}
			},
			"server writes": func(rt *rapid.T) {
				if len(pairs) > 0 {
					p, text := any(), strings.Repeat("s", rapid.IntRange(1, 100000).Draw(rt, "n"))
					if p.server != nil && !p.ended {
						p.server.Write(text)
						p.sent[1].WriteString(text)
					}
				}
			},
			"client ends": func(rt *rapid.T) {
				if len(pairs) > 0 {
					p := any()
					p.ended = true
					p.client.CloseWrite()
				}
			},
			"client resets": func(rt *rapid.T) {
				if len(pairs) > 0 {
					p := any()
					p.ended = true
					p.client.Abort()
				}
			},
			"server ends": func(rt *rapid.T) {
				if len(pairs) > 0 {
					if p := any(); p.server != nil {
						p.ended = true
						p.server.CloseWrite()
					}
				}
			},
			"server resets": func(rt *rapid.T) {
				if len(pairs) > 0 {
					if p := any(); p.server != nil {
						p.ended = true
						p.server.Abort()
					}
				}
			},
			"slow": func(rt *rapid.T) {
				if len(pairs) > 0 {
					any().client.Limit(rapid.IntRange(0, 50000).Draw(rt, "room"))
				}
			},
			"dies": func(rt *rapid.T) { b.dead[first] = !b.dead[first] },
			"time": func(rt *rapid.T) {
				b.loop.Advance(time.Duration(rapid.IntRange(1, 70).Draw(rt, "seconds")) * time.Second)
			},
			"changes": func(rt *rapid.T) {
				b.update(func(s *pool.Spec) { s.Servers = s.Servers[rapid.IntRange(0, 1).Draw(rt, "from"):] })
			},
			"": func(rt *rapid.T) {
				look()
				for i, p := range pairs {
					for way, whose := range []string{"client", "server"} {
						if !strings.HasPrefix(p.sent[way].String(), p.got[way].String()) {
							rt.Fatalf("of what %s %d sent, %d bytes, something else arrived: %d bytes", whose, i, p.sent[way].Len(), p.got[way].Len())
						}
					}
				}
				for p := range servers {
					if !p.EOF {
						rt.Fatal("a server was connected to, and not told what the client began with")
					}
				}
				if n := b.pool.Gate().InFlight(); n > 3 && b.pool.Gate().Limit() >= 3 {
					rt.Fatalf("%d are admitted, of 3", n)
				}
			},
		}
		rt.Repeat(actions)
		for _, p := range pairs {
			p.client.Limit(1 << 30)
			p.client.CloseWrite()
			if p.server != nil {
				p.server.CloseWrite()
			}
		}
		for range 20 {
			look()
		}
		for i, p := range pairs {
			clean := p.server != nil && p.client.EOF && !p.client.Reset && !p.server.Reset
			if clean && (p.got[1].String() != p.sent[1].String()) {
				rt.Errorf("client %d saw a clean end after %d of %d bytes", i, p.got[1].Len(), p.sent[1].Len())
			}
			p.client.Abort()
		}
		b.loop.Run()
		b.loop.Advance(2 * testIdle)
		if n := b.pool.Gate().InFlight(); n != 0 {
			rt.Errorf("%d slots of the pool are held", n)
		}
		if n, m := b.l.Open.Load(), b.f.Open(); n != 0 || m != 0 {
			rt.Errorf("%d and %d connections are open", n, m)
		}
		for _, m := range b.pool.Members() {
			if n := m.InFlight.Load(); n != 0 {
				rt.Errorf("%d in flight at server %s", n, m.Name)
			}
		}
		if b.l.Accepted.Load() != b.l.Requests.Load() {
			rt.Errorf("%d accepted, %d ended", b.l.Accepted.Load(), b.l.Requests.Load())
		}
		for range 4 {
			for _, who := range []netip.AddrPort{clientAddress, realClient} {
				if _, ok := limiter.Acquire(who.Addr()); !ok {
					rt.Error("the client's connections were not given back")
				}
			}
		}
	})
}
