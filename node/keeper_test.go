package node

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pharos-lb/pharos/cluster/fsm"
	"github.com/pharos-lb/pharos/cluster/registry"
	"github.com/pharos-lb/pharos/cluster/security"
	"github.com/pharos-lb/pharos/cluster/store"
	"github.com/pharos-lb/pharos/proxy/policy/sticky"
	"github.com/pharos-lb/pharos/proxy/tls"
)

// ballot is a keyCluster of one state, for several keepers.
type ballot struct {
	mu       sync.Mutex
	state    fsm.State
	leader   string
	changed  chan struct{}
	fault    error // of Submit
	puts     int
	barriers int
}

func newBallot(leader string) *ballot {
	return &ballot{state: fsm.New(), leader: leader, changed: make(chan struct{})}
}

func (b *ballot) lead(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.leader = name
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *ballot) WatchLeader() (string, string, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.leader, "", b.changed
}

func (b *ballot) Barrier(context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.barriers++
	return nil
}

func (b *ballot) State() fsm.State {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state
}

func (b *ballot) Submit(_ context.Context, c fsm.Command) (result fsm.Result, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fault != nil {
		return result, b.fault
	}
	b.puts++
	c.At = time.Now()
	b.state, result = b.state.Apply(c)
	return result, nil
}

// count is how many commands came, once the keepers rest.
func (b *ballot) count() int {
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.puts
}

