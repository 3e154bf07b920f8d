package shed

import (
	"hash/maphash"
	"net/netip"
	"testing"
	"time"
)

// request is a request with one field and one cookie.
type request struct {
	client         netip.Addr
	header, cookie string // values; empty: as an empty value
	bare           bool   // neither is there
}

func (r *request) Method() []byte     { return []byte("GET") }
func (r *request) Host() []byte       { return []byte("example.com") }
func (r *request) Path() []byte       { return []byte("/") }
func (r *request) Query() []byte      { return nil }
func (r *request) Client() netip.Addr { return r.client }

func (r *request) Header(lower string) ([]byte, bool) {
	if r.bare || lower != "x-api-key" {
		return nil, false
	}
	return []byte(r.header), true
}

func (r *request) Cookie(name string) ([]byte, bool) {
	if r.bare || name != "Session" {
		return nil, false
	}
	return []byte(r.cookie), true
}

func TestWhoIsOneClient(t *testing.T) {
	var (
		a  = netip.MustParseAddr("192.0.2.1")
		a6 = netip.MustParseAddr("::ffff:192.0.2.1")
		b  = netip.MustParseAddr("192.0.2.2")
		p1 = netip.MustParseAddr("2001:db8:1:2::1")
		p2 = netip.MustParseAddr("2001:db8:1:2:ffff::9")
		q  = netip.MustParseAddr("2001:db8:1:3::1")
		l1 = netip.MustParseAddr("fe80::1%eth0")
		l2 = netip.MustParseAddr("fe80::1%eth1")
	)
	a16 := a.As16()
	header := ClientConfig{Key: ByHeader, Name: "X-API-Key"}
	cookie := ClientConfig{Key: ByCookie, Name: "Session"}
	tests := []struct {
		name string
		c    ClientConfig
		x, y request
		same bool
	}{
		{"one address", ClientConfig{}, request{client: a}, request{client: a}, true},
		{"two addresses", ClientConfig{}, request{client: a}, request{client: b}, false},
		{"IPv4 mapped into IPv6", ClientConfig{}, request{client: a}, request{client: a6}, true},
		{"IPv4 mapped into IPv6 is not cut by the prefix", ClientConfig{}, request{client: a6}, request{client: netip.AddrFrom16(b.As16())}, false},
		{"a /64 of IPv6", ClientConfig{}, request{client: p1}, request{client: p2}, true},
		{"two /64 of IPv6", ClientConfig{}, request{client: p1}, request{client: q}, false},
		{"two /64 with a prefix of 56", ClientConfig{PrefixV6: 56}, request{client: p1}, request{client: q}, true},
		{"two /64 with a prefix of 63", ClientConfig{PrefixV6: 63}, request{client: p1}, request{client: q}, true},
		{"one /64 with a prefix of 128", ClientConfig{PrefixV6: 128}, request{client: p1}, request{client: p2}, false},
		{"zones", ClientConfig{}, request{client: l1}, request{client: l2}, true},
		{"one value of the field, two addresses", header, request{client: a, header: "k"}, request{client: b, header: "k"}, true},
		{"two values of the field, one address", header, request{client: a, header: "k"}, request{client: a, header: "l"}, false},
		{"without the field", header, request{client: a, bare: true}, request{client: a, bare: true}, true},
		{"without the field, two addresses", header, request{client: a, bare: true}, request{client: b, bare: true}, false},
		{"an empty field is none", header, request{client: a}, request{client: a, bare: true}, true},
		{"a field that spells an address", header, request{client: a, bare: true}, request{client: b, header: string(a16[:])}, false},
		{"one value of the cookie", cookie, request{client: a, cookie: "k"}, request{client: b, cookie: "k"}, true},
		{"two values of the cookie", cookie, request{client: a, cookie: "k"}, request{client: a, cookie: "l"}, false},
		{"without the cookie", cookie, request{client: a, bare: true}, request{client: b, bare: true}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := NewClientLimiter(tt.c, maphash.MakeSeed())
			if x, y := l.Key(&tt.x), l.Key(&tt.y); (x == y) != tt.same {
				t.Errorf("keys %x and %x, want the same: %v", x, y, tt.same)
			}
		})
	}
}

func TestClientRate(t *testing.T) {
	l := NewClientLimiter(ClientConfig{Rate: 0.5, Burst: 2}, maphash.MakeSeed())
	key := l.AddressKey(netip.MustParseAddr("192.0.2.1"))
	for range 2 {
		if ok, _ := l.Allow(key, 0); !ok {
			t.Fatal("refused within the burst")
		}
	}
	ok, wait := l.Allow(key, 500*ms)
	if ok || RetryAfter(wait) != 2 {
		t.Errorf("over the rate: %v, retry after %d s; want a refusal and 2 s", ok, RetryAfter(wait))
	}
	if ok, _ := l.Allow(key, 500*ms+2*time.Second); !ok {
		t.Error("refused after it waited for as long as it was told")
	}
	if got := l.Stats().Limited; got != 1 {
		t.Errorf("%d refusals were counted, want 1", got)
	}
}

func TestFullTableLetsStrangersIn(t *testing.T) {
	l := NewClientLimiter(ClientConfig{Rate: 1, Burst: 1, Connections: 1, Table: 1}, maphash.MakeSeed())
	address := netip.MustParseAddr("192.0.2.1")
	var known []netip.Addr
	for range 100 {
		before := l.Stats()
		if ok, _ := l.Allow(l.AddressKey(address), 0); !ok {
			t.Fatal("a client was refused for what others did")
		}
		slot, ok := l.Acquire(address)
		if !ok {
			t.Fatal("a client's connection was refused for what others did")
		}
		if l.Stats() == before {
			known = append(known, address)
		} else if slot != (ClientSlot{}) {
			t.Error("a connection is counted, and counted as not counted")
		}
		address = address.Next()
	}
	if got := l.Stats(); len(known) != setSize || got.Uncounted != 100-setSize || got.UncountedConnections != 100-setSize {
		t.Errorf("%d clients have entries, stats %+v; want %d and the others uncounted", len(known), got, setSize)
	}
	for _, a := range known {
		if ok, _ := l.Allow(l.AddressKey(a), 0); ok {
			t.Errorf("%v lost its bucket to others", a)
		}
		if _, ok := l.Acquire(a); ok {
			t.Errorf("%v lost its connection to others", a)
		}
	}
}

func TestConnectionsOutliveAChangeOfTheirLimit(t *testing.T) {
	c := ClientConfig{Connections: 2}
	l := NewClientLimiter(c, maphash.MakeSeed())
	a := netip.MustParseAddr("192.0.2.1")
	first, _ := l.Acquire(a)
	second, _ := l.Acquire(a)
	l.Retune(ClientConfig{}) // off
	third, ok := l.Acquire(a)
	if !ok {
		t.Error("refused without a limit")
	}
	l.Release(second)
	l.Retune(c)
	l.Release(third)
	if _, ok := l.Acquire(a); !ok {
		t.Error("refused with one connection that counts open, limit 2")
	}
	if _, ok := l.Acquire(a); ok {
		t.Error("let in with two open, limit 2")
	}
	l.Release(first)
	if _, ok := l.Acquire(a); !ok {
		t.Error("refused after one was closed")
	}
}

func TestRetuneSaysWhenALimiterCannotChange(t *testing.T) {
	old := ClientConfig{Rate: 1}
	for _, tt := range []struct {
		name string
		c    ClientConfig
		want bool
	}{
		{"rate", ClientConfig{Rate: 2, Burst: 9, Connections: 3}, true},
		{"defaults spelt out", ClientConfig{Key: ByAddress, PrefixV6: 64, Table: 100_000}, true},
		{"key", ClientConfig{Key: ByHeader, Name: "x"}, false},
		{"prefix", ClientConfig{PrefixV6: 48}, false},
		{"table", ClientConfig{Table: 10}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := NewClientLimiter(old, maphash.MakeSeed()).Retune(tt.c); got != tt.want {
				t.Errorf("Retune = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestClientLimiterDoesNotAllocate(t *testing.T) {
	l := NewClientLimiter(ClientConfig{Key: ByCookie, Name: "x", Rate: 1, Burst: 10, Connections: 10}, maphash.MakeSeed())
	r := &request{client: netip.MustParseAddr("2001:db8::1"), bare: true}
	if n := testing.AllocsPerRun(1000, func() {
		l.Allow(l.Key(r), 0)
		s, _ := l.Acquire(r.client)
		l.Release(s)
	}); n != 0 {
		t.Errorf("a request allocates %v times, want 0", n)
	}
}

func BenchmarkClientAllowByAddress(b *testing.B) {
	l := NewClientLimiter(ClientConfig{Rate: 1000}, maphash.MakeSeed())
	r := &request{client: netip.MustParseAddr("2001:db8::1"), bare: true}
	var now time.Duration
	b.ReportAllocs()
	for b.Loop() {
		now += 100 * time.Microsecond
		l.Allow(l.Key(r), now)
	}
}

func BenchmarkClientConnection(b *testing.B) {
	l := NewClientLimiter(ClientConfig{Connections: 1000}, maphash.MakeSeed())
	a := netip.MustParseAddr("192.0.2.1")
	b.ReportAllocs()
	for b.Loop() {
		s, _ := l.Acquire(a)
		l.Release(s)
	}
}
