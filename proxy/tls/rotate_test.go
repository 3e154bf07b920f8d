package tls

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var epoch = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

// summary is the keys in few words: + encrypts, - decrypts only.
func summary(keys []TicketKeyRecord) string {
	s := ""
	for _, k := range keys {
		if k.Encrypt {
			s += k.ID + "+ "
		} else {
			s += k.ID + "- "
		}
	}
	return s
}

func TestRotate(t *testing.T) {
	var keys []TicketKeyRecord
	now := epoch
	for i, want := range []string{"0+ ", "0+ 1- ", "0- 1+ 2- ", "0- 1- 2+ 3- ", "1- 2- 3+ 4- ", "2- 3- 4+ 5- "} {
		if !RotationDue(keys, now) {
			t.Fatalf("no key is due at %v", now)
		}
		keys = Rotate(keys, fmt.Sprint(i), [32]byte{byte(i + 1)}, now)
		if got := summary(keys); got != want {
			t.Errorf("after %d rotations: %q, want %q", i, got, want)
		}
		if err := ValidateTicketKeys(TicketKeys(keys)); err != nil {
			t.Errorf("after %d rotations: %v", i, err)
		}
		now = now.Add(RotationPeriod - time.Second)
		if same := Rotate(keys, "early", [32]byte{99}, now); !cmp.Equal(same, keys) {
			t.Errorf("a key that is not due was taken: %q", summary(same))
		}
		now = now.Add(time.Second)
	}
}

func TestRotateWithWrongClocks(t *testing.T) {
	keys := Rotate(nil, "a", [32]byte{1}, epoch.Add(10000*time.Hour))
	if RotationDue(keys, epoch.Add(9999*time.Hour)) {
		t.Error("a clock that is an hour behind makes a key due")
	}
	if !RotationDue(keys, epoch) {
		t.Error("a key from the far future puts all others off")
	}
	now := epoch
	for i := range 3 * maxTicketKeys { // each time from a clock further back
		now = now.Add(-100 * time.Hour)
		keys = Rotate(keys, fmt.Sprint(i), [32]byte{byte(i + 2)}, now)
	}
	if len(keys) > maxTicketKeys {
		t.Errorf("%d keys are kept", len(keys))
	}
	if err := ValidateTicketKeys(TicketKeys(keys)); err != nil {
		t.Error(err)
	}
	if same := Rotate(keys, keys[0].ID, [32]byte{200}, now.Add(100*time.Hour)); !cmp.Equal(same, keys) {
		t.Error("an ID was taken twice")
	}
}

// A ticket made by any node decrypts on every node that is at the same version
// of the keys or one step apart, as long as it has not ended. Nodes ask for
// rotations when they like, with clocks that differ a little.
func TestTicketsDecryptOneVersionApart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := epoch
		versions := [][]TicketKeyRecord{nil}
		made := map[string]time.Time{} // until when a key's tickets live
		for i := range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(30*time.Hour)).Draw(t, "wait")))
			skew := time.Duration(rapid.Int64Range(-int64(time.Minute), int64(time.Minute)).Draw(t, "skew"))
			before := versions[len(versions)-1]
			after := Rotate(before, fmt.Sprint(i), [32]byte{byte(i), 1}, now.Add(skew))
			for _, k := range before {
				if k.Encrypt {
					made[k.ID] = now.Add(TicketLifetime)
				}
			}
			if cmp.Equal(before, after) {
				continue
			}
			versions = append(versions, after)
			if err := ValidateTicketKeys(TicketKeys(after)); err != nil {
				t.Fatal(err)
			}
			// What lives is decrypted, but for what the clocks differ by.
			held := map[string]bool{}
			for _, k := range after {
				held[k.ID] = true
			}
			for id, until := range made {
				if now.Add(2*time.Minute).Before(until) && !held[id] {
					t.Fatalf("key %s was dropped at %v, and its tickets live until %v", id, now, until)
				}
			}
		}
		for v := 1; v < len(versions); v++ {
			maker, err := newTickets(TicketKeys(versions[v]), func() time.Time { return epoch })
			if err != nil {
				t.Fatal(err)
			}
			ticket, err := maker.seal([]byte("state"), nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, other := range []int{v - 1, v, v + 1} {
				if other < 1 || other >= len(versions) {
					continue // before the first key, there is no resumption
				}
				taker, err := newTickets(TicketKeys(versions[other]), func() time.Time { return epoch })
				if err != nil {
					t.Fatal(err)
				}
				if string(taker.open(ticket, nil)) != "state" {
					t.Fatalf("a ticket of %q does not decrypt with %q", summary(versions[v]), summary(versions[other]))
				}
			}
		}
	})
}
