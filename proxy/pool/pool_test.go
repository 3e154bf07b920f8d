package pool

import (
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/proxy/policy/balance"
	"github.com/pharos-lb/pharos/proxy/policy/health"
)

func addr(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func spec(checked bool, servers ...ServerSpec) Spec {
	return Spec{Checked: checked, Fall: 2, Rise: 2, FailOpen: true, Servers: servers}
}

func walk(p *Pool) []string {
	var names []string
	sel := p.Select()
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
	p.Observe(m[1].Server, true, "ok", now)
	if got, want := walk(p), []string{"b"}; !slices.Equal(got, want) {
		t.Errorf("after b passed: %v, want %v", got, want)
	}
	p.Observe(m[2].Server, true, "ok", now)
	p.Observe(m[1].Server, false, "connect: connection refused", now)
	if got, want := walk(p), []string{"b", "c"}; !slices.Equal(got, want) {
		t.Errorf("after one failure of b: %v, want %v", got, want)
	}
	p.Observe(m[1].Server, false, "connect: connection refused", now)
	if got, want := walk(p), []string{"c"}; !slices.Equal(got, want) {
		t.Errorf("after b fell: %v, want %v", got, want)
	}
	if got := m[1].Health(); got.State != health.Unhealthy || got.Reason != "connect: connection refused" || got.Failures != 2 || !got.LastCheck.Equal(now) {
		t.Errorf("health of b = %+v", got)
	}
	if changes != 3 {
		t.Errorf("changes = %d, want 3: b healthy, c healthy, b unhealthy", changes)
	}
}

func TestUpdateKeepsHealthAndCountersOfServersThatStay(t *testing.T) {
	p := New("web", quiet, func() {})
	p.Update(spec(true, a, b))
	m := p.Members()
	p.Observe(m[0].Server, true, "ok", time.Unix(1, 0))
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
	p.Update(spec(false, a))
	if p.Tier() != balance.Primary {
		t.Errorf("tier = %v, want primary", p.Tier())
	}
	if h := p.Members()[0].Health(); h.Failures != 0 || h.Reason != "" {
		t.Errorf("results of removed checks remain: %+v", h)
	}
}

func TestSelectDoesNotAllocate(t *testing.T) {
	p := New("web", quiet, func() {})
	p.Update(spec(false, a, b))
	if n := testing.AllocsPerRun(1000, func() { s := p.Select(); s.Next() }); n != 0 {
		t.Errorf("a selection allocates %v times, want 0", n)
	}
}
