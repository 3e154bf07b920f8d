package shed

import "sync/atomic"

// connections counts open connections by key, exactly, in a table of fixed
// size. Each entry is one word:
//
//	bits 0 to 22   connections
//	bits 23, 24    claimed, or spoiled; neither: a member
//	bits 25 to 63  the lower 39 bits of the key
//
// A word of 0 is free. A key may be in one of two sets of eight words, as in
// [rates]; two keys are taken for one, and share a count, if they have a set and
// those 39 bits in common.
//
// To be exact, a key must have one member at most. A new one is entered as in
// Purcell and Harris, "Non-blocking Hashtables with Open Addressing" (2005): it
// is claimed first; its claimer then looks through both sets, gives way to a
// member of the same key, and spoils other claims for it; and it becomes a
// member only if nobody has spoiled it meanwhile. Of two claimers the later one
// sees the earlier one's claim in any case, so that not both come through.
// Members are found by the word's position afterwards, and freed by the release
// of the last connection.
type connections struct {
	words []atomic.Uint64

	limit atomic.Int64 // of each key; 0: off
}

const (
	countMask = 1<<23 - 1
	claimed   = 1 << 23
	spoiled   = 1 << 24
	keyShift  = 25
	keyMask   = ^uint64(1<<keyShift - 1)

	maxConnections = countMask
)

func newConnections(clients int) *connections {
	return &connections{words: make([]atomic.Uint64, setsFor(clients)*setSize)}
}

// acquire counts one more connection of key and returns its position.
// noEntry, or conforms at position -1: it is not counted.
func (c *connections) acquire(key uint64) (at int, o outcome) {
	limit := uint64(c.limit.Load())
	if limit == 0 {
		return -1, conforms
	}
	tag := key << keyShift
	sets := choices(key, len(c.words)/setSize)
	for {
		free := -1
		for _, set := range sets {
			for i := int(set) * setSize; i < int(set+1)*setSize; i++ {
				w := c.words[i].Load()
				switch {
				case w == 0:
					if free < 0 {
						free = i
					}
				case w&(keyMask|claimed|spoiled) != tag:
				case w&countMask >= limit:
					return 0, exceeds
				case c.words[i].CompareAndSwap(w, w+1):
					return i, conforms
				default:
					i-- // it has changed: look again
				}
			}
		}
		if free < 0 {
			return 0, noEntry
		}
		if c.enter(free, tag, sets) {
			return free, conforms
		}
	}
}

// enter makes the word at a member of tag with one connection, unless it or the
// key is taken meanwhile.
func (c *connections) enter(at int, tag uint64, sets [2]uint64) bool {
	claim := tag | claimed | 1
	if !c.words[at].CompareAndSwap(0, claim) {
		return false
	}
	for _, set := range sets {
		for i := int(set) * setSize; i < int(set+1)*setSize; i++ {
			for i != at {
				w := c.words[i].Load()
				if w&keyMask != tag || w == 0 || w&spoiled != 0 {
					break
				}
				if w&claimed == 0 {
					c.words[at].Store(0) // the key has a member
					return false
				}
				if c.words[i].CompareAndSwap(w, w|spoiled) {
					break
				}
			}
		}
	}
	if !c.words[at].CompareAndSwap(claim, tag|1) {
		c.words[at].Store(0) // spoiled
		return false
	}
	return true
}

// release takes one connection from the word at that acquire returned.
func (c *connections) release(at int) {
	for {
		w := c.words[at].Load()
		next := w - 1
		switch w & countMask {
		case 0:
			panic("shed: a client's connection was released that was not counted")
		case 1:
			next = 0
		}
		if c.words[at].CompareAndSwap(w, next) {
			return
		}
	}
}
