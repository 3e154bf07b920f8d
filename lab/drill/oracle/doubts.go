package oracle

import (
	"fmt"
	"time"
)

// doubts lists the reasons for which a run shows nothing. A verdict without
// them is one that could have said no.
func (j *judge) doubts() []Reason {
	var out []Reason
	add := func(code Code, format string, args ...any) {
		out = append(out, Reason{Code: code, Message: fmt.Sprintf(format, args...)})
	}
	out = append(out, j.h.Doubts...)

	switch {
	case j.h.Begin == nil || j.h.End == nil:
		add(NotWhole, "the probes' record has no beginning or no end: the prober did not run to its end")
	case j.h.End.Sent != len(j.probes) || !j.gapless():
		add(NotWhole, "the probes' record has %d probes, the prober sent %d", len(j.probes), j.h.End.Sent)
	}
	if len(j.probes) == 0 {
		add(NothingSent, "no probe was sent")
		return out
	}
	if j.v.NotSent > 0 {
		add(ProberFull, "the prober could not send %d probes: too many in flight, or no port or descriptor left", j.v.NotSent)
	}
	if j.v.MaxLate > j.v.Limits.MaxLate {
		add(ProberLate, "the prober sent a probe %v after it was due, more than %v: it may have missed an outage (is the machine busy?)", round(j.v.MaxLate), j.v.Limits.MaxLate)
	}
	first := j.v.Windows[0]
	if first.Answered == 0 {
		add(NotAnswering, "no probe was answered before the fault (%d sent)", first.Sent)
	}
	if len(j.h.Steps) == 0 {
		return out
	}
	if bad := first.Failed + first.Cut; bad > 0 {
		add(FailingBefore, "%d of %d probes failed before the fault", bad, first.Sent)
	}
	if len(j.h.Router) == 0 {
		add(NoRouter, "the router's next hops were not recorded")
	}
	for i, s := range j.h.Steps {
		w := j.v.Windows[i+1]
		if w.Sent == 0 {
			add(WindowEmpty, "no probe was due after %s", s.Name)
		}
		if s.Effect == NoEffect || s.Effect == Stays || w.Observed || len(j.h.Router) == 0 {
			continue
		}
		verb := "left"
		if s.Effect == Returns {
			verb = "came back among"
		}
		add(FaultNotSeen, "after %s, %s never %s the router's next hops", s.Name, j.h.Victim, verb)
	}
	if !j.h.Recovered.IsZero() && j.v.Windows[len(j.v.Windows)-1].Sent == 0 {
		add(WindowEmpty, "no probe was due after the recovery")
	}
	if j.h.Victim != "" && !j.carriedBefore() {
		add(VictimIdle, "%s carried none of the %d probes before the fault, or it cannot be told which node carries what", j.h.Victim, first.Sent)
	}
	return out
}

// gapless says whether every tick of the schedule has its probe, once.
func (j *judge) gapless() bool {
	seen := make([]bool, len(j.probes))
	for _, p := range j.probes {
		if p.Sequence < 0 || p.Sequence >= len(seen) || seen[p.Sequence] {
			return false
		}
		seen[p.Sequence] = true
	}
	return true
}

func (j *judge) carriedBefore() bool {
	for _, s := range j.v.Windows[0].Spread.Shares {
		if s.Node == j.h.Victim {
			return s.Count > 0
		}
	}
	return false
}

// ClockStep is the reason for a run during which the wall clock was set.
func ClockStep(by time.Duration) Reason {
	return Reason{Code: ClockStepped, Message: fmt.Sprintf("the wall clock was set by %v during the run", round(by))}
}

// NotMet is the reason for a run whose fault nothing has met: no packet, say.
func NotMet(step string) Reason {
	return Reason{Code: FaultNotSeen, Message: "nothing met the fault after " + step + ": it shows in no counter"}
}