func identityOf(t *testing.T) *security.Identity {
	t.Helper()
	id, err := security.Create(t.TempDir(), "n1")
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// keep runs keepers of these names until the test ends.
func keep(t *testing.T, b *ballot, id *security.Identity, names ...string) {
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	for _, name := range names {
		k := keeper{self: name, cluster: b, secrets: id, now: time.Now, logger: slog.New(slog.DiscardHandler)}
		group.Go(func() { _ = k.Run(ctx) })
	}
	t.Cleanup(func() { cancel(); group.Wait() })
}

func TestTheLeaderMakesAndChangesTheSharedKeys(t *testing.T) {
	id := identityOf(t)
	synctest.Test(t, func(t *testing.T) {
		b := newBallot("n1")
		keep(t, b, id, "n1", "n2")
		synctest.Wait()
		first := b.State().Desired
		if b.count() != 2 || len(first.Keys[fsm.TicketKeys].Keys) != 1 || len(first.Keys[fsm.CookieKeys].Keys) != 1 {
			t.Fatalf("%d puts, keys %+v", b.count(), first.Keys)
		}
		time.Sleep(tls.RotationPeriod - keyCheck)
		if b.count() != 2 {
			t.Fatal("keys changed before their time")
		}
		time.Sleep(2 * keyCheck)
		synctest.Wait()
		second := b.State().Desired
		tickets, err := ticketKeys(second, id)
		if err != nil || len(tickets) != 2 || !tickets[0].Encrypt || tickets[1].Encrypt {
			t.Fatalf("after %v: %+v, %v", tls.RotationPeriod, tickets, err)
		}
		old, err := ticketKeys(first, id)
		if err != nil || old[0] != tickets[0] || tickets[1].Key == tickets[0].Key {
			t.Errorf("the first key did not stay: %v", err)
		}
		if b.count() != 3 {
			t.Errorf("%d puts", b.count())
		}

		// Another node leads, and goes on where the first one was.
		b.lead("n2")
		time.Sleep(tls.RotationPeriod)
		synctest.Wait()
		third, err := ticketKeys(b.State().Desired, id)
		if err != nil || len(third) != 3 || third[0].Encrypt || !third[1].Encrypt || third[2].Encrypt || third[1].Key != tickets[1].Key {
			t.Errorf("under another leader: %+v, %v", third, err)
		}
		b.lead("")
		puts := b.count()
		time.Sleep(3 * tls.RotationPeriod)
		if b.count() != puts {
			t.Error("keys changed without a leader")
		}
		// A barrier is an entry of the log: an idle cluster must not write one a minute.
		if b.barriers > puts {
			t.Errorf("%d barriers for %d changes", b.barriers, puts)
		}
	})
}

func TestACookieKeyIsReadEverywhereBeforeItMakes(t *testing.T) {
	id := identityOf(t)
	synctest.Test(t, func(t *testing.T) {
		b := newBallot("n1")
		keep(t, b, id, "n1")
		synctest.Wait()
		keys := func() []sticky.Key {
			t.Helper()
			synctest.Wait()
			all, err := cookieKeys(b.State().Desired, id)
			if err != nil {
				t.Fatal(err)
			}
			return all
		}
		first := keys()
		if len(first) != 1 {
			t.Fatalf("%d keys", len(first))
		}
		time.Sleep(cookieRotation + keyCheck)
		second := keys()
		if len(second) != 2 || second[0] != first[0] {
			t.Fatalf("a new key makes cookies before all nodes have it")
		}
		time.Sleep(cookieNotice + keyCheck)
		third := keys()
		if len(third) != 2 || third[0] != second[1] || third[1] != first[0] {
			t.Fatalf("the new key does not make after its notice")
		}
		// From then on there are three, four during a notice, and the one that
		// made before is always read.
		makes := third[0]
		for range 8 {
			time.Sleep(cookieRotation / 2)
			now := keys()
			if len(now) < 2 || len(now) > cookieKept+2 {
				t.Fatalf("%d keys", len(now))
			}
			read := false
			for _, k := range now {
				read = read || k == makes
			}
			if !read {
				t.Fatal("the key that made cookies 15 days ago is not read")
			}
			makes = now[0]
		}
	})
}

func TestTheKeeperTriesAgain(t *testing.T) {
	id := identityOf(t)
	synctest.Test(t, func(t *testing.T) {
		b := newBallot("n1")
		b.fault = store.ErrNoLeader
		keep(t, b, id, "n1")
		synctest.Wait()
		b.mu.Lock()
		b.fault = nil
		b.mu.Unlock()
		time.Sleep(keyRetry + time.Second)
		if b.count() != 2 {
			t.Errorf("%d puts", b.count())
		}
	})
}

// A key that came by a clock far ahead does not stop the changes until that
// time comes.
func TestAKeyFromTheFutureIsNotWaitedFor(t *testing.T) {
	id := identityOf(t)
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	ahead := now.AddDate(10, 0, 0)
	d := fsm.Desired{Keys: map[fsm.KeyKind]fsm.KeySet{fsm.CookieKeys: {Keys: nextCookieKeys(fsm.Desired{}, id, ahead)}}}
	if keys := nextCookieKeys(d, id, now); len(keys) != 2 {
		t.Errorf("got %+v", keys)
	}
	d.Keys[fsm.CookieKeys] = fsm.KeySet{Keys: []fsm.Key{newCookieKey(id, now, true), newCookieKey(id, ahead, false)}}
	if keys := nextCookieKeys(d, id, now); len(keys) != 2 || !keys[1].Makes {
		t.Errorf("got %+v", keys)
	}
}

func TestSharedKeysThatCannotBeOpenedAreAnError(t *testing.T) {
	id, stranger := identityOf(t), identityOf(t)
	for _, kind := range []fsm.KeyKind{fsm.TicketKeys, fsm.CookieKeys} {
		key := newCookieKey(id, time.Now(), true)
		key.Sealed = stranger.SealSecret(keyPurpose(kind, key.ID), strings.Repeat("k", 32))
		short := key
		short.Sealed = id.SealSecret(keyPurpose(kind, key.ID), "short")
		swapped := key
		swapped.Sealed = id.SealSecret(keyPurpose(kind, "another"), strings.Repeat("k", 32))
		for name, k := range map[string]fsm.Key{"of another cluster": key, "too short": short, "of another id": swapped} {
			t.Run(fmt.Sprintf("%s key %s", kind, name), func(t *testing.T) {
				d := fsm.Desired{Keys: map[fsm.KeyKind]fsm.KeySet{kind: {Keys: []fsm.Key{k}}}}
				keys, err := openKeys(d, kind, id)
				if err == nil || len(keys) > 0 || !strings.Contains(err.Error(), k.ID) {
					t.Errorf("got %d keys, %v", len(keys), err)
				}
				if kind == fsm.TicketKeys {
					if _, err := translate(d, id); err == nil {
						t.Error("it is served all the same")
					}
				}
			})
		}
	}
}

func TestTranslateOpensWhatIsSealed(t *testing.T) {
	id := identityOf(t)
	tickets, err := nextTicketKeys(fsm.Desired{}, id, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	d := fsm.FromSnapshot(registry.Snapshot{Version: 1})
	d.Keys = map[fsm.KeyKind]fsm.KeySet{fsm.TicketKeys: {Version: 1, Keys: tickets}}
	pc, err := translate(d, id)
	if err != nil || len(pc.TicketKeys) != 1 || !pc.TicketKeys[0].Encrypt || pc.TicketKeys[0].Key == [32]byte{} {
		t.Errorf("got %+v, %v", pc.TicketKeys, err)
	}
}
