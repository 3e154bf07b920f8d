package holders

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var (
	zero  = time.Unix(1_000_000, 0)
	vip   = netip.MustParseAddr("10.0.50.100")
	other = netip.MustParseAddr("10.0.50.101")
)

// history is claims in words: "n1 0..100" answers every 5 ms from 0 to 100,
// "n1! 7" announces at 7. Times are milliseconds.
func history(t testing.TB, lines ...string) []Claim {
	t.Helper()
	var claims []Claim
	for _, line := range lines {
		name, times, ok := strings.Cut(line, " ")
		if !ok {
			t.Fatalf("no times in %q", line)
		}
		name, announces := strings.CutSuffix(name, "!")
		first, last, ok := strings.Cut(times, "..")
		if !ok {
			last = first
		}
		from, err1 := strconv.ParseFloat(first, 64)
		to, err2 := strconv.ParseFloat(last, 64)
		if err1 != nil || err2 != nil {
			t.Fatalf("no times in %q", line)
		}
		for at := from; at <= to; at += 5 {
			claims = append(claims, Claim{At: ms(at), Address: vip, Holder: name, Announces: announces})
		}
	}
	return claims
}

func ms(at float64) time.Time { return zero.Add(time.Duration(at * float64(time.Millisecond))) }

func TestJudge(t *testing.T) {
	tests := []struct {
		name  string
		lines []string
		end   float64
		want  []string // code, holder, other and time
	}{
		{"one holder", []string{"n1 0..1000"}, 1000, nil},
		{"nobody", nil, 1000, nil},
		{"one that pauses", []string{"n1 0..100", "n1 500..600"}, 1000, nil},
		{"a takeover after a death", []string{"n1 0..100", "n2! 180", "n2 181..500"}, 1000, nil},
		{"a handover within a millisecond", []string{"n1 0..100", "n2! 100.1", "n2 101..500"}, 1000, nil},
		{"an answer just before the announcement", []string{"n1 0..100", "n2 101..500", "n2! 120"}, 1000, nil},
		{"there and back", []string{"n1 0..100", "n2! 300", "n2 300..600", "n1! 601", "n1 602..900"}, 1000, nil},
		{"refreshed announcements", []string{"n1 0..100", "n2! 300..320", "n2 300..600", "n2! 400"}, 1000, nil},
		{"two holders in turns", []string{"n1 0..200", "n2! 101", "n2 102..200"}, 1000, slices.Concat(
			[]string{"two_holders n1 n2 105", "two_holders n2 n1 107"}, turns(110, 200))},
		{
			"one late answer of the former holder, at once",
			[]string{"n1 0..100", "n2! 101", "n2 102..500", "n1 104"},
			1000,
			[]string{"two_holders n1 n2 104", "two_holders n2 n1 107"},
		},
		{
			"one late answer of a former holder that was frozen",
			[]string{"n1 0..100", "n2! 300", "n2 301..900", "n1 702"},
			1000,
			[]string{"unannounced n1 n2 702", "two_holders n2 n1 706"},
		},
		{
			"one late announcement of it",
			[]string{"n1 0..100", "n2! 300", "n2 301..900", "n1! 702"},
			1000,
			[]string{"two_holders n2 n1 706"},
		},
		{
			"a former holder that answers once the new one is gone",
			[]string{"n1 0..100", "n2! 300", "n2 301..600", "n1 702..800"},
			1000,
			[]string{"unannounced n1 n2 702"},
		},
		{"a taker that announces itself late", []string{"n1 0..100", "n2 180..500", "n2! 300"}, 1000, []string{"unannounced n2 n1 180"}},
		{"a taker of which the record ends", []string{"n1 0..100", "n2 180..200"}, 200, nil},
		{"one that is late at the end", []string{"n1 0..100", "n2 180..200"}, 281, []string{"unannounced n2 n1 180"}},
		{"one that took over unannounced, and lost it", []string{"n1 0..100", "n2 180", "n3! 190", "n3 191..500"}, 1000, []string{"unannounced n2 n1 180"}},
		{"a defence that is announced", []string{"n1 0..500", "n2! 301", "n1! 302"}, 1000, []string{"two_holders n1 n2 302"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			claims := history(t, tt.lines...)
			var got []string
			for _, v := range Judge(claims, ms(tt.end), DefaultLimits) {
				got = append(got, fmt.Sprintf("%s %s %s %g", v.Code, v.Holder, v.Other, float64(v.At.Sub(zero))/1e6))
				if v.Address != vip || !v.Since.Before(v.At) || !strings.HasPrefix(v.String(), v.Holder+" claimed 10.0.50.100 ") {
					t.Errorf("violation %+v: %s", v, v)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			// Nothing depends on the order in which ports were read.
			slices.Reverse(claims)
			if again := Judge(claims, ms(tt.end), DefaultLimits); len(again) != len(got) {
				t.Errorf("in another order there are %d violations, want %d", len(again), len(got))
			}
		})
	}
}

// turns are the violations of two that answer in turns, each every 5 ms.
func turns(from, to float64) []string {
	var all []string
	for at := from; at <= to; at += 5 {
		all = append(all, fmt.Sprintf("two_holders n1 n2 %g", at))
		if at+2 <= to {
			all = append(all, fmt.Sprintf("two_holders n2 n1 %g", at+2))
		}
	}
	return all
}

func TestAddressesAreJudgedByThemselves(t *testing.T) {
	claims := history(t, "n1 0..500")
	for _, c := range history(t, "n2 2..500") {
		c.Address = other
		claims = append(claims, c)
	}
	if found := Judge(claims, ms(1000), DefaultLimits); len(found) != 0 {
		t.Errorf("two holders of two addresses: %v", found)
	}
}

// Holders that follow one another and announce themselves pass, whatever their
// times. One claim of another than the holder, put in anywhere, never does.
func TestJudgeFindsAnyStrayClaim(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var claims []Claim
		now := time.Duration(0)
		type span struct {
			holder   string
			from, to time.Duration
		}
		var spans []span
		for i := range rapid.IntRange(1, 6).Draw(t, "holders") {
			if i > 0 {
				now += rapid.SampledFrom([]time.Duration{time.Microsecond, 30 * time.Millisecond, 400 * time.Millisecond}).Draw(t, "without a holder")
			}
			s := span{holder: fmt.Sprintf("n%d", i%3+1), from: now}
			for n := range rapid.IntRange(12, 60).Draw(t, "claims") {
				claims = append(claims, Claim{At: zero.Add(now), Address: vip, Holder: s.holder, Announces: n == 0 || n == 4})
				s.to = now
				now += 5 * time.Millisecond
			}
			spans = append(spans, s)
		}
		end := zero.Add(now)
		if found := Judge(claims, end, DefaultLimits); len(found) > 0 {
			t.Fatalf("a good history: %v", found)
		}
		s := rapid.SampledFrom(spans).Draw(t, "disturbed")
		// Among the holder's claims, so that it is heard again afterwards.
		at := s.from + time.Duration(rapid.Int64Range(1, int64(s.to-s.from)-1).Draw(t, "at"))
		stray := rapid.SampledFrom([]string{"n1", "n2", "n3", "rogue"}).Filter(func(n string) bool { return n != s.holder }).Draw(t, "stray")
		claims = append(claims, Claim{At: zero.Add(at), Address: vip, Holder: stray, Announces: rapid.Bool().Draw(t, "announces")})
		if found := Judge(claims, end, DefaultLimits); len(found) == 0 {
			t.Fatalf("a claim of %s at %v went unseen, while %s had it from %v to %v", stray, at, s.holder, s.from, s.to)
		}
		// In parts, the same.
		claims = slices.Clone(claims)
		slices.SortFunc(claims, func(a, b Claim) int { return a.At.Compare(b.At) })
		cut := rapid.IntRange(0, len(claims)).Draw(t, "cut")
		j := NewJudge(DefaultLimits)
		parts := append(append(j.Take(claims[:cut]), j.Take(claims[cut:])...), j.End(end)...)
		if diff := cmp.Diff(Judge(claims, end, DefaultLimits), parts, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Fatalf("judged in parts (-whole +parts):\n%s", diff)
		}
	})
}

