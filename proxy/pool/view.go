package pool

import (
	"fmt"
	"slices"
	"time"

	"github.com/pharos-lb/pharos/proxy/policy/balance"
	"github.com/pharos-lb/pharos/proxy/policy/health"
	"github.com/pharos-lb/pharos/proxy/policy/shed"
)

// Member is a server and what the present configuration says of it.
type Member struct {
	*Server
	Weight      int
	Backup      bool
	State       health.Admin
	Created     time.Time
	MaxInFlight int

	// Effective is the weight that counts now: Weight times the factor of a
	// slow start, and 0 while the server takes no new work.
	Effective float64

	factor    float64 // of a slow start, 0.1 to 1
	persisted bool    // takes the work of sessions that are bound to it
}

// view is one immutable generation of the pool.
type view struct {
	members   []Member
	names     map[string]int // indexes of members
	standings []standing
	checked   bool
	health    health.Config // with its defaults
	passive   bool          // outcomes of requests are learned from
	limits    shed.Config   // with its defaults
	choice    balance.Choice
	picker    balance.Picker // over choice.Active; nil: there is none
	keyer     balance.Keyer
	ramping   bool // someone in choice.Active is below its weight
}

// rampEvery is the least time between two settings of the ramps' factors.
const rampEvery = time.Second

// assess returns the members' standings, and the time of the next one to
// change by itself.
func (p *Pool) assess(members []Member, now time.Duration) (standings []standing, next time.Duration) {
	p.eject(members, now)
	standings, next = make([]standing, len(members)), never
	for i, m := range members {
		st, at := m.stand(&p.spec.Health, now)
		standings[i], next = st, min(next, at)
	}
	return standings, next
}

// eject ends ejections whose time is over, and begins those that are due, as
// far as the pool's share allows. The caller holds p.mu.
func (p *Pool) eject(members []Member, now time.Duration) {
	o := p.spec.Health.Outlier
	if o == nil {
		return
	}
	ejected := 0
	for _, m := range members {
		m.mu.Lock()
		if m.ejector.Return(now) {
			p.log.Info("ejection ended", "server", m.Name, "address", m.Address)
			m.settle(&p.spec.Health)
		}
		if m.ejector.Out() {
			ejected++
		}
		m.mu.Unlock()
	}
	for _, m := range members {
		m.mu.Lock()
		if !m.ejector.Out() && m.ejector.Due(o) && health.MayEject(len(members), ejected, o.MaxShare) {
			answers, failures := m.ejector.Rows()
			m.why = fmt.Sprintf("ejected: %d answers of 5xx and %d errors in a row", answers, failures)
			until := m.ejector.Eject(o, now)
			m.asked = false
			m.settle(&p.spec.Health)
			ejected++
			p.log.Warn("server ejected", "server", m.Name, "address", m.Address, "answers_5xx", answers, "errors", failures, "for", until-now)
		}
		m.mu.Unlock()
	}
}

// step draws the consequences of what was observed until now, and returns
// when to look again if nothing more is; never, if at no time.
func (p *Pool) step(now time.Duration) (next time.Duration) {
	p.mu.Lock()
	old := p.view.Load()
	standings, next := p.assess(old.members, now)
	changed := !slices.Equal(standings, old.standings)
	if changed || p.rampDue(old, now) {
		p.build(slices.Clone(old.members), standings, now)
	} else {
		p.relimit(old, now)
		p.say(old) // the last result of a first round may be what was missing
	}
	if p.view.Load().ramping {
		at := p.ramped + rampEvery
		if at <= now {
			at = now + rampEvery
		}
		next = min(next, at)
	}
	p.mu.Unlock()
	if p.news.Swap(false) || changed {
		p.changed()
	}
	return next
}

