package pool

import (
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/proxy/policy/balance"
	"github.com/pharos-lb/pharos/proxy/policy/health"
)

func addr(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func spec(checked bool, servers ...ServerSpec) Spec {
	return Spec{Checked: checked, Health: health.Config{Fall: 2, Rise: 2}, FailOpen: true, Servers: servers}
}

// look draws the consequences of what was observed, as Run does.
func look(p *Pool) { p.step(Now()) }

func walk(p *Pool) []string { return names(p.Select(0, Now())) }

func names(sel Selection) []string {
	var names []string
	for s := sel.Next(); s != nil; s = sel.Next() {
		names = append(names, s.Name)
	}
	return names
}

var (
	a = ServerSpec{Name: "a", Address: addr("10.0.0.1:80"), Weight: 1}
	b = ServerSpec{Name: "b", Address: addr("10.0.0.2:80"), Weight: 1}
	c = ServerSpec{Name: "c", Address: addr("10.0.0.3:80"), Weight: 1, Backup: true}
)

func TestSelectionTriesEveryServerOnceThenSpares(t *testing.T) {
	p := New("web", quiet, func() {})
	p.Update(spec(false, a, b, c))
	if got, want := walk(p), []string{"a", "b", "c"}; !slices.Equal(got, want) {
		t.Errorf("first walk = %v, want %v", got, want)
	}
	if got, want := walk(p), []string{"b", "a", "c"}; !slices.Equal(got, want) {
		t.Errorf("second walk = %v, want %v", got, want)
	}
}

func TestSelectionIsBounded(t *testing.T) {
	p := New("web", quiet, func() {})
	var many []ServerSpec
	for i := range 100 {
		many = append(many, ServerSpec{Name: string(rune('0' + i)), Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 1, byte(i)}), 80), Weight: 1})
	}
	p.Update(spec(false, many...))
	if got := len(walk(p)); got != maxAttempts {
		t.Errorf("walk of 100 servers tried %d, want %d", got, maxAttempts)
	}
}

func TestEmptyPoolSelectsNobody(t *testing.T) {
	p := New("web", quiet, func() {})
	if got := walk(p); got != nil {
		t.Errorf("walk of a new pool = %v, want none", got)
	}
	p.Update(spec(false))
	if got := walk(p); got != nil {
		t.Errorf("walk of an empty pool = %v, want none", got)
	}
}

func TestChecksDecideWhoIsSelected(t *testing.T) {
	changes := 0
	p := New("web", quiet, func() { changes++ })
	p.Update(spec(true, a, b, c))
	if p.Tier() != balance.FailOpen {
		t.Errorf("tier before any check = %v, want fail-open", p.Tier())
	}
	m := p.Members()
	now := time.Unix(1, 0)
	if h := m[0].Health(); h.Healthy || h.Checked || h.Reason != "not checked yet" {
		t.Errorf("health before any check = %+v", h)
	}
	steps := []struct {
		server int
		ok     bool
		want   []string
	}{
		{1, true, []string{"b"}},
		{2, true, []string{"b", "c"}},
		{1, false, []string{"b", "c"}},
		{1, false, []string{"c"}},
	}
	for i, s := range steps {
		reason := map[bool]string{true: "ok", false: "connect: connection refused"}[s.ok]
		p.Observe(m[s.server].Server, s.ok, reason, now)
		look(p)
		if got := walk(p); !slices.Equal(got, s.want) {
			t.Errorf("after step %d: %v, want %v", i, got, s.want)
		}
	}
	if got := m[1].Health(); got.State != health.Unhealthy || got.Healthy || got.Reason != "connect: connection refused" || got.Failures != 2 || !got.LastCheck.Equal(now) {
		t.Errorf("health of b = %+v", got)
	}
	if changes != 3 {
		t.Errorf("changes = %d, want 3: b healthy, c healthy, b unhealthy", changes)
	}
}

func TestObserveSaysWhenToCheckAgain(t *testing.T) {
	p := New("web", quiet, func() {})
	s := spec(true, a)
	s.Health.Interval, s.Health.FastInterval, s.Health.DownInterval = time.Minute, time.Second, time.Hour
	p.Update(s)
	steps := []struct {
		ok   bool
		want time.Duration
		down bool
	}{{true, time.Minute, false}, {false, time.Second, false}, {false, time.Hour, true}, {true, time.Second, true}, {true, time.Minute, false}}
	for i, s := range steps {
		wait, down := p.Observe(p.Members()[0].Server, s.ok, "", time.Unix(1, 0))
		if wait < s.want*9/10 || wait > s.want*11/10 || down != s.down {
			t.Errorf("after step %d: again after %v, down %v; want %v ±10%%, %v", i, wait, down, s.want, s.down)
		}
	}
}

