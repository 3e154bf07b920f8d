package oracle

import (
	"slices"
	"time"

	"github.com/pharos-lb/pharos/lab/drill/fib"
)

// windows fills the parts of the run from one step to the next.
func (j *judge) windows() {
	latencies := make([][]time.Duration, len(j.starts))
	carried := make([]map[string]int, len(j.starts))
	for i, start := range j.starts {
		w := Window{Name: j.names[i], Start: j.relative(start), Length: time.Duration(max(0, j.until(i)-start))}
		w.Converged, w.Observed = j.converged(i)
		j.v.Windows = append(j.v.Windows, w)
		carried[i] = map[string]int{}
	}
	for i, p := range j.probes {
		w := j.windowOf(p, j.fate[i])
		j.v.Windows[w].add(j.fate[i])
		returned := j.returned(w)
		if returned && j.fate[i] == failed {
			j.v.FailedReturn++
		}
		if j.fate[i] != answered {
			continue
		}
		latencies[w] = append(latencies[w], time.Duration(p.Ended-p.Scheduled))
		node := j.nodeOf(p.Peer, p.Node)
		if p.Scheduled >= j.settled(w) {
			carried[w][node]++
		}
		if returned && node == j.h.Victim && !j.v.Back && p.Scheduled >= j.backAt() {
			j.v.Back, j.v.FirstCarried = true, j.relative(p.Scheduled)
		}
	}
	for i := range j.v.Windows {
		j.v.Windows[i].Latency = latencyOf(latencies[i])
		j.v.Windows[i].Spread = spreadOf(carried[i], j.hopsAt(j.until(i)))
	}
}

// until is when a window ends.
func (j *judge) until(window int) int64 {
	if window+1 < len(j.starts) {
		return j.starts[window+1]
	}
	return j.end
}

// returned says whether a window is that of a Returns step, or after one.
func (j *judge) returned(window int) bool {
	for i := range j.h.Steps[:min(window, len(j.h.Steps))] {
		if j.h.Steps[i].Effect == Returns {
			return true
		}
	}
	return false
}

// backAt is when the router took the victim back, by its own record: traffic
// that the victim carried before was on its way when it left. Without a record
// of that it is the end of time, so nothing counts.
func (j *judge) backAt() int64 {
	for i, s := range j.h.Steps {
		if s.Effect != Returns {
			continue
		}
		if at, ok := j.effect(i + 1); ok {
			return at
		}
	}
	return 1<<63 - 1
}

// settled is when the router's next hops changed for the last time in a window.
func (j *judge) settled(window int) int64 {
	at := j.starts[window]
	for _, c := range j.h.Router[min(1, len(j.h.Router)):] {
		if t := c.At.UnixNano(); t > at && t < j.until(window) {
			at = t
		}
	}
	return at
}

// converged is the time from the beginning of a window's step until the router
// showed its effect.
func (j *judge) converged(window int) (time.Duration, bool) {
	at, ok := j.effect(window)
	return time.Duration(at - j.starts[window]), ok
}

// effect is when the router showed the effect that a window's step must have;
// it must do so in that window.
func (j *judge) effect(window int) (int64, bool) {
	if window == 0 || window > len(j.h.Steps) {
		return j.starts[window], false
	}
	step := j.h.Steps[window-1]
	had := false
	for _, c := range j.h.Router {
		// FRR changes an IPv6 route by deleting it first: no next hop at all is
		// not yet one without the victim.
		if len(c.Hops) == 0 {
			continue
		}
		at, before, now := c.At.UnixNano(), had, j.has(c)
		had = now
		if at < j.starts[window] || at >= j.until(window) {
			continue
		}
		if step.Effect == Leaves && before && !now || step.Effect == Returns && !before && now {
			return at, true
		}
	}
	return j.starts[window], false
}

// hopsChanged gives the first change of the router's next hops since a window began,
// up to the next step's, or the end.
func (j *judge) hopsChanged(window int) (at time.Duration, hops []string, changed bool) {
	until := j.end
	if window < len(j.h.Steps) {
		until = j.until(window)
	}
	var before []string
	for i, c := range j.h.Router {
		now := j.hopNames(c)
		if t := c.At.UnixNano(); i > 0 && t >= j.starts[window] && t < until && !slices.Equal(now, before) {
			return c.At.Sub(j.v.Zero), now, true
		}
		before = now
	}
	return 0, nil, false
}

// has says whether the victim is among the next hops of a change.
func (j *judge) has(c fib.Change) bool { return slices.Contains(j.hopNames(c), j.h.Victim) }

// hopNames gives the next hops of a change as names of nodes where known.
func (j *judge) hopNames(c fib.Change) []string {
	names := []string{}
	for _, h := range c.Hops {
		name, ok := j.h.Nodes[h.Gateway.WithZone("").String()]
		if !ok {
			name = h.String()
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// hopsAt gives the nodes that the router had as next hops at a time.
func (j *judge) hopsAt(ns int64) []string {
	var names []string
	for _, c := range j.h.Router {
		if c.At.UnixNano() <= ns || names == nil {
			names = j.hopNames(c)
		}
	}
	return names
}

func (j *judge) router() {
	for _, c := range j.h.Router {
		j.v.Router = append(j.v.Router, Change{At: c.At.Sub(j.v.Zero), NextHops: j.hopNames(c)})
	}
}

// spreadOf gives each node's share; expected are the nodes that should have one.
func spreadOf(carried map[string]int, expected []string) Spread {
	total := 0
	for _, n := range carried {
		total += n
	}
	if total == 0 {
		return Spread{}
	}
	names := slices.Clone(expected)
	for name := range carried {
		names = append(names, name)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	var s Spread
	even := 1 / float64(len(names))
	for _, name := range names {
		part := float64(carried[name]) / float64(total)
		s.Shares = append(s.Shares, Share{Node: name, Count: carried[name], Part: part})
		s.Deviation = max(s.Deviation, 100*max(part-even, even-part)/even)
	}
	return s
}

// latencyOf gives the nearest-rank percentiles.
func latencyOf(all []time.Duration) Latency {
	if len(all) == 0 {
		return Latency{}
	}
	slices.Sort(all)
	return Latency{P50: Percentile(all, 50), P99: Percentile(all, 99), Max: all[len(all)-1]}
}

// Percentile gives the nearest-rank percentile, 1 to 100, of sorted values; the
// zero value of none.
func Percentile[T any](sorted []T, percent int) T {
	if len(sorted) == 0 {
		var zero T
		return zero
	}
	rank := (len(sorted)*percent + 99) / 100
	return sorted[max(0, rank-1)]
}
