package lease

import (
	"maps"
	"slices"
	"testing"
	"time"
)

// room is some machines that hear each other at once.
type room struct {
	now time.Duration
	in  map[string]*Machine // by process
}

func machineOf(name string, life uint64, at time.Duration, members ...string) *Machine {
	m := New(Setup{Self: name, Life: life, Chance: func(time.Duration) time.Duration { return 0 }}, at)
	m.SetMembers(members, at)
	return m
}

// settle carries messages until there are none. A process is known by its node's
// name and a letter; the last of a node's is the one that asks reach.
func (r *room) settle(asked map[string]string) {
	for {
		quiet := true
		for from, m := range r.in {
			for _, e := range m.Take() {
				quiet = false
				to := asked[e.To]
				if e.Message.Kind == Grant || e.Message.Kind == Refuse {
					// Answers go to whoever asked.
					for name, other := range r.in {
						if name[:2] == e.To && other.life == e.Message.Claim.Life {
							to = name
						}
					}
				}
				r.in[to].Receive(from[:2], 1, e.Message, r.now)
			}
		}
		if quiet {
			return
		}
	}
}

func (r *room) holds(process string) bool { return r.in[process].State("web", r.now).Held }

func TestALeaseGoesToTheNextProcessOfANodeAndToNobodyElse(t *testing.T) {
	members := []string{"n1", "n2", "n3"}
	r := &room{now: 10 * time.Second, in: map[string]*Machine{
		"n1a": machineOf("n1", 1, 0, members...), "n2a": machineOf("n2", 2, 0, members...), "n3a": machineOf("n3", 3, 0, members...),
	}}
	asked := map[string]string{"n1": "n1a", "n2": "n2a", "n3": "n3a"}
	want := Want{Hold: true, Term: 250 * time.Millisecond, Renew: 80 * time.Millisecond}
	first := want
	first.Rank = 9
	r.in["n1a"].SetWant("web", first, r.now)
	r.settle(asked)
	r.in["n2a"].SetWant("web", want, r.now)
	r.in["n3a"].SetWant("web", want, r.now)
	r.settle(asked)
	if !r.holds("n1a") {
		t.Fatal("nobody holds to begin with")
	}
	before := r.in["n1a"].State("web", r.now).Epoch

	next := machineOf("n1", 4, r.now, members...)
	r.in["n1b"] = next
	next.SetWant("web", want, r.now)
	r.settle(asked)
	if r.holds("n1b") {
		t.Fatal("the next process holds beside the first")
	}
	handed := r.in["n1a"].HandOver(r.now)
	r.settle(asked)
	if r.holds("n1a") {
		t.Fatal("the first process holds what it has handed over")
	}
	if err := next.Adopt(handed, r.now); err != nil {
		t.Fatal(err)
	}
	asked["n1"] = "n1b"
	// The others are quicker, and hear nothing but that it is taken.
	for range 5 {
		r.now += 10 * time.Millisecond
		for _, name := range []string{"n2a", "n3a"} {
			r.in[name].Tick(r.now)
		}
		r.settle(asked)
		if r.holds("n2a") || r.holds("n3a") {
			t.Fatal("another node has taken what was kept")
		}
	}
	for range 20 {
		r.now += 10 * time.Millisecond
		next.Tick(r.now)
		r.settle(asked)
	}
	if !r.holds("n1b") {
		t.Fatal("the next process does not come to hold")
	}
	if s := next.State("web", r.now); s.Epoch <= before {
		t.Errorf("epoch %d follows %d", s.Epoch, before)
	}
	// All three voices, its own among them: it was not quiet.
	if c := next.claims["web"]; len(c.granted) != 3 {
		t.Errorf("it has the voices of %v", slices.Sorted(maps.Keys(c.granted)))
	}
}

func TestWhatIsKeptIsFreeIfTheNextProcessDoesNotCome(t *testing.T) {
	members := []string{"n1", "n2", "n3"}
	r := &room{now: 10 * time.Second, in: map[string]*Machine{
		"n1a": machineOf("n1", 1, 0, members...), "n2a": machineOf("n2", 2, 0, members...), "n3a": machineOf("n3", 3, 0, members...),
	}}
	asked := map[string]string{"n1": "n1a", "n2": "n2a", "n3": "n3a"}
	want := Want{Hold: true, Term: 250 * time.Millisecond, Renew: 80 * time.Millisecond}
	r.in["n1a"].SetWant("web", want, r.now)
	r.settle(asked)
	r.in["n2a"].SetWant("web", want, r.now)
	r.settle(asked)
	r.in["n1a"].HandOver(r.now)
	r.settle(asked)
	for range 200 {
		if r.now += 10 * time.Millisecond; r.holds("n2a") {
			return
		}
		r.in["n2a"].Tick(r.now)
		r.settle(asked)
	}
	t.Fatal("nobody comes to hold")
}

func TestWhatAProcessGrantedBindsTheNext(t *testing.T) {
	members := []string{"n1", "n2", "n3"}
	r := &room{now: 10 * time.Second, in: map[string]*Machine{
		"n1a": machineOf("n1", 1, 0, members...), "n2a": machineOf("n2", 2, 0, members...), "n3a": machineOf("n3", 3, 0, members...),
	}}
	asked := map[string]string{"n1": "n1a", "n2": "n2a", "n3": "n3a"}
	want := Want{Hold: true, Term: 250 * time.Millisecond, Renew: 80 * time.Millisecond}
	r.in["n2a"].SetWant("web", want, r.now)
	r.settle(asked)
	next := machineOf("n1", 4, r.now, members...)
	if err := next.Adopt(r.in["n1a"].HandOver(r.now), r.now); err != nil {
		t.Fatal(err)
	}
	r.in["n1b"], asked["n1"] = next, "n1b"
	if s := next.State("web", r.now); s.Holder != "n2" {
		t.Errorf("the next process knows the holder %q, want n2", s.Holder)
	}
	answer := next.asked(1, Message{Kind: Ask, Resource: "web", Claim: Claim{"n3", 3, 1 << 40}, Seq: 1, View: next.view, Term: time.Second}, r.now)
	if answer.Refusal != RefusedHeld {
		t.Errorf("it answers another claim by %+v", answer)
	}
	if err := next.Adopt([]byte("{"), r.now); err == nil {
		t.Error("bytes that are no voices were taken in")
	}
}
