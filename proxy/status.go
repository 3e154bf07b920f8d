package proxy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pharos-lb/pharos/proxy/l7/engine/choice"
	"github.com/pharos-lb/pharos/proxy/policy/health"
	"github.com/pharos-lb/pharos/proxy/pool"
)

// Status says what is being served now. Listeners and pools are those of the
// configuration applied last, by name; Connections and InFlight also count
// what listeners that were removed since have left.
func (p *Proxy) Status() Status {
	p.mu.RLock()
	defer p.mu.RUnlock()
	st := Status{Engine: p.engine()}
	for _, l := range p.state.config.Listeners {
		r := p.state.listeners[l.Name]
		ls := ListenerStatus{
			Name:        l.Name,
			Protocol:    l.Protocol,
			Accepting:   true,
			Connections: int(r.Open.Load()),
			Accepted:    r.Accepted.Load(),
			Requests:    r.Requests.Load(),
			Failed:      r.Failed.Load(),
			Handshakes:  r.Handshakes.Load(),

			Unintroduced: r.Unintroduced.Load(),
		}
		for i, a := range l.Addresses {
			b := p.state.bindings[keyOf(l, i)]
			if b == nil {
				ls.Accepting = false
				ls.Addresses = append(ls.Addresses, a)
				continue
			}
			ls.Addresses = append(ls.Addresses, netip.AddrPortFrom(a.Addr(), b.socket.Address().Port()))
		}
		st.Listeners = append(st.Listeners, ls)
	}
	for _, s := range p.state.pools {
		st.Pools = append(st.Pools, s.status())
	}
	slices.SortFunc(st.Listeners, func(a, b ListenerStatus) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(st.Pools, func(a, b PoolStatus) int { return strings.Compare(a.Name, b.Name) })
	st.Warnings = slices.Clone(p.state.warnings)
	for _, e := range p.certificates.Expiring(time.Now()) {
		st.Warnings = append(st.Warnings, fmt.Sprintf("certificate %s for %s ends at %s: renew it", e.Certificate, strings.Join(e.Names, ", "), e.NotAfter.UTC().Format(time.RFC3339)))
	}
	if p.running() {
		d := p.datagrams
		st.Datagrams = DatagramStatus{d.Forwarded.Load(), d.Dropped.Load(), d.Evicted.Load()}
	}
	st.Connections = p.connections()
	st.InFlight = p.inFlight()
	return st
}

func (s *servedPool) status() PoolStatus {
	ps := PoolStatus{Name: s.pool.Name(), Checked: true, Tier: s.pool.Tier(), Warning: s.pool.Warning()}
	n := &s.pool.Sessions
	ps.Sessions = SessionsStatus{Begun: n.Begun.Load(), Moved: n.Moved.Load(), Unusable: n.Unusable.Load()}
	for _, m := range s.pool.Members() {
		h := m.Health()
		if h.Healthy && m.State == health.InService && m.Weight > 0 {
			ps.Healthy++
		}
		ps.Checked = ps.Checked && h.Checked
		server := ServerStatus{
			ID:              m.ID,
			Pool:            ps.Name,
			Name:            m.Name,
			Address:         m.Address,
			Weight:          m.Weight,
			EffectiveWeight: m.Effective,
			Backup:          m.Backup,
			State:           m.State.Status(h.Healthy),
			Healthy:         h.Healthy,
			Failures:        h.Failures,
			LastCheck:       h.LastCheck,
			LastReason:      h.Reason,
			Created:         m.Created,
			InFlight:        int(m.InFlight.Load()),
			Connections:     m.Connections.Load(),
		}
		if h.Ejected > 0 {
			server.EjectedUntil = time.Now().Add(h.Ejected - pool.Now())
		}
		ps.Servers = append(ps.Servers, server)
	}
	return ps
}

// engine says which one runs.
func (p *Proxy) engine() string {
	if !p.running() {
		return ""
	}
	name, refused := p.http.Engine()
	if refused != nil {
		return fmt.Sprintf("%s (not %s: %v)", name, choice.IOUring, refused)
	}
	return name
}

// connections is the number of client connections open now.
func (p *Proxy) connections() int {
	if !p.running() {
		return 0
	}
	return p.forward.Open() + p.datagrams.Open() + p.http.Open()
}

// inFlight is the number of requests and connections being served.
func (p *Proxy) inFlight() int {
	if !p.running() {
		return 0
	}
	return p.forward.Open() + p.datagrams.Open() + p.http.InFlight()
}

// running reports whether Run has begun; p.http, p.forward and p.datagrams are
// there from then on.
func (p *Proxy) running() bool {
	select {
	case <-p.started:
		return true
	default:
		return false
	}
}
