package balance

import (
	"math"
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

// Whatever the keys, nobody ever has more in flight than its capacity.
func TestHashNeverExceedsItsBound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := weights(16, 12).Draw(t, "weights")
		bound := rapid.Float64Range(minHashBound, 4).Draw(t, "bound")
		keys := rapid.SliceOfN(rapid.Uint64(), 1, 5).Draw(t, "keys")
		m := pool(w...)
		sum := 0
		for _, x := range w {
			sum += x
		}
		p := New(Config{Algorithm: SourceHash, HashBound: bound}, m, nil)
		for n := 1; n <= 300; n++ {
			i := p.Pick(keys[n%len(keys)], 0)
			m[i].Load.Begin()
			if most := int64(math.Ceil(bound * float64(n) * float64(w[i]) / float64(sum) * (1 + 1e-12))); m[i].Load.InFlight() > most {
				t.Fatalf("member %d of weight %d has %d of %d in flight, want at most %d", i, w[i], m[i].Load.InFlight(), n, most)
			}
		}
	})
}

func TestHashKeepsToTheServerOfTheKeyWhileItHasRoom(t *testing.T) {
	m := pool(equal(8)...)
	p := New(Config{Algorithm: SourceHash, HashBound: 2}, m, nil)
	key := AddrKey(netip.MustParseAddr("192.0.2.1"))
	home := p.Pick(key, 0)
	for i := range m { // 10 in flight everywhere: 20 are the bound
		for range 10 {
			m[i].Load.Begin()
		}
	}
	for n := 10; n < 20; n++ {
		if got := p.Pick(key, 0); got != home {
			t.Fatalf("with %d in flight the key goes to %d, want %d", n, got, home)
		}
		m[home].Load.Begin()
	}
	for range 5 { // others have begun since, so the bound is a little higher
		m[home].Load.Begin()
	}
	second := p.Pick(key, 0)
	if second == home {
		t.Fatal("the key goes to a server above its bound")
	}
	if again := p.Pick(key, 0); again != second {
		t.Errorf("the key is passed on to %d, then to %d, want the same", second, again)
	}
	for range 15 {
		m[home].Load.End()
	}
	if got := p.Pick(key, 0); got != home {
		t.Errorf("the key does not return to %d, but goes to %d", home, got)
	}
}

// What a hot server passes on must not make its neighbor the next hot one.
func TestAHotServersKeysAreSpreadOverAllOthers(t *testing.T) {
	m := pool(equal(10)...)
	p := New(Config{Algorithm: SourceHash}, m, nil)
	for range 1000 {
		m[3].Load.Begin()
	}
	counts := make([]int, len(m))
	passed := 0
	for key := uint64(1); passed < 2000; key++ {
		if h := mix(key); p.(*hashed).table.owner(h) == 3 {
			counts[p.Pick(h, 0)]++
			passed++
		}
	}
	for i, n := range counts {
		switch {
		case i == 3 && n > 0:
			t.Errorf("the hot server got %d more", n)
		case i != 3 && far(n, passed, 1.0/9):
			t.Errorf("member %d got %d of the %d that were passed on, want about %d", i, n, passed, passed/9)
		}
	}
}

func TestTheTableIsKeptWhileMembersAndWeightsAre(t *testing.T) {
	m := pool(1, 2, 3)
	c := Config{Algorithm: URIHash}
	first := New(c, m, nil).(*hashed)
	same := New(Config{Algorithm: CookieHash, HashName: "s", HashBound: 3}, m, first).(*hashed)
	if &same.table[0] != &first.table[0] {
		t.Error("the table was filled anew though nothing in it changed")
	}
	m[0].Weight = 2
	if other := New(c, m, same).(*hashed); &other.table[0] == &first.table[0] {
		t.Error("the table of other weights was kept")
	}
}
