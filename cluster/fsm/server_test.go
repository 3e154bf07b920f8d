package fsm

import (
	"bytes"
	"errors"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/cluster/registry"
)

// pools are those of servers given as POOL/SERVER.
func pools(servers ...string) []registry.Pool {
	var all []registry.Pool
	slices.Sort(servers)
	for i, s := range servers {
		pool, name, _ := strings.Cut(s, "/")
		if len(all) == 0 || all[len(all)-1].Name != pool {
			all = append(all, registry.Pool{Name: pool, Balance: registry.BalanceRoundRobin})
		}
		p := &all[len(all)-1]
		p.Servers = append(p.Servers, registry.Server{Name: name, Address: netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), uint16(80+i)), Weight: ptr(1)})
	}
	return all
}

// must applies commands that are not to be refused.
func must(t testing.TB, s State, commands ...Command) State {
	t.Helper()
	for _, c := range commands {
		var r Result
		if s, r = s.Apply(c); r.Err() != nil {
			t.Fatal(r.Err())
		}
	}
	return s
}

func configure(at time.Time, seed string, servers ...string) Command {
	return Command{At: at, ApplyConfig: &ApplyConfig{Config: registry.Config{Pools: pools(servers...)}, Seed: []byte(seed)}}
}

func operate(o OperateServers) Command { return Command{At: noon, OperateServers: &o} }

func TestAServerKeepsItsIDAsLongAsTheConfigurationHasIt(t *testing.T) {
	s := must(t, New(), configure(noon, "one", "p/a", "p/b", "q/a"))
	first := s.Servers
	uuid := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	seen := map[string]bool{}
	for name, server := range first {
		if !uuid.MatchString(server.ID) || seen[server.ID] || !server.Created.Equal(noon) {
			t.Errorf("%s: %+v", name, server)
		}
		seen[server.ID] = true
	}
	if len(first) != 3 {
		t.Fatalf("%d servers", len(first))
	}
	moved := configure(noon.Add(time.Hour), "two", "p/a", "p/c")
	moved.ApplyConfig.Config.Pools[0].Servers[0].Address = netip.MustParseAddrPort("10.9.9.9:9")
	s = must(t, s, moved)
	if len(s.Servers) != 2 || s.Servers["p/a"] != first["p/a"] || seen[s.Servers["p/c"].ID] || !s.Servers["p/c"].Created.Equal(noon.Add(time.Hour)) {
		t.Errorf("after a change: %+v", s.Servers)
	}
	s = must(t, s, configure(noon.Add(2*time.Hour), "three", "p/b"))
	if s.Servers["p/b"].ID == first["p/b"].ID {
		t.Error("a server that was removed and came back has its old id")
	}
	if s = must(t, s, configure(noon, "four")); len(s.Servers) != 0 {
		t.Errorf("without pools: %+v", s.Servers)
	}
}

func TestWhatAnOperatorSaysHoldsOverChangesOfTheConfiguration(t *testing.T) {
	s := must(t, New(), configure(noon, "one", "p/a", "p/b"),
		operate(OperateServers{Servers: []string{"p/a", "p/b"}, State: ptr(ServerDraining)}),
		operate(OperateServers{Servers: []string{"p/a"}, Weight: ptr(0)}),
	)
	if s.Revision != 3 || s.Snapshot.Version != 1 {
		t.Errorf("revision %d, version %d", s.Revision, s.Snapshot.Version)
	}
	s = must(t, s, configure(noon, "two", "p/a", "p/c"))
	if a := s.Servers["p/a"]; a.State != ServerDraining || a.Weight == nil || *a.Weight != 0 {
		t.Errorf("p/a: %+v", a)
	}
	if c := s.Servers["p/c"]; c.State != ServerReady || c.Weight != nil {
		t.Errorf("p/c: %+v", c)
	}
	// It goes with the server.
	if s = must(t, s, configure(noon, "three", "p/c"), configure(noon, "four", "p/a", "p/c")); s.Servers["p/a"].State != ServerReady {
		t.Errorf("a server that came back: %+v", s.Servers["p/a"])
	}
	s = must(t, s, operate(OperateServers{Servers: []string{"p/a"}, State: ptr(ServerMaintenance), Weight: ptr(9)}))
	s = must(t, s, operate(OperateServers{Servers: []string{"p/a"}, State: ptr(ServerReady)}))
	if a := s.Servers["p/a"]; a.State != ServerReady || *a.Weight != 9 {
		t.Errorf("a weight does not stay when the state changes: %+v", a)
	}
	if s = must(t, s, operate(OperateServers{Servers: []string{"p/a"}, ResetWeight: true})); s.Servers["p/a"].Weight != nil {
		t.Error("the weight was not reset")
	}
	if again := must(t, s, operate(OperateServers{Servers: []string{"p/a"}, ResetWeight: true, State: ptr(ServerReady)})); again.Revision != s.Revision {
		t.Error("what is so already made a revision")
	}
}

