package route

import "hash/maphash"

// index finds the child of a node by its name. It is one hash table for all
// nodes of a tree, laid out so that a look-up touches two or three cache lines:
// with a map for each node, ten thousand routes cost several times what ten do.
type index struct {
	seed  maphash.Seed
	slots []slot // a power of two of them, some free; linear probing
	names []byte
}

// slot is one edge of the tree. child is never 0 in use.
type slot struct {
	parent, child, name uint32 // name: where it begins in names
	length, tag         uint16 // of the name; bits of its hash
}

// newIndex makes an index of at most n edges.
func newIndex(n int) index {
	size := 4
	for size*2 < n*3 { // at most two thirds full
		size *= 2
	}
	return index{seed: maphash.MakeSeed(), slots: make([]slot, size)}
}

// add adds an edge. The name must be new to the parent, and fit into a slot:
// hosts and paths of rules are bounded far below that.
func (x *index) add(parent uint32, name string, child uint32) {
	i, tag := x.place(maphash.String(x.seed, name), parent)
	for x.slots[i].child != 0 {
		i = (i + 1) % len(x.slots)
	}
	x.slots[i] = slot{parent: parent, child: child, name: uint32(len(x.names)), length: uint16(len(name)), tag: tag}
	x.names = append(x.names, name...)
}

// child returns the parent's child of this name, 0 if there is none.
func (x *index) child(parent uint32, name []byte) uint32 {
	i, tag := x.place(maphash.Bytes(x.seed, name), parent)
	for {
		s := &x.slots[i]
		if s.child == 0 {
			return 0
		}
		if s.tag == tag && s.parent == parent && int(s.length) == len(name) && string(x.names[s.name:][:s.length]) == string(name) {
			return s.child
		}
		i = (i + 1) & (len(x.slots) - 1)
	}
}

// place is where the search for an edge begins.
func (x *index) place(hash uint64, parent uint32) (i int, tag uint16) {
	hash ^= uint64(parent) * 0x9e3779b97f4a7c15 // spreads the parents' numbers
	return int(hash) & (len(x.slots) - 1), uint16(hash >> 48)
}