func TestUpdateKeepsHealthAndCountersOfServersThatStay(t *testing.T) {
	p := New("web", quiet, func() {})
	p.Update(spec(true, a, b))
	m := p.Members()
	p.Observe(m[0].Server, true, "ok", time.Unix(1, 0))
	look(p)
	m[0].Connections.Add(7)
	heavier := a
	heavier.Weight = 9
	moved := b
	moved.Address = addr("10.0.0.9:80")
	p.Update(spec(true, heavier, moved, c))
	n := p.Members()
	if n[0].Server != m[0].Server || n[0].Connections.Load() != 7 || n[0].Health().State != health.Healthy || n[0].Weight != 9 {
		t.Errorf("server a lost its state: %+v", n[0].Health())
	}
	if n[1].Server == m[1].Server {
		t.Error("server b moved to another address, and kept the state of the old one")
	}
	p.Observe(m[1].Server, true, "ok", time.Unix(2, 0)) // a late result of the old b
	if n[1].Health().Checked {
		t.Error("a result of the old b counted for the new one")
	}
}

func TestRemovingTheCheckMakesServersUsable(t *testing.T) {
	p := New("web", quiet, func() {})
	p.Update(spec(true, a))
	for range 3 {
		p.Observe(p.Members()[0].Server, false, "status 503", time.Unix(1, 0))
	}
	look(p)
	if p.Tier() != balance.FailOpen {
		t.Errorf("tier = %v, want fail-open", p.Tier())
	}
	p.Update(spec(false, a))
	if p.Tier() != balance.Primary {
		t.Errorf("tier = %v, want primary", p.Tier())
	}
	if h := p.Members()[0].Health(); h.Failures != 0 || h.Reason != "" {
		t.Errorf("results of removed checks remain: %+v", h)
	}
}

func TestAServerOfAnotherIDIsAnotherServer(t *testing.T) {
	p := New("web", quiet, func() {})
	first, second := a, a
	first.ID, second.ID = "1", "2"
	p.Update(spec(false, first))
	was := p.Members()[0].Server
	p.Update(spec(false, second))
	if now := p.Members()[0].Server; now == was || now.ID != "2" {
		t.Errorf("the server replaced by another of its name and address has ID %q", now.ID)
	}
}

// states is a pool of one server in each state that matters to sessions.
func states(t *testing.T, failOpen bool) *Pool {
	t.Helper()
	p := New("web", quiet, func() {})
	s := Spec{Checked: true, Health: health.Config{Fall: 1, Rise: 1}, FailOpen: failOpen}
	for i, n := range []struct {
		name   string
		weight int
		state  health.Admin
	}{{"up", 1, ""}, {"down", 1, ""}, {"draining", 1, health.Draining}, {"dead-draining", 1, health.Draining}, {"maintenance", 1, health.Maintenance}, {"weightless", 0, ""}, {"unchecked", 1, ""}} {
		s.Servers = append(s.Servers, ServerSpec{Name: n.name, Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 80), Weight: n.weight, State: n.state})
	}
	p.Update(s)
	for _, m := range p.Members() {
		if m.Name != "unchecked" {
			p.Observe(m.Server, m.Name != "down" && m.Name != "dead-draining", "", time.Unix(1, 0))
		}
	}
	look(p)
	return p
}

func TestWhoTakesNewAndPersistedWork(t *testing.T) {
	p := states(t, true)
	if got, want := walk(p), []string{"up"}; !slices.Equal(got, want) {
		t.Errorf("new work goes to %v, want %v", got, want)
	}
	persisted := func() (got []string) {
		for _, m := range p.Members() {
			if s := p.Persisted([]byte(m.Name)); s == m.Server {
				got = append(got, s.Name)
			} else if s != nil {
				t.Errorf("a session of %s persists on %s", m.Name, s.Name)
			}
		}
		return got
	}
	if got, want := persisted(), []string{"up", "draining", "weightless"}; !slices.Equal(got, want) {
		t.Errorf("sessions persist on %v, want %v", got, want)
	}
	if p.Persisted([]byte("nobody")) != nil {
		t.Error("a session persists on a server that is not there")
	}
	// All in service are down: everyone is tried, so sessions stay as well.
	p.Observe(p.Persisted([]byte("up")), false, "", time.Unix(2, 0))
	p.Observe(p.Persisted([]byte("weightless")), false, "", time.Unix(2, 0))
	look(p)
	if got := walk(p); len(got) != 3 || slices.Contains(got, "draining") || slices.Contains(got, "maintenance") {
		t.Errorf("failing open, new work goes to %v, want up, down and unchecked", got)
	}
	if got, want := persisted(), []string{"up", "down", "draining", "unchecked"}; !slices.Equal(got, want) {
		t.Errorf("failing open, sessions persist on %v, want %v", got, want)
	}
}

