package lease

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func FuzzDecode(f *testing.F) {
	whole, err := Encode([]Message{
		{Kind: Ask, Resource: "web", Claim: Claim{Node: "n1", Life: 7, Epoch: 3}, Seq: 2, View: 9, Term: time.Second, Rank: 100, Held: true},
		{Kind: Refuse, Resource: "web", Claim: Claim{Node: "n1", Life: 7, Epoch: 3}, Seq: 2, Refusal: RefusedHeld, Holder: "n2", Seen: 3},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add([]byte(`[{"kind":"ask","resource":"web","claim":{"node":"n1"},"term":-1}]`))
	f.Add([]byte(`[{}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		messages, err := Decode(b)
		if err != nil {
			if !errors.Is(err, ErrMessage) {
				t.Fatalf("the error %v is no ErrMessage", err)
			}
			return
		}
		again, err := Encode(messages)
		if err != nil {
			t.Fatal(err)
		}
		back, err := Decode(again)
		if err != nil {
			t.Fatalf("what was encoded cannot be decoded: %v", err)
		}
		if diff := cmp.Diff(messages, back); diff != "" && len(messages) > 0 {
			t.Fatal(diff)
		}
		// Whatever it is, a machine lives through it.
		m := New(Setup{Self: "n2", Chance: func(time.Duration) time.Duration { return 0 }}, 0)
		m.SetMembers([]string{"n1", "n2"}, 0)
		m.SetWant("web", want, 0)
		for i, msg := range messages {
			m.Receive("n1", 1, msg, MaxTerm+time.Duration(i))
		}
		m.Tick(2 * MaxTerm)
	})
}

func TestMessagesThatCannotBeActedOnAreRefused(t *testing.T) {
	good := Message{Kind: Ask, Resource: "web", Claim: Claim{Node: "n1", Epoch: 1}, Term: time.Second}
	for name, change := range map[string]func(*Message){
		"no kind":                   func(m *Message) { m.Kind = "" },
		"no resource":               func(m *Message) { m.Resource = "" },
		"no node":                   func(m *Message) { m.Claim.Node = "" },
		"no term":                   func(m *Message) { m.Term = 0 },
		"too long a term":           func(m *Message) { m.Term = MaxTerm + 1 },
		"epoch that would overflow": func(m *Message) { m.Claim.Epoch = 1<<64 - 1 },
	} {
		t.Run(name, func(t *testing.T) {
			bad := good
			change(&bad)
			for msg, ok := range map[Message]bool{good: true, bad: false} {
				b, err := Encode([]Message{msg})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := Decode(b); (err == nil) != ok {
					t.Errorf("%+v: error %v", msg, err)
				}
			}
		})
	}
}
