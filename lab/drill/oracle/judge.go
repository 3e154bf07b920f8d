package oracle

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pharos-lb/pharos/lab/traffic/record"
)

// Judge gives the verdict on a run.
func Judge(h History, limits Limits) Verdict {
	j := newJudge(h, limits)
	j.count()
	j.windows()
	j.outages()
	j.held()
	j.router()
	j.v.Invalid = j.doubts()
	if len(j.v.Invalid) == 0 {
		j.v.Broken = j.broken()
	}
	return j.v
}

// judge holds what the parts of a verdict share.
type judge struct {
	h      History
	v      Verdict
	probes []record.Probe // by the time they were due
	fate   []fate         // of each of probes
	starts []int64        // of the windows
	names  []string       // of the windows
	end    int64
}

// fate is what became of a probe, in the oracle's eyes.
type fate int

const (
	answered fate = iota
	failed
	cut
	notSent
)

func newJudge(h History, limits Limits) *judge {
	if limits.MaxLate == 0 {
		limits.MaxLate = DefaultMaxLate
	}
	j := &judge{h: h, probes: slices.Clone(h.Probes), v: Verdict{Limits: limits}}
	slices.SortFunc(j.probes, func(a, b record.Probe) int { return cmp.Compare(a.Scheduled, b.Scheduled) })
	if h.Begin != nil {
		j.v.Zero, j.v.Interval = time.Unix(0, h.Begin.Started), time.Duration(h.Begin.Interval)
	}
	j.starts, j.names = []int64{j.v.Zero.UnixNano()}, []string{"before"}
	if len(h.Steps) > 0 {
		j.v.Zero = h.Steps[0].Began
	} else {
		j.names[0] = "all"
	}
	for _, s := range h.Steps {
		j.starts, j.names = append(j.starts, s.Began.UnixNano()), append(j.names, s.Name)
		j.v.Steps = append(j.v.Steps, StepTime{Name: s.Name, At: s.Began.Sub(j.v.Zero), Took: s.Done.Sub(s.Began)})
		j.v.HasReturnStep = j.v.HasReturnStep || s.Effect == Returns
	}
	for _, c := range h.Checks {
		j.v.Checks = append(j.v.Checks, CheckTime{What: c.What, At: c.At.Sub(j.v.Zero), Wrong: c.Wrong})
	}
	if !h.Recovered.IsZero() {
		j.starts, j.names = append(j.starts, h.Recovered.UnixNano()), append(j.names, "after")
	}
	if h.End != nil {
		j.end = h.End.Ended
	} else if n := len(j.probes); n > 0 {
		j.end = j.probes[n-1].Ended
	}
	return j
}

func (j *judge) relative(ns int64) time.Duration { return time.Duration(ns - j.v.Zero.UnixNano()) }

// fateOf decides what a probe's outcome is worth.
func (j *judge) fateOf(p record.Probe) fate {
	switch {
	case p.Outcome == record.OK:
		return answered
	case p.Outcome == record.NotSent:
		return notSent
	case p.Outcome == record.Reset && j.rehashed(p.Connected, p.Ended, j.nodeOf(p.Peer, p.Node)):
		return cut
	}
	return failed
}

// rehashNear is how close to the router's change a connection of an unknown
// carrier must have been alive, and have been reset: the next packet tells, and
// with a request under way that comes at once. What took longer was something
// else, or was seen late, and proves nothing.
const rehashNear = 20 * time.Millisecond

// rehashed says whether a connection was established, was last proven to work
// by something sent before a change of the router's next hops, was reset after
// it, and nothing but the re-hash explains that. carrier is empty where it is
// not known.
func (j *judge) rehashed(alive, ended int64, carrier string) bool {
	for i, c := range j.h.Router {
		if i == 0 {
			continue // what held at the start
		}
		at := c.At.UnixNano()
		if alive <= 0 || alive >= at || at >= ended {
			continue
		}
		if carrier == "" && (time.Duration(at-alive) > rehashNear || time.Duration(ended-at) > rehashNear) {
			continue
		}
		if j.abrupt(at) && (carrier == "" || carrier == j.h.Victim) {
			continue // its death explains the reset as well
		}
		return true
	}
	return false
}

// abrupt says whether the victim had just died at a time.
func (j *judge) abrupt(ns int64) bool {
	died := false
	for _, s := range j.h.Steps {
		if s.Began.UnixNano() <= ns {
			died = s.Abrupt
		}
	}
	return died
}

// windowOf is the window that a probe belongs to: the one it was due in. A
// probe that was under way when the first step began and did not survive it is
// that step's, though it was due before.
func (j *judge) windowOf(p record.Probe, f fate) int {
	w := 0
	for i, start := range j.starts {
		if p.Scheduled >= start {
			w = i
		}
	}
	if w == 0 && f != answered && len(j.h.Steps) > 0 && p.Ended >= j.starts[1] {
		return 1
	}
	return w
}