// rampDue reports whether the factors of slow starts are to be set anew: at
// most once a second; and not before each server that ramps was given work at
// its present factor, or with rare requests the layout would change under it
// before its turn ever came. The end of a ramp waits for nobody. The caller
// holds p.mu.
func (p *Pool) rampDue(v *view, now time.Duration) bool {
	if !v.ramping || now-p.ramped < rampEvery {
		return false
	}
	served := true
	for _, i := range v.choice.Active {
		m := v.members[i]
		if !m.ramping {
			continue
		}
		if health.Ramp(m.since, now, p.spec.Health.SlowStart) == 1 {
			return true
		}
		served = served && m.Connections.Load() != m.mark
	}
	return served
}

// build makes and stores a view of members, which it may write to. The caller
// holds p.mu.
func (p *Pool) build(members []Member, standings []standing, now time.Duration) {
	old := p.view.Load()
	v := &view{
		members: members, standings: standings,
		names:   make(map[string]int, len(members)),
		checked: p.spec.Checked,
		health:  p.spec.Health,
		passive: p.spec.Health.MaxFails > 0 || p.spec.Health.Outlier != nil,
		limits:  p.spec.Limits,
		keyer:   balance.NewKeyer(p.spec.Balance),
	}
	v.choice = p.choose(members, standings)
	factors := p.ramps(v, now)
	weights := make([]int, len(v.choice.Active))
	for i := range members {
		m := &members[i]
		v.names[m.Name] = i
		m.Effective, m.factor = 0, 1
		m.aside.Store(true)
		m.persisted = m.State != health.Maintenance && standings[i] >= trial
	}
	for i, a := range v.choice.Active {
		m := &members[a]
		weights[i] = m.Weight
		m.Effective, m.factor = float64(m.Weight)*factors[i], factors[i]
		m.persisted = true
		m.aside.Store(false)
		m.mark = m.Connections.Load()
		v.ramping = v.ramping || factors[i] < 1
	}
	for _, m := range members {
		m.limit.Store(int64(health.Limit(m.MaxInFlight, m.factor)))
	}
	active := make([]balance.Member, len(v.choice.Active))
	for i, w := range health.Weights(weights, factors) {
		m := &members[v.choice.Active[i]]
		active[i] = balance.Member{ID: balance.Identity(m.Name, m.Address), Weight: w, Load: &m.load}
	}
	v.picker = balance.New(p.spec.Balance, active, old.picker)
	p.ramped = now
	p.view.Store(v)
	p.relimit(v, now)
	p.say(v)
}

// choose picks who takes new work, and sets the gates of those on trial: who
// failed may be tried by one request, but only while others take the rest,
// or with fail-open off, where nobody else would.
func (p *Pool) choose(members []Member, standings []standing) balance.Choice {
	candidates := make([]balance.Candidate, len(members))
	firm := false
	for i, m := range members {
		if m.State != health.InService {
			continue // a weight of 0 takes no work in any tier
		}
		candidates[i] = balance.Candidate{Weight: m.Weight, Backup: m.Backup, Usable: standings[i] == up}
		firm = firm || standings[i] == up && m.Weight > 0
	}
	try := firm || !p.spec.FailOpen
	for i, m := range members {
		onTrial := try && standings[i] == trial
		m.setGate(onTrial)
		candidates[i].Usable = candidates[i].Usable || onTrial
	}
	return balance.Choose(candidates, p.spec.FailOpen)
}

// ramps begins and ends slow starts, and returns the factors of the active
// members.
func (p *Pool) ramps(v *view, now time.Duration) []float64 {
	over := p.spec.Health.SlowStart
	for i, m := range v.members {
		switch {
		case m.State == health.Maintenance, v.standings[i] == down, v.standings[i] == trial:
			m.cold, m.ramping = true, false
		case m.cold && v.standings[i] == up:
			m.cold, m.ramping, m.since = false, over > 0, now
		case m.ramping && health.Ramp(m.since, now, over) == 1:
			m.ramping = false
		}
	}
	factors := make([]float64, len(v.choice.Active))
	for i, a := range v.choice.Active {
		factors[i] = 1
		if m := v.members[a]; m.ramping {
			factors[i] = health.Ramp(m.since, now, over)
		}
	}
	health.Level(factors)
	return factors
}
