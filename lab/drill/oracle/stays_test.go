package oracle

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pharos-lb/pharos/lab/drill/fib"
	"github.com/pharos-lb/pharos/lab/traffic/record"
)

// unnoticed is the made history of a fault that nobody should notice: the router
// keeps its next hops throughout.
func unnoticed() History {
	h := good()
	h.Steps[0] = Step{Name: "control cut", Began: at(killAt), Done: at(killAt + ms), Effect: Stays}
	h.Steps[1] = Step{Name: "control back", Began: at(startAt), Done: at(startAt + ms), Effect: Stays}
	h.Router = h.Router[:1]
	h.Checks = []Check{{What: "a change on n1 is refused", At: at(killAt + 500*ms)}}
	return h
}

func TestAFaultThatNobodyNoticesPasses(t *testing.T) {
	v := Judge(unnoticed(), strict())
	if !v.Passed() {
		t.Errorf("invalid %v, broken %v", v.Invalid, v.Broken)
	}
	if len(v.Checks) != 1 || v.Checks[0].At.Milliseconds() != 500 {
		t.Errorf("checks %+v", v.Checks)
	}
}

func TestWhatIsNoticedIsFound(t *testing.T) {
	for _, tc := range []struct {
		name    string
		plant   func(h *History)
		invalid []Code
		broken  []Code
		says    string
	}{
		{name: "a node leaves during the fault", plant: func(h *History) {
			h.Router = append(h.Router, fib.Change{At: at(killAt + 900*ms), Hops: hops(1, 2)}, fib.Change{At: at(startAt - ms), Hops: hops(1, 2, 3)})
		}, broken: []Code{HopsChanged}, says: "after control cut, at 900ms, the router's next hops became n1, n2"},
		{name: "a node leaves for a moment", plant: func(h *History) {
			h.Router = append(h.Router, fib.Change{At: at(killAt + ms), Hops: hops(1, 3)}, fib.Change{At: at(killAt + 2*ms), Hops: hops(1, 2, 3)})
		}, broken: []Code{HopsChanged}},
		{name: "all leave", plant: func(h *History) {
			h.Router = append(h.Router, fib.Change{At: at(killAt + ms)})
		}, broken: []Code{HopsChanged}, says: "became none"},
		{name: "a node leaves after the fault", plant: func(h *History) {
			h.Router = append(h.Router, fib.Change{At: at(recAt + ms), Hops: hops(1, 2)})
		}, broken: []Code{HopsChanged}, says: "after control back"},
		{name: "in both", plant: func(h *History) {
			h.Router = append(h.Router, fib.Change{At: at(killAt + ms), Hops: hops(1, 2)}, fib.Change{At: at(startAt + ms), Hops: hops(1, 2, 3)})
		}, broken: []Code{HopsChanged, HopsChanged}},
		{name: "a change before the fault is none of it", plant: func(h *History) {
			h.Router = append(h.Router, fib.Change{At: at(100 * ms), Hops: hops(1, 2)}, fib.Change{At: at(200 * ms), Hops: hops(1, 2, 3)})
		}},
		{name: "the same next hops told again", plant: func(h *History) {
			h.Router = append(h.Router, fib.Change{At: at(killAt + ms), Hops: hops(1, 2, 3)})
		}},
		{name: "a failure", plant: func(h *History) { fail(h, killAt, killAt+2*ms, 1, record.TimedOut, record.Connecting) }, broken: []Code{TooManyFailed}},
		{name: "a change that was accepted", plant: func(h *History) { h.Checks[0].Wrong = "it was accepted" }, broken: []Code{CheckFailed}, says: "a change on n1 is refused: it was accepted"},
		{name: "no packet met the fault", plant: func(h *History) { h.Doubts = append(h.Doubts, NotMet("control cut")) }, invalid: []Code{FaultNotSeen}},
		{name: "no router record", plant: func(h *History) { h.Router = nil }, invalid: []Code{NoRouter}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := unnoticed()
			tc.plant(&h)
			v := Judge(h, strict())
			if diff := cmp.Diff(tc.invalid, codes(v.Invalid)); diff != "" {
				t.Errorf("invalid (-want +got):\n%s\n%v", diff, v.Invalid)
			}
			if diff := cmp.Diff(tc.broken, codes(v.Broken)); diff != "" {
				t.Errorf("broken (-want +got):\n%s\n%v", diff, v.Broken)
			}
			var said []string
			for _, r := range v.Broken {
				said = append(said, r.Message)
			}
			if !strings.Contains(strings.Join(said, "; "), tc.says) {
				t.Errorf("said %q, want %q", said, tc.says)
			}
		})
	}
}
