// Package balance chooses a server of a pool for new work. It is pure: it
// knows weights, usability and counts, no sockets, clocks or names.
//
// A choice has two steps. [Choose] picks the tier that takes new work
// (primaries, else backups, else everyone) whenever usability or weights
// change; a [Picker], made by [New], then spreads single requests over that
// tier, on the hot path. Each server has a [Load], in which whoever serves a
// request counts it, and which outlives the pickers.
//
// # Which algorithm for what
//
//   - [RoundRobinName]: requests cost about the same, and servers differ by
//     what their weights say. The shares are exact; nothing is looked at, so a
//     server that has become slow gets as much as before.
//   - [LeastConn]: requests differ in cost or length (downloads, web sockets,
//     any tcp pool). A slow server keeps its requests longer, and so gets fewer.
//   - [SourceHash]: a client shall come back to its server, and there is
//     nothing but its address to know it by. Mind what its doc says of NAT.
//   - [URIHash]: servers that cache. Each object is on one server, not on all.
//   - [HeaderHash], [CookieHash]: a user, tenant or session shall come back to
//     its server, known by a field or a cookie.
//   - [RandomTwo]: as LeastConn, for many nodes before the same servers: nodes
//     that each send to the least loaded server as they see it send to the same
//     one, and chance keeps them apart. Also the cheapest with many cores.
//   - [Latency]: servers differ in speed and nobody knows how: other zones,
//     other hardware, noisy neighbours. What answers faster gets more, within
//     what its weight draws. Not for pools in which a quick answer is a bad one:
//     see [Load.Fail].
//
// The hashes send a key to the same server from every node, as long as that
// one is usable and within its bound (see Config.HashBound). When a server
// leaves or comes, hardly more than its own keys move.
package balance

import "time"

// Picker spreads work over the members that it was built on. It is safe for
// concurrent use, and neither locks nor allocates.
type Picker interface {
	// Pick returns the position of the next member: 0 <= position < number of
	// members. A Picker without members returns -1. key is from the pool's
	// [Keyer], or from [AddrKey]; now is the time on the monotonic scale that
	// [Load.Observe] is given. Only hashes look at key, only Latency looks at
	// now.
	Pick(key uint64, now time.Duration) int
}

// Candidate is one server of a pool, as far as the choice of a tier goes.
type Candidate struct {
	Weight int  // 0 takes no new work, whatever its health
	Backup bool // takes work only when no primary is usable
	Usable bool // healthy, or not checked at all
}

// Tier says which servers take new work at this moment.
type Tier string

// The tiers, in their order of preference.
const (
	Primary  Tier = "primary"   // usable servers that are no backups
	Backup   Tier = "backup"    // the first usable backup, in order of configuration
	FailOpen Tier = "fail-open" // nobody is usable: everyone is tried rather than none
	None     Tier = "none"      // nobody may take work
)

// Choice is the outcome of [Choose]. Its slices hold indexes of candidates.
type Choice struct {
	Tier   Tier
	Active []int // new work is spread over these
	Spare  []int // tried in order when all of Active refuse a connection
}

// Choose decides who takes new work: usable primaries with a weight above 0;
// without any, the first usable backup (the others stay in reserve, as
// HAProxy does without "allbackups"); without any, everyone whose weight is
// above 0 if failOpen, else no one. A weight of 0 is the operator's word and
// holds in every tier.
func Choose(candidates []Candidate, failOpen bool) Choice {
	var primaries, backups, all []int
	for i, c := range candidates {
		if c.Weight <= 0 {
			continue
		}
		all = append(all, i)
		switch {
		case !c.Usable:
		case c.Backup:
			backups = append(backups, i)
		default:
			primaries = append(primaries, i)
		}
	}
	switch {
	case len(primaries) > 0:
		return Choice{Tier: Primary, Active: primaries, Spare: backups}
	case len(backups) > 0:
		return Choice{Tier: Backup, Active: backups[:1], Spare: backups[1:]}
	case failOpen && len(all) > 0:
		return Choice{Tier: FailOpen, Active: all}
	}
	return Choice{Tier: None}
}
