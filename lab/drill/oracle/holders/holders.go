// Package holders judges who had an address on a segment, by what was heard
// there and by nothing that the product says of itself: never two at one time,
// and one again soon after all is mended. It is pure.
//
// What can be heard are claims: the holder of an address answers each question
// for it, and announces it when it takes it over. So a holder may follow
// another at any time, be it a moment later. It must announce itself then, and
// the other must not be heard again, unless it takes the address over itself.
package holders

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Claim is one time that somebody said that it has an address.
type Claim struct {
	At        time.Time
	Address   netip.Addr
	Holder    string // who said so
	Announces bool   // to everybody and unasked: so does who takes an address over
}

// Limits are what claims are held against.
type Limits struct {
	// Turn is the least time from a holder's last claim to its next, if another
	// one claims the address in between. Within less, nobody can have lost the
	// address, and another got and lost it, by way of a lease of at least 100 ms:
	// the two had it at one time. It must be longer than the time between two
	// questions.
	Turn time.Duration
	// Announce is how long after its first claim a new holder must announce
	// itself. One that does not took nothing over: it is one from before.
	Announce time.Duration
}

// DefaultLimits fit questions that come every few milliseconds.
var DefaultLimits = Limits{Turn: 50 * time.Millisecond, Announce: 100 * time.Millisecond}

// Code is the fixed word for what was wrong.
type Code string

// What can be wrong.
const (
	TwoHolders  Code = "two_holders" // two claimed an address in turns
	Unannounced Code = "unannounced" // one claimed an address after another, and did not take it over
)

// Violation is one time that the rule was broken.
type Violation struct {
	Code    Code       `json:"code"`
	At      time.Time  `json:"at"` // of the claim that must not be
	Address netip.Addr `json:"address"`
	Holder  string     `json:"holder"` // whose claim it is
	Other   string     `json:"other"`  // who had the address
	// Since is when Other claimed it first after Holder had done so last.
	Since time.Time `json:"since"`
}

// String says what happened, for people.
func (v Violation) String() string {
	text := fmt.Sprintf("%s claimed %s %v after %s had", v.Holder, v.Address, v.At.Sub(v.Since).Round(10*time.Microsecond), v.Other)
	if v.Code == TwoHolders {
		return text + ": the two had it at one time"
	}
	return text + ", and never announced to have taken it over"
}

// Judge gives each violation in the claims, by address and time. They may be in
// any order. end is when the record ends: a holder that was new just before it
// has not had the time to announce itself.
func Judge(claims []Claim, end time.Time, limits Limits) []Violation {
	j := NewJudge(limits)
	found := j.Take(claims)
	return append(found, j.End(end)...)
}

// Judging judges a record part by part.
type Judging struct {
	limits    Limits
	addresses map[netip.Addr]*tenure
}

// tenure is what is known of one address.
type tenure struct {
	holder string
	since  time.Time // the first claim of holder since another had claimed it
	last   map[string]time.Time
	// unproven is the change of holder that has not been announced; zero: none.
	unproven Violation
}

// NewJudge begins a record.
func NewJudge(limits Limits) *Judging {
	return &Judging{limits: limits, addresses: make(map[netip.Addr]*tenure)}
}

// Take judges the next part of the record, in which claims may be in any order,
// but none is earlier than one of the parts before.
func (j *Judging) Take(claims []Claim) []Violation {
	claims = slices.Clone(claims)
	slices.SortStableFunc(claims, func(a, b Claim) int { return a.At.Compare(b.At) })
	var found []Violation
	for _, c := range claims {
		found = append(found, j.take(c)...)
	}
	return found
}

func (j *Judging) take(c Claim) (found []Violation) {
	t := j.addresses[c.Address]
	if t == nil {
		// Who has it when the record begins took it over before.
		j.addresses[c.Address] = &tenure{holder: c.Holder, since: c.At, last: map[string]time.Time{c.Holder: c.At}}
		return nil
	}
	found = t.overdue(c.At, j.limits.Announce)
	if c.Holder != t.holder {
		v := Violation{At: c.At, Address: c.Address, Holder: c.Holder, Other: t.holder, Since: t.since}
		// A holder that gives way to the next before it has announced itself
		// was none.
		found = append(found, t.unprovenNow()...)
		if last, ok := t.last[c.Holder]; ok && c.At.Sub(last) < j.limits.Turn {
			v.Code = TwoHolders
			found = append(found, v)
		} else {
			v.Code = Unannounced
			t.unproven = v
		}
		t.holder, t.since = c.Holder, c.At
	}
	if c.Announces {
		t.unproven = Violation{}
	}
	t.last[c.Holder] = c.At
	return found
}

// overdue gives the change of holder for which the announcement is too late.
func (t *tenure) overdue(now time.Time, within time.Duration) []Violation {
	if t.unproven.Code == "" || now.Sub(t.unproven.At) <= within {
		return nil
	}
	return t.unprovenNow()
}

func (t *tenure) unprovenNow() []Violation {
	v := t.unproven
	t.unproven = Violation{}
	if v.Code == "" {
		return nil
	}
	return []Violation{v}
}

// End ends the record.
func (j *Judging) End(end time.Time) (found []Violation) {
	for _, t := range j.addresses {
		found = append(found, t.overdue(end, j.limits.Announce)...)
	}
	slices.SortFunc(found, func(a, b Violation) int { return a.At.Compare(b.At) })
	return found
}
