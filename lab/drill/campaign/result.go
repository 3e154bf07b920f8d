package campaign

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/pharos-lb/pharos/lab/drill/oracle/holders"
)

// Result is one campaign, and its verdict. Times are nanoseconds in JSON.
type Result struct {
	Site       string              `json:"site"`
	Seed       uint64              `json:"seed"`
	Started    time.Time           `json:"started"`
	Interval   time.Duration       `json:"interval"` // between two questions
	Settle     time.Duration       `json:"settle"`   // bound of VIPResult.Settled
	Faults     int                 `json:"faults"`
	Rounds     []RoundResult       `json:"rounds"`
	Claims     int                 `json:"claims"`     // that were heard
	Asked      int                 `json:"asked"`      // questions
	Lost       int                 `json:"lost"`       // frames that were heard and not recorded
	Violations []holders.Violation `json:"violations"` // of the rule that nobody shares a VIP
	Invalid    []string            `json:"invalid"`    // why the campaign shows nothing
	Passed     bool                `json:"passed"`

	told int // of Violations
}

// RoundResult is one round.
type RoundResult struct {
	What   string      `json:"what"`
	Began  time.Time   `json:"began"`
	Mended time.Time   `json:"mended"` // all was mended by then
	VIPs   []VIPResult `json:"vips"`
}

// VIPResult is what became of one address in a round.
type VIPResult struct {
	Address netip.Addr    `json:"address"`
	Before  string        `json:"before"` // who had it; empty: not heard since the round before
	After   string        `json:"after"`
	Changes int           `json:"changes"` // of holder
	Silence time.Duration `json:"silence"` // the longest time without a claim
	// Settled is how long after the repair it had one holder, who kept it.
	Settled   time.Duration `json:"settled"`
	Unsettled bool          `json:"unsettled"` // not within the bound
}

// conclude gives the verdict.
func (r *Result) conclude() {
	changes, unsettled := 0, false
	for _, round := range r.Rounds {
		for _, v := range round.VIPs {
			changes, unsettled = changes+v.Changes, unsettled || v.Unsettled
		}
	}
	if r.Lost > 0 {
		r.Invalid = append(r.Invalid, fmt.Sprintf("%d frames were heard and not recorded: the machine is too busy", r.Lost))
	}
	if r.Claims == 0 || r.Asked == 0 {
		r.Invalid = append(r.Invalid, fmt.Sprintf("%d claims were heard on %d questions", r.Claims, r.Asked))
	}
	if changes == 0 {
		r.Invalid = append(r.Invalid, "no VIP ever changed its holder: the faults did not hit")
	}
	r.Passed = len(r.Invalid) == 0 && len(r.Violations) == 0 && !unsettled
}

func (r RoundResult) words() string {
	var words []string
	for _, v := range r.VIPs {
		if v.Address.Is6() && len(r.VIPs) > 2 { // as the same VIP's IPv4 address, mostly
			continue
		}
		word := fmt.Sprintf("%s %s", v.Address, v.Before)
		if v.Unsettled {
			word += "→nobody"
		} else if v.Changes > 0 {
			word += "→" + v.After
		}
		words = append(words, fmt.Sprintf("%s (silent %v)", word, v.Silence.Round(time.Millisecond)))
	}
	return strings.Join(words, ", ")
}

// JSON writes the result for programs.
func (r Result) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// Table writes the result for people.
func (r Result) Table(w io.Writer) error {
	verdict := "PASSED"
	switch {
	case len(r.Invalid) > 0:
		verdict = "INVALID"
	case !r.Passed:
		verdict = "FAILED"
	}
	fmt.Fprintf(w, "%s  %d faults of %s, seed %d, %s\n\n", verdict, r.Faults, r.Site, r.Seed, r.Started.UTC().Format("2006-01-02 15:04:05 UTC"))
	for _, reason := range r.Invalid {
		fmt.Fprintf(w, "invalid: %s\n", reason)
	}
	for _, v := range r.Violations {
		fmt.Fprintf(w, "%s  %s\n", v.At.UTC().Format("15:04:05.000"), v)
	}
	for _, round := range r.Rounds {
		for _, v := range round.VIPs {
			if v.Unsettled {
				fmt.Fprintf(w, "%s had not one holder within %v of the repair of: %s\n", v.Address, r.Settle, round.What)
			}
		}
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "FAULT\tROUNDS\tVIPS MOVED\tSILENT, MEDIAN\tWORST\tONE HOLDER AFTER THE REPAIR, MEDIAN\tWORST")
	for _, kind := range r.kinds() {
		var silent, settled []time.Duration
		rounds, moved := 0, 0
		for _, round := range r.Rounds {
			if kindOf(round.What) != kind {
				continue
			}
			rounds++
			for _, v := range round.VIPs {
				if v.Changes > 0 {
					moved++
					silent = append(silent, v.Silence)
				}
				if !v.Unsettled {
					settled = append(settled, v.Settled)
				}
			}
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%s\t%s\t%s\t%s\n", kind, rounds, moved, median(silent), worst(silent), median(settled), worst(settled))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%d claims heard on %d questions, %d frames lost, %d violations\n", r.Claims, r.Asked, r.Lost, len(r.Violations))
	return err
}

// kinds are those of the rounds, as kindOf has them.
func (r Result) kinds() []string {
	var kinds []string
	for _, round := range r.Rounds {
		kinds = append(kinds, kindOf(round.What))
	}
	slices.Sort(kinds)
	return slices.Compact(kinds)
}

// kindOf is the kind of a round's fault, or that it has two.
func kindOf(what string) string {
	if strings.Contains(what, " and ") {
		return "two at once"
	}
	kind, _, _ := strings.Cut(what, " ")
	return kind
}

func median(all []time.Duration) string {
	if len(all) == 0 {
		return "-"
	}
	slices.Sort(all)
	return all[(len(all)-1)/2].Round(time.Millisecond).String()
}

func worst(all []time.Duration) string {
	if len(all) == 0 {
		return "-"
	}
	return slices.Max(all).Round(time.Millisecond).String()
}