func TestSettled(t *testing.T) {
	tests := []struct {
		name  string
		lines []string
		from  float64
		at    float64
		who   string // empty: not settled
	}{
		{"all the time", []string{"n1 0..1000"}, 100, 100, "n1"},
		{"after a takeover", []string{"n1 0..200", "n2 280..1000"}, 100, 280, "n2"},
		{"after a long pause", []string{"n1 0..200", "n1 400..1000"}, 100, 400, "n1"},
		{"in spite of a short one", []string{"n1 0..200", "n1 290..1000"}, 100, 100, "n1"},
		{"two in turns are not", []string{"n1 0..1000", "n2 2..1000"}, 100, 0, ""},
		{"nor is one that has just begun", []string{"n1 900..1000"}, 100, 0, ""},
		{"nor nobody", nil, 100, 0, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			claims := history(t, tt.lines...)
			slices.SortFunc(claims, func(a, b Claim) int { return a.At.Compare(b.At) })
			at, who, ok := Settled(claims, vip, ms(tt.from), DefaultQuiet)
			if ok != (tt.who != "") || who != tt.who || ok && !at.Equal(ms(tt.at)) {
				t.Errorf("settled %v on %q at %v, want %q at %v", ok, who, at.Sub(zero), tt.who, tt.at)
			}
			if _, _, ok := Settled(claims, other, ms(tt.from), DefaultQuiet); ok {
				t.Error("another address is settled as well")
			}
		})
	}
}

func TestSilence(t *testing.T) {
	claims := history(t, "n1 0..200", "n2 280..1000")
	for _, tt := range []struct {
		name     string
		from, to float64
		want     time.Duration
	}{
		{"between two holders", 0, 1000, 80 * time.Millisecond},
		{"with a holder", 0, 200, 5 * time.Millisecond},
		{"from the beginning", 210, 1000, 70 * time.Millisecond},
		{"to the end", 0, 1400, 400 * time.Millisecond},
		{"of nobody", 1100, 1400, 300 * time.Millisecond},
	} {
		if got := Silence(claims, vip, ms(tt.from), ms(tt.to)); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}
