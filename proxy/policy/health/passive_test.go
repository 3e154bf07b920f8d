package health

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// The rows play failures (F), successes (S) and tries (T) at given seconds,
// with a fail timeout of 10 s. After each event comes whether the server is
// in (+) or out (-).
func TestPassive(t *testing.T) {
	tests := []struct {
		name string
		max  int
		play string
		want string
		next time.Duration // when it may be tried, if it is out at the end
	}{
		{"one failure suffices, as by nginx's default", 1, "F1", "-", 11 * time.Second},
		{"failures add up", 3, "F1 F2 F3", "++-", 13 * time.Second},
		{"successes within the timeout forget nothing", 3, "F1 S2 F3 S4 F5", "++++-", 15 * time.Second},
		{"each failure within the timeout of the one before", 3, "F0 S5 F9 S10 F18", "++++-", 28 * time.Second},
		{"a success more than the timeout later forgets all", 2, "F0 S11 F12", "+++", 0},
		{"a success at the very timeout forgets nothing", 2, "F0 S10 F12", "++-", 22 * time.Second},
		{"without a success nothing is forgotten", 2, "F0 F100", "+-", 110 * time.Second},
		{"late failures keep it out for longer", 1, "F1 F4", "--", 14 * time.Second},
		{"late successes do not bring it back", 1, "F5 S6 S15", "---", 15 * time.Second},
		{"the one try brings it back", 1, "F1 T12 S13", "--+", 0},
		{"back, it counts from nothing", 2, "F0 F1 T12 S13 F14", "+--++", 0},
		{"the one try keeps it out", 1, "F1 T12 F14", "---", 24 * time.Second},
		{"a try that hangs: another after a timeout", 1, "F1 T12", "--", 22 * time.Second},
		{"off", 0, "F1 F2 F3", "+++", 0},
	}
	const timeout = 10 * time.Second
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var p Passive
			var got strings.Builder
			for _, event := range strings.Fields(tt.play) {
				var kind rune
				var second int
				if _, err := fmt.Sscanf(event, "%c%d", &kind, &second); err != nil {
					t.Fatalf("event %q: %v", event, err)
				}
				now := time.Duration(second) * time.Second
				before, changed := p.Out(), false
				switch kind {
				case 'F':
					changed = p.Fail(tt.max, now)
				case 'S':
					changed = p.Succeed(timeout, now)
				case 'T':
					if now <= p.Next(timeout) {
						t.Fatalf("a try at %v, before %v is over", now, p.Next(timeout))
					}
					p.Try(now)
				}
				if changed != (before != p.Out()) {
					t.Errorf("%s reported changed=%v, going from out=%v to %v", event, changed, before, p.Out())
				}
				if p.Out() {
					got.WriteByte('-')
				} else {
					got.WriteByte('+')
				}
			}
			if got.String() != tt.want {
				t.Errorf("in and out = %s, want %s", got.String(), tt.want)
			}
			if p.Out() && p.Next(timeout) != tt.next {
				t.Errorf("may be tried after %v, want %v", p.Next(timeout), tt.next)
			}
		})
	}
}

// nginxPeer models what nginx's round robin keeps of a peer: a pick moves
// checked on once a fail timeout has passed, a failure sets both times, and a
// success forgets the failures if checked has moved since.
type nginxPeer struct {
	fails             int
	accessed, checked time.Duration
}

func (p *nginxPeer) available(max int, timeout, now time.Duration) bool {
	return !(p.fails >= max && now-p.checked <= timeout)
}

func (p *nginxPeer) request(ok bool, timeout, now time.Duration) {
	if now-p.checked > timeout {
		p.checked = now
	}
	if !ok {
		p.fails++
		p.accessed, p.checked = now, now
		return
	}
	if p.accessed < p.checked {
		p.fails = 0
	}
}

// Requests that end at once, one after the other: a server is out exactly
// when nginx would not pick it.
func TestPassiveAgreesWithNginx(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.IntRange(1, 4).Draw(t, "max fails")
		const timeout = 10 * time.Second
		nginx := nginxPeer{checked: -time.Hour, accessed: -time.Hour}
		var p Passive
		now := time.Hour
		for i := range rapid.IntRange(1, 60).Draw(t, "requests") {
			now += time.Duration(rapid.IntRange(0, 14).Draw(t, "gap")) * time.Second
			available := !p.Out() || now > p.Next(timeout)
			if want := nginx.available(most, timeout, now); available != want {
				t.Fatalf("request %d at %v: available %v, nginx says %v", i, now, available, want)
			}
			if !available {
				continue
			}
			ok := rapid.Bool().Draw(t, "ok")
			nginx.request(ok, timeout, now)
			if p.Out() {
				p.Try(now)
			}
			if ok {
				p.Succeed(timeout, now)
			} else {
				p.Fail(most, now)
			}
		}
	})
}