func (j *judge) count() {
	by := map[Kind]int{}
	for _, p := range j.probes {
		f := j.fateOf(p)
		j.fate = append(j.fate, f)
		j.v.Counts.add(f)
		if f == failed {
			by[Kind{Outcome: p.Outcome, Stage: p.Stage}]++
		}
		if p.Sent > 0 {
			j.v.MaxLate = max(j.v.MaxLate, time.Duration(p.Sent-p.Scheduled))
		}
	}
	for kind, n := range by {
		kind.Count = n
		j.v.By = append(j.v.By, kind)
	}
	slices.SortFunc(j.v.By, func(a, b Kind) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Outcome, b.Outcome), cmp.Compare(a.Stage, b.Stage))
	})
	if j.h.End != nil && j.v.Sent > 0 {
		j.v.CPUPerProbe = time.Duration(j.h.End.CPU / int64(j.v.Sent))
	}
}

func (c *Counts) add(f fate) {
	c.Sent++
	switch f {
	case answered:
		c.Answered++
	case failed:
		c.Failed++
	case cut:
		c.Cut++
	case notSent:
		c.NotSent++
	}
}

func (j *judge) outages() {
	var last int64
	var windows []int // that each outage began in
	for i, p := range j.probes {
		if j.fate[i] != failed {
			continue
		}
		if n := len(j.v.Outages); n > 0 && time.Duration(p.Scheduled-last) < OutageSpan {
			o := &j.v.Outages[n-1]
			o.Failed++
			o.Length = j.relative(p.Scheduled) - o.Start + j.v.Interval
		} else {
			j.v.Outages = append(j.v.Outages, Outage{Start: j.relative(p.Scheduled), Length: j.v.Interval, Failed: 1})
			windows = append(windows, j.windowOf(p, failed))
		}
		last = p.Scheduled
	}
	if len(j.v.Outages) == 0 {
		return
	}
	j.v.FirstFailure, j.v.LastFailure = j.v.Outages[0].Start, j.relative(last)
	for i, o := range j.v.Outages {
		j.v.LongestGap = max(j.v.LongestGap, o.Length)
		w := &j.v.Windows[windows[i]]
		w.LongestGap = max(w.LongestGap, o.Length)
	}
}

// held counts the lives of held connections by the node that carried them.
func (j *judge) held() {
	by := map[string]*HeldNode{}
	for _, l := range j.h.Held {
		name := j.nodeOf(l.Peer, l.Node)
		n := by[name]
		if n == nil {
			n = &HeldNode{Node: name}
			by[name] = n
		}
		switch {
		case l.Outcome == record.OK:
			n.Alive++
		case l.Outcome == record.Finished:
			n.Finished++
		case l.Stage == record.Connecting:
			n.Refused++
		case l.Outcome == record.Reset && j.rehashed(max(l.Connected, l.Asked), l.Ended, name):
			n.Cut++
			j.v.HeldCut++
		default:
			n.Broken++
		}
	}
	for _, n := range by {
		j.v.Held = append(j.v.Held, *n)
	}
	slices.SortFunc(j.v.Held, func(a, b HeldNode) int { return cmp.Compare(a.Node, b.Node) })
}

// nodeOf names the node that carried something: by the address that the
// backend saw, or by what the answer's header said.
func (j *judge) nodeOf(peer, header string) string {
	if header != "" {
		return header
	}
	if name, ok := j.h.Nodes[peer]; ok {
		return name
	}
	return peer
}

// broken lists the limits that do not hold.
func (j *judge) broken() []Reason {
	var out []Reason
	add := func(code Code, format string, args ...any) {
		out = append(out, Reason{Code: code, Message: fmt.Sprintf(format, args...)})
	}
	l := j.v.Limits
	if l.MaxGap != nil && j.v.LongestGap > *l.MaxGap {
		add(GapTooLong, "the longest gap is %v, more than %v", round(j.v.LongestGap), *l.MaxGap)
	}
	if l.MaxFailed != nil && j.v.Failed > *l.MaxFailed {
		add(TooManyFailed, "%d new connections failed, more than %d", j.v.Failed, *l.MaxFailed)
	}
	if l.MaxReturnFailed != nil && j.v.FailedReturn > *l.MaxReturnFailed {
		add(TooManyFailedBack, "%d new connections failed while %s came back, more than %d", j.v.FailedReturn, j.h.Victim, *l.MaxReturnFailed)
	}
	if cuts := j.v.Cut + j.v.HeldCut; l.MaxCut != nil && cuts > *l.MaxCut {
		add(TooManyCut, "%d established connections were cut by the router's re-hash, more than %d", cuts, *l.MaxCut)
	}
	if l.MaxDeviation != nil {
		for _, w := range j.v.Windows {
			if (w.Name == "before" || w.Name == "after" || w.Name == "all") && w.Spread.Deviation > *l.MaxDeviation {
				add(Uneven, "%s: a node's share is %.1f %% from even, more than %g %%", w.Name, w.Spread.Deviation, *l.MaxDeviation)
			}
		}
	}
	for i, step := range j.h.Steps {
		if at, hops, changed := j.hopsChanged(i + 1); step.Effect == Stays && changed {
			if len(hops) == 0 {
				hops = []string{"none"}
			}
			add(HopsChanged, "after %s, at %v, the router's next hops became %s", step.Name, round(at), strings.Join(hops, ", "))
		}
	}
	for _, c := range j.v.Checks {
		if c.Wrong != "" {
			add(CheckFailed, "%s: %s", c.What, c.Wrong)
		}
	}
	if j.v.HasReturnStep && !j.v.Back {
		add(NotBack, "%s carried no new connection after its return", j.h.Victim)
	}
	return out
}

func round(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }
