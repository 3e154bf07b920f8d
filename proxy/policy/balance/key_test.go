package balance

import (
	"net/netip"
	"testing"

	"github.com/pharos-lb/pharos/proxy/policy"
)

// request is a policy.Request of what the keys look at.
type request struct {
	policy.Request
	path, query text
	headers     map[string]text
	cookies     map[string]text
	client      netip.Addr
}

type text = []byte

func (r *request) Path() []byte       { return r.path }
func (r *request) Query() []byte      { return r.query }
func (r *request) Client() netip.Addr { return r.client }
func (r *request) Header(lower string) ([]byte, bool) {
	v, ok := r.headers[lower]
	return v, ok
}

func (r *request) Cookie(name string) ([]byte, bool) {
	v, ok := r.cookies[name]
	return v, ok
}

func TestKeyIsOfWhatTheAlgorithmHashes(t *testing.T) {
	a := &request{
		path: text("/x"), query: text("a=1"), client: netip.MustParseAddr("192.0.2.1"),
		headers: map[string]text{"x-tenant": text("acme")}, cookies: map[string]text{"Session": text("s1")},
	}
	alter := func(change func(r *request)) *request {
		r := *a
		change(&r)
		return &r
	}
	header := Config{Algorithm: HeaderHash, HashName: "X-Tenant"}
	cookie := Config{Algorithm: CookieHash, HashName: "Session"}
	tests := []struct {
		name   string
		config Config
		b      *request
		same   bool
	}{
		{"source: another path", Config{Algorithm: SourceHash}, alter(func(r *request) { r.path = text("/y") }), true},
		{"source: another client", Config{Algorithm: SourceHash}, alter(func(r *request) { r.client = netip.MustParseAddr("192.0.2.2") }), false},
		{"source: the same client, mapped into IPv6", Config{Algorithm: SourceHash}, alter(func(r *request) { r.client = netip.MustParseAddr("::ffff:192.0.2.1") }), true},
		{"uri: another client", Config{Algorithm: URIHash}, alter(func(r *request) { r.client = netip.MustParseAddr("192.0.2.2") }), true},
		{"uri: another path", Config{Algorithm: URIHash}, alter(func(r *request) { r.path = text("/y") }), false},
		{"uri: another query", Config{Algorithm: URIHash}, alter(func(r *request) { r.query = text("a=2") }), false},
		{"uri: no query", Config{Algorithm: URIHash}, alter(func(r *request) { r.query = text("") }), false},
		{"uri: the query's bytes in the path", Config{Algorithm: URIHash}, alter(func(r *request) { r.path, r.query = text("/xa=1"), nil }), false},
		{"header: in any case of the configuration", header, alter(func(r *request) { r.client = netip.MustParseAddr("192.0.2.2") }), true},
		{"header: another value", header, alter(func(r *request) { r.headers = map[string]text{"x-tenant": text("other")} }), false},
		{"header: an empty value is a value", header, alter(func(r *request) { r.headers = map[string]text{"x-tenant": text("")} }), false},
		{"cookie: another client", cookie, alter(func(r *request) { r.client = netip.MustParseAddr("192.0.2.2") }), true},
		{"cookie: another value", cookie, alter(func(r *request) { r.cookies = map[string]text{"Session": text("s2")} }), false},
		{"cookie: names are matched exactly", cookie, alter(func(r *request) { r.cookies = map[string]text{"session": text("s1")} }), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := NewKeyer(tt.config)
			if got := k.Key(a) == k.Key(tt.b); got != tt.same {
				t.Errorf("keys are the same: %v, want %v", got, tt.same)
			}
		})
	}
}

func TestRequestsWithoutTheFieldOrCookieAreHashedByAddress(t *testing.T) {
	for _, client := range []string{"192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1", "fe80::1%eth0"} {
		r := &request{client: netip.MustParseAddr(client)}
		for _, c := range []Config{{Algorithm: HeaderHash, HashName: "x-tenant"}, {Algorithm: CookieHash, HashName: "s"}, {Algorithm: SourceHash}} {
			if got, want := NewKeyer(c).Key(r), AddrKey(r.client); got != want {
				t.Errorf("%s of %s = %#x, want the address's %#x", c.Algorithm, client, got, want)
			}
		}
	}
	if AddrKey(netip.MustParseAddr("fe80::1%eth0")) != AddrKey(netip.MustParseAddr("fe80::1%eth1")) {
		t.Error("the zone, which names an interface of this node, counts in the key")
	}
	if AddrKey(netip.MustParseAddr("192.0.2.1")) == AddrKey(netip.MustParseAddr("::192.0.2.1")) {
		t.Error("an address that is not IPv4-mapped counts as IPv4")
	}
}

func TestOnlyHashesHaveKeys(t *testing.T) {
	r := &request{path: text("/x"), client: netip.MustParseAddr("192.0.2.1")}
	for _, a := range []Algorithm{"", RoundRobinName, LeastConn, RandomTwo, Latency} {
		if k := NewKeyer(Config{Algorithm: a}).Key(r); k != 0 {
			t.Errorf("%q has the key %#x, want 0", a, k)
		}
	}
}

// All nodes must agree on keys and identities, of whatever version and
// architecture: these values may never change.
func TestKeysAndIdentitiesAreTheSameEverywhere(t *testing.T) {
	for _, tt := range []struct {
		what      string
		got, want uint64
	}{
		{"IPv4 client", AddrKey(netip.MustParseAddr("192.0.2.1")), 0x7ccc7d83e2538dd8},
		{"IPv6 client", AddrKey(netip.MustParseAddr("2001:db8::1")), 0xb076acb3a58cdf78},
		{"URI", NewKeyer(Config{Algorithm: URIHash}).Key(&request{path: text("/a"), query: text("b=1")}), 0x1814e9edcce67b56},
		{"IPv4 server", Identity("node_01", netip.MustParseAddrPort("10.0.1.10:8080")), 0x1605d5e672398e53},
		{"IPv6 server", Identity("node_01", netip.MustParseAddrPort("[2001:db8::10]:8080")), 0xe1cf616d14cd8528},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: %#x, want %#x", tt.what, tt.got, tt.want)
		}
	}
}

func TestKeyDoesNotAllocate(t *testing.T) {
	var r policy.Request = &request{
		path: text("/x"), query: text("a=1"), client: netip.MustParseAddr("2001:db8::1"),
		headers: map[string]text{"x-tenant": text("acme")}, cookies: map[string]text{"s": text("s1")},
	}
	for _, c := range []Config{{Algorithm: SourceHash}, {Algorithm: URIHash}, {Algorithm: HeaderHash, HashName: "X-Tenant"}, {Algorithm: CookieHash, HashName: "s"}} {
		k := NewKeyer(c)
		if n := testing.AllocsPerRun(1000, func() { k.Key(r) }); n != 0 {
			t.Errorf("a key of %s allocates %v times, want 0", c.Algorithm, n)
		}
	}
}

func TestIdentityTellsServersApart(t *testing.T) {
	seen := make(map[uint64]string)
	for _, name := range []string{"a", "b", "a\x1f"} {
		for _, address := range []string{"10.0.0.1:80", "10.0.0.1:81", "10.0.0.2:80", "[2001:db8::1]:80"} {
			id := Identity(name, netip.MustParseAddrPort(address))
			if other, taken := seen[id]; taken {
				t.Errorf("%q at %s has the identity of %s", name, address, other)
			}
			seen[id] = name + " at " + address
		}
	}
}