func TestMaintenanceForgetsWhatWasObserved(t *testing.T) {
	p := states(t, true)
	m := p.Members()[4]
	if h := m.Health(); !h.Checked || h.Failures != 0 || !h.LastCheck.IsZero() {
		t.Errorf("a server under maintenance was checked: %+v", h)
	}
	back := p.spec
	back.Servers = slices.Clone(back.Servers)
	back.Servers[4].State = health.InService
	p.Update(back)
	if h := p.Members()[4].Health(); h.Checked || h.Healthy {
		t.Errorf("back from maintenance it is used without a check: %+v", h)
	}
	p.Observe(p.Members()[4].Server, true, "ok", time.Unix(3, 0))
	look(p)
	if got := walk(p); !slices.Contains(got, "maintenance") {
		t.Errorf("back and checked it gets no work: %v", got)
	}
}

func TestSelectFromBeginsWithTheServerOfTheSession(t *testing.T) {
	p := New("web", quiet, func() {})
	p.Update(spec(false, a, b, c))
	for range 3 { // takes nobody's turn
		sel := p.SelectFrom(p.Persisted([]byte("b")), 0, Now())
		if s := sel.Next(); s.Name != "b" {
			t.Errorf("first = %s, want b", s.Name)
		}
	}
	if got, want := walk(p), []string{"a", "b", "c"}; !slices.Equal(got, want) {
		t.Errorf("walk after sessions that stayed = %v, want %v", got, want)
	}
	if got, want := names(p.SelectFrom(p.Persisted([]byte("b")), 0, Now())), []string{"b", "a", "c"}; !slices.Equal(got, want) {
		t.Errorf("walk from b = %v, want %v", got, want)
	}
	if got, want := names(p.SelectFrom(p.Persisted([]byte("c")), 0, Now())), []string{"c", "a", "b"}; !slices.Equal(got, want) {
		t.Errorf("walk from the backup = %v, want %v", got, want)
	}
	if got, want := names(p.SelectFrom(nil, 0, Now())), []string{"b", "a", "c"}; !slices.Equal(got, want) {
		t.Errorf("walk from nobody = %v, want %v", got, want)
	}
}

func TestSelectDoesNotAllocate(t *testing.T) {
	p := New("web", quiet, func() {})
	p.Update(spec(false, a, b))
	for name, f := range map[string]func(){
		"Select":     func() { s := p.Select(0, Now()); s.Next() },
		"SelectFrom": func() { s := p.SelectFrom(p.Persisted([]byte("b")), 0, Now()); s.Next(); s.Next() },
		"a walk": func() {
			s := p.Select(0, Now())
			for s.Next() != nil {
			}
		},
	} {
		if n := testing.AllocsPerRun(1000, f); n != 0 {
			t.Errorf("%s allocates %v times, want 0", name, n)
		}
	}
}

func large(servers, weights int) *Pool {
	p := New("web", quiet, func() {})
	s := Spec{Checked: true, FailOpen: true}
	for i := range servers {
		s.Servers = append(s.Servers, ServerSpec{Name: strconv.Itoa(i), Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 80), Weight: 1 + i%weights})
	}
	p.Update(s)
	return p
}

// BenchmarkStep is what Run does when one server changed, and when none did.
func BenchmarkStep(b *testing.B) {
	for _, bb := range []struct {
		name             string
		servers, weights int
		changes          bool
	}{
		{"10 servers, one changed", 10, 1, true},
		{"1000 servers, one changed", 1000, 1, true},
		{"1000 servers of weights to 256, one changed", 1000, 256, true},
		{"1000 servers, none changed", 1000, 1, false},
	} {
		b.Run(bb.name, func(b *testing.B) {
			p := large(bb.servers, bb.weights)
			now := Now()
			m := p.Members()
			for _, m := range m[1:] {
				p.Observe(m.Server, true, "ok", time.Unix(1, 0))
			}
			ok := true
			for b.Loop() {
				if bb.changes {
					for range 5 { // at most, to rise and to fall
						p.Observe(m[0].Server, ok, "", time.Unix(1, 0))
					}
					ok = !ok
				}
				p.step(now)
			}
		})
	}
}

func BenchmarkSelect(b *testing.B) {
	p := large(1000, 256)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			sel := p.Select(0, Now())
			sel.Next()
		}
	})
}
