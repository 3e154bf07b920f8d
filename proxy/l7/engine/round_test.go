package engine

import (
	"errors"
	"slices"
	"sync"
	"testing"
)

// Whatever the order of posts and sleeps, a loop that waits is woken, and runs
// everything once.
func TestInboxWakesWhoSleeps(t *testing.T) {
	const posters, each = 4, 2000
	var b Inbox
	wakes := make(chan struct{}, 1)
	b.Wake = func() {
		select {
		case wakes <- struct{}{}:
		default:
		}
	}
	ran := 0
	var group sync.WaitGroup
	for range posters {
		group.Go(func() {
			for range each {
				if !b.Post(func() { ran++ }) {
					t.Error("refused before the end")
				}
			}
		})
	}
	for ran < posters*each {
		if !b.Sleep() {
			<-wakes
		}
		b.Awake()
		b.Run()
	}
	group.Wait()
	if ran != posters*each {
		t.Errorf("ran %d, want %d", ran, posters*each)
	}
}

func TestInboxEnd(t *testing.T) {
	woken := 0
	b := Inbox{Wake: func() { woken++ }}
	ran := 0
	b.Post(func() {
		ran++
		b.Post(func() { ran += 100 }) // for the next call
	})
	b.Run()
	if ran != 1 {
		t.Errorf("ran %d, want 1: the second one is for the next round", ran)
	}
	b.End()
	if ran != 101 {
		t.Errorf("ran %d, want 101: what was posted before the end runs", ran)
	}
	b.Sleep()
	if b.Post(func() {}) || woken != 0 {
		t.Errorf("after the end a post is taken, or %d wake", woken)
	}
}

type noting struct {
	Handler
	closed func(error)
}

func (n noting) Closed(err error) { n.closed(err) }

func TestFailuresAreToldOnce(t *testing.T) {
	var f Failures
	var told []string
	one, two := errors.New("one"), errors.New("two")
	f.Add(noting{closed: func(err error) {
		told = append(told, err.Error())
		f.Add(noting{closed: func(err error) { told = append(told, err.Error()) }}, two)
	}}, one)
	if f.Empty() {
		t.Error("it is empty with one in it")
	}
	f.Tell()
	f.Tell()
	if !slices.Equal(told, []string{"one", "two"}) || !f.Empty() {
		t.Errorf("told %v", told)
	}
}

type turn struct {
	a    *Again[*turn]
	ran  int
	more int
}

func (t *turn) Again() {
	t.ran++
	if t.more > 0 {
		t.more--
		t.a.Add(t)
	}
}

func TestAgainIsForTheNextRound(t *testing.T) {
	var a Again[*turn]
	one, two := &turn{a: &a, more: 2}, &turn{a: &a}
	a.Add(one)
	a.Add(two)
	for round, want := range [][2]int{{1, 1}, {2, 1}, {3, 1}, {3, 1}} {
		a.Run()
		if got := [2]int{one.ran, two.ran}; got != want {
			t.Errorf("after round %d: %v, want %v", round+1, got, want)
		}
	}
	if !a.Empty() {
		t.Error("somebody is left")
	}
}

func TestSparesAreBounded(t *testing.T) {
	var s Spares
	s.Give(nil)
	s.Give(make([]byte, 0, spareLimit+1))
	if len(s.list) != 0 {
		t.Errorf("%d kept, want none: nil, or too large", len(s.list))
	}
	for range spareMost + 10 {
		s.Give(make([]byte, 1, spareSize))
	}
	if len(s.list) != spareMost {
		t.Errorf("%d kept, want %d", len(s.list), spareMost)
	}
	if b := s.Take(); len(b) != 0 || cap(b) != spareSize {
		t.Errorf("took one of %d of %d bytes", len(b), cap(b))
	}
}
