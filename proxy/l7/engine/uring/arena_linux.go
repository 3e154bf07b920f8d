package uring

import "golang.org/x/sys/unix"

// arena holds what is to be sent in this round: small pieces, side by side.
// The kernel takes them, or refuses them, as they are submitted, so that the
// memory is used again in the next round, and stays in the processor's cache.
//
// It is outside Go's heap: a piece must stay where it is, and untouched,
// until its completion has come, whatever becomes of its connection.
type arena struct {
	current *chunk
	free    []*chunk
	all     []*chunk
}

const (
	chunkSize = 256 << 10
	maxChunks = 8
)

// chunk is some of the arena's memory, filled from its beginning.
type chunk struct {
	mem  []byte
	used int
	refs int // pieces that are not completed; at 0, all is free again
}

// piece is bytes in a chunk.
type piece struct {
	chunk    *chunk
	off, len int
}

func (p piece) bytes() []byte { return p.chunk.mem[p.off : p.off+p.len] }

// add copies b; false when the arena is full.
func (a *arena) add(b []byte) (piece, bool) {
	if a.current == nil || a.current.used+len(b) > chunkSize {
		if !a.next() {
			return piece{}, false
		}
	}
	c := a.current
	p := piece{c, c.used, copy(c.mem[c.used:], b)}
	c.used += p.len
	c.refs++
	return p, true
}

// extend appends b to p, in its place if that is possible; false when the
// arena is full, and p is as it was.
func (a *arena) extend(p *piece, b []byte) bool {
	if c := p.chunk; p.off+p.len == c.used && c.used+len(b) <= chunkSize {
		p.len += copy(c.mem[c.used:], b)
		c.used = p.off + p.len
		return true
	}
	if c := a.current; p.len+len(b) > chunkSize-c.used && !a.next() {
		return false
	}
	old := *p
	*p, _ = a.add(old.bytes())
	a.extend(p, b)
	a.release(old)
	return true
}

// release gives a piece back.
func (a *arena) release(p piece) {
	c := p.chunk
	if c.refs--; c.refs > 0 {
		return
	}
	c.used = 0
	if c != a.current {
		a.free = append(a.free, c)
	}
}

// next makes a chunk without pieces the current one.
func (a *arena) next() bool {
	if n := len(a.free); n > 0 {
		a.current, a.free = a.free[n-1], a.free[:n-1]
		return true
	}
	if len(a.all) == maxChunks {
		return false
	}
	mem, err := unix.Mmap(-1, 0, chunkSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return false
	}
	a.current = &chunk{mem: mem}
	a.all = append(a.all, a.current)
	return true
}

// close frees the memory. Nothing may be under way.
func (a *arena) close() {
	for _, c := range a.all {
		_ = unix.Munmap(c.mem)
	}
}