func TestWhatCannotBeDoneWithServersChangesNothing(t *testing.T) {
	s := must(t, New(), configure(noon, "one", "app/b1", "app/b2"))
	for _, test := range []struct {
		name string
		o    OperateServers
		err  error
		text string
	}{
		{"an unknown server beside a known one", OperateServers{Servers: []string{"app/b1", "app/b3"}, State: ptr(ServerDraining)}, ErrServerUnknown, `"app/b3" (did you mean "app/b1"?)`},
		{"far from any", OperateServers{Servers: []string{"database"}, State: ptr(ServerDraining)}, ErrServerUnknown, `"database"`},
		{"no server", OperateServers{State: ptr(ServerDraining)}, ErrInvalid, "no server"},
		{"no change", OperateServers{Servers: []string{"app/b1"}}, ErrInvalid, "nothing"},
		{"a state of a newer version", OperateServers{Servers: []string{"app/b1"}, State: ptr(ServerState("parked"))}, ErrInvalid, "parked"},
		{"a weight too low", OperateServers{Servers: []string{"app/b1"}, Weight: ptr(-1)}, ErrInvalid, "-1"},
		{"a weight too high", OperateServers{Servers: []string{"app/b1"}, Weight: ptr(257)}, ErrInvalid, "257"},
		{"both ways at once", OperateServers{Servers: []string{"app/b1"}, Weight: ptr(1), ResetWeight: true}, ErrInvalid, "at once"},
	} {
		t.Run(test.name, func(t *testing.T) {
			after, r := s.Apply(operate(test.o))
			if !errors.Is(r.Err(), test.err) || !strings.Contains(r.Err().Error(), test.text) {
				t.Errorf("got %v, want %v with %s", r.Err(), test.err, test.text)
			}
			if !bytes.Equal(snapshotOf(t, s), snapshotOf(t, after)) {
				t.Error("the state changed")
			}
		})
	}
}

// A node that restores a snapshot of the first version and one that replays its
// log must agree.
func TestStatesOfTheFirstVersionAreTheSameFromLogAndSnapshot(t *testing.T) {
	replayed := must(t, New(), configure(noon, "", "p/a"), configure(noon, "", "p/a", "p/b"), configure(noon, "", "p/b", "q/a"))
	restored := State{Desired: FromSnapshot(replayed.Snapshot), Members: replayed.Members, Tokens: replayed.Tokens}
	if !bytes.Equal(snapshotOf(t, replayed), snapshotOf(t, restored)) {
		t.Errorf("replayed\n%s\nrestored\n%s", snapshotOf(t, replayed), snapshotOf(t, restored))
	}
}

func TestKeysArePutFromTheVersionBeforeAlone(t *testing.T) {
	key := func(id string) Key { return Key{ID: id, Sealed: "sealed:v1:QQ==", Created: noon} }
	put := func(kind KeyKind, base uint64, keys ...Key) Command {
		return Command{At: noon, PutKeys: &PutKeys{Kind: kind, Base: base, Keys: keys}}
	}
	s := must(t, New(), put(TicketKeys, 0, key("a")), put(TicketKeys, 1, key("a"), key("b")), put(CookieKeys, 0, key("c")))
	if s.Revision != 3 || len(s.Keys[TicketKeys].Keys) != 2 || s.Keys[TicketKeys].Version != 2 || s.Keys[CookieKeys].Keys[0].ID != "c" {
		t.Errorf("got %+v", s.Keys)
	}
	clear := key("d")
	clear.Sealed = "in clear"
	for name, test := range map[string]struct {
		c   Command
		err error
	}{
		"a second leader":    {put(TicketKeys, 1, key("x")), ErrConflict},
		"no keys":            {put(TicketKeys, 2), ErrInvalid},
		"too many":           {put(TicketKeys, 2, slices.Repeat([]Key{key("x")}, maxKeys+1)...), ErrInvalid},
		"in clear":           {put(TicketKeys, 2, clear), ErrInvalid},
		"without an id":      {put(TicketKeys, 2, key("")), ErrInvalid},
		"of an unknown kind": {put("door", 0, key("x")), ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			after, r := s.Apply(test.c)
			if !errors.Is(r.Err(), test.err) || !bytes.Equal(snapshotOf(t, s), snapshotOf(t, after)) {
				t.Errorf("got %v, want %v", r.Err(), test.err)
			}
		})
	}
}
