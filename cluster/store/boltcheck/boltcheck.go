// Package boltcheck looks whether a bbolt file is sound before bbolt opens it.
// Bbolt maps the file and trusts what it finds there: on a damaged or truncated
// one it panics, faults, or loops, in goroutines that nobody can recover. This
// package reads the same structures with bounds, as plain bytes, and reports the first
// thing that is wrong.
//
// The format is that of bbolt 1.3 (version 2), in the byte order of the
// machine, which is little-endian on all that we build for. Bbolt keeps a
// checksum of its two meta pages alone: what the values hold is for their
// owner to check.
package boltcheck

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
)

const (
	magic      = 0xED0CDAED
	version    = 2
	headerSize = 16 // id u64, flags u16, count u16, overflow u32
	elemSize   = 16
	metaSize   = 64
	bucketSize = 16 // root u64, sequence u64

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagFreelist = 0x10

	leafIsBucket = 0x01

	noFreelist = 1<<64 - 1
	maxDepth   = 64 // of a tree; bbolt's are a handful deep
)

// Visit is called for every key of every bucket, in order. The slices are only
// valid during the call.
type Visit func(bucket string, key, value []byte) error

type meta struct {
	pageSize uint32
	root     uint64
	freelist uint64
	pages    uint64 // the number of pages in use: all ids are lower
	txid     uint64
}

type checker struct {
	r     io.ReaderAt
	meta  meta
	seen  map[uint64]bool // pages that something points to, overflow included
	visit Visit
}

// Check reads the file of size bytes. Of its two meta pages one may be bad,
// since a crash while it is written leaves it so by design. The first fault
// found is the error, as is the first of visit. pageSize is the machine's,
// which bbolt uses when the first meta page is unreadable.
func Check(r io.ReaderAt, size int64, pageSize int, visit Visit) error {
	m, err := readMeta(r, size, pageSize)
	if err != nil {
		return err
	}
	if need := m.pages * uint64(m.pageSize); m.pages > uint64(size)/uint64(m.pageSize) {
		return fmt.Errorf("it is truncated: %d bytes of at least %d", size, need)
	}
	c := &checker{r: r, meta: m, seen: map[uint64]bool{0: true, 1: true}, visit: visit}
	if err := c.tree(m.root, "", 0, nil); err != nil {
		return err
	}
	return c.freelist()
}

// readMeta gives the newer of the sound meta pages.
func readMeta(r io.ReaderAt, size int64, pageSize int) (meta, error) {
	first, err := metaAt(r, 0)
	if err == nil {
		pageSize = int(first.pageSize)
	}
	if !soundPageSize(pageSize) {
		return meta{}, fmt.Errorf("its page size is %d", pageSize)
	}
	second, err2 := metaAt(r, int64(pageSize))
	switch {
	case err != nil && err2 != nil:
		return meta{}, fmt.Errorf("neither of its two meta pages is sound: %w", err)
	case err2 == nil && int(second.pageSize) != pageSize:
		return meta{}, fmt.Errorf("its meta pages disagree on the page size: %d and %d", pageSize, second.pageSize)
	case err != nil || err2 == nil && second.txid > first.txid:
		first = second
	}
	if first.root < 2 || first.root >= first.pages {
		return meta{}, fmt.Errorf("its root is page %d of %d", first.root, first.pages)
	}
	return first, nil
}

func soundPageSize(n int) bool { return n >= 1024 && n <= 1<<16 && n&(n-1) == 0 }

func metaAt(r io.ReaderAt, off int64) (meta, error) {
	var b [headerSize + metaSize]byte
	if _, err := r.ReadAt(b[:], off); err != nil {
		return meta{}, fmt.Errorf("read its meta page: %w", err)
	}
	// Bbolt does not look at the page's header, so neither may this: they must
	// choose the same of the two.
	p := b[headerSize:]
	le := binary.LittleEndian
	sum := fnv.New64a()
	_, _ = sum.Write(p[:56]) // a hash never fails
	switch {
	case le.Uint32(p) != magic:
		return meta{}, errors.New("this is no bolt file")
	case le.Uint32(p[4:]) != version:
		return meta{}, fmt.Errorf("bolt format %d is unknown", le.Uint32(p[4:]))
	case sum.Sum64() != le.Uint64(p[56:]):
		return meta{}, errors.New("checksum mismatch")
	}
	return meta{
		pageSize: le.Uint32(p[8:]), root: le.Uint64(p[16:]), freelist: le.Uint64(p[32:]),
		pages: le.Uint64(p[40:]), txid: le.Uint64(p[48:]),
	}, nil
}

// page reads a page with its overflow, and marks it as used.
func (c *checker) page(id uint64) ([]byte, error) {
	if id < 2 || id >= c.meta.pages {
		return nil, fmt.Errorf("something points to page %d of %d", id, c.meta.pages)
	}
	size := uint64(c.meta.pageSize)
	var head [headerSize]byte
	if _, err := c.r.ReadAt(head[:], int64(id*size)); err != nil {
		return nil, fmt.Errorf("read page %d: %w", id, err)
	}
	if got := binary.LittleEndian.Uint64(head[:]); got != id {
		return nil, fmt.Errorf("page %d says that it is page %d", id, got)
	}
	overflow := uint64(binary.LittleEndian.Uint32(head[12:]))
	if overflow >= c.meta.pages-id {
		return nil, fmt.Errorf("page %d overflows into %d pages of %d", id, overflow, c.meta.pages)
	}
	for i := id; i <= id+overflow; i++ {
		if c.seen[i] {
			return nil, fmt.Errorf("page %d is used twice", i)
		}
		c.seen[i] = true
	}
	b := make([]byte, (overflow+1)*size)
	if _, err := c.r.ReadAt(b, int64(id*size)); err != nil {
		return nil, fmt.Errorf("read page %d: %w", id, err)
	}
	return b, nil
}

// tree checks a page of a bucket's tree, and all below it. Keys must rise from
// lowest on.
func (c *checker) tree(id uint64, bucket string, depth int, lowest []byte) error {
	if depth > maxDepth {
		return fmt.Errorf("the tree is deeper than %d pages", maxDepth)
	}
	b, err := c.page(id)
	if err != nil {
		return err
	}
	return c.node(b, fmt.Sprintf("page %d", id), bucket, depth, lowest)
}

func (c *checker) node(b []byte, where, bucket string, depth int, lowest []byte) error {
	le := binary.LittleEndian
	flags, count := le.Uint16(b[8:]), int(le.Uint16(b[10:]))
	if headerSize+count*elemSize > len(b) {
		return fmt.Errorf("%s has room for fewer than its %d elements", where, count)
	}
	if flags == flagBranch && count == 0 {
		return fmt.Errorf("%s is a branch without elements", where)
	}
	if flags != flagBranch && flags != flagLeaf {
		return fmt.Errorf("%s is neither branch nor leaf: flags %#x", where, flags)
	}
	previous, strict := lowest, false
	for i := range count {
		at := headerSize + i*elemSize
		var pos, ksize, vsize, kind uint32
		if flags == flagBranch {
			pos, ksize = le.Uint32(b[at:]), le.Uint32(b[at+4:])
		} else {
			kind, pos, ksize, vsize = le.Uint32(b[at:]), le.Uint32(b[at+4:]), le.Uint32(b[at+8:]), le.Uint32(b[at+12:])
		}
		start := uint64(at) + uint64(pos)
		end := start + uint64(ksize) + uint64(vsize)
		if start < uint64(headerSize+count*elemSize) || end > uint64(len(b)) {
			return fmt.Errorf("%s: element %d lies outside of the page", where, i)
		}
		key := b[start : start+uint64(ksize)]
		if order := bytes.Compare(key, previous); order < 0 || order == 0 && strict {
			return fmt.Errorf("%s: key %d is out of order", where, i)
		}
		previous, strict = key, true
		if flags == flagBranch {
			if err := c.tree(le.Uint64(b[at+8:]), bucket, depth+1, key); err != nil {
				return err
			}
			continue
		}
		if err := c.element(kind, where, bucket, depth, key, b[start+uint64(ksize):end]); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) element(kind uint32, where, bucket string, depth int, key, value []byte) error {
	switch kind {
	case 0:
		if bucket == "" {
			return fmt.Errorf("%s: %q is no bucket", where, key) // bbolt would give a nil one
		}
		if c.visit == nil {
			return nil
		}
		return c.visit(bucket, key, value)
	case leafIsBucket:
	default:
		return fmt.Errorf("%s: key %q has the unknown flags %#x", where, key, kind)
	}
	if len(value) < bucketSize {
		return fmt.Errorf("%s: bucket %q is cut short", where, key)
	}
	name := string(key)
	if bucket != "" {
		name = bucket + "/" + name
	}
	if root := binary.LittleEndian.Uint64(value); root != 0 {
		return c.tree(root, name, depth+1, nil)
	}
	inline := value[bucketSize:] // a small bucket's only page, within the value
	if len(inline) < headerSize {
		return fmt.Errorf("%s: bucket %q is cut short", where, key)
	}
	if flags := binary.LittleEndian.Uint16(inline[8:]); flags != flagLeaf {
		return fmt.Errorf("%s: bucket %q has the flags %#x", where, key, flags)
	}
	return c.node(inline, fmt.Sprintf("bucket %q", name), name, depth+1, nil)
}

// freelist checks that no page is both free and used: bbolt would overwrite it.
func (c *checker) freelist() error {
	id := c.meta.freelist
	if id == noFreelist {
		return nil
	}
	b, err := c.page(id)
	if err != nil {
		return fmt.Errorf("the list of free pages: %w", err)
	}
	le := binary.LittleEndian
	if flags := le.Uint16(b[8:]); flags != flagFreelist {
		return fmt.Errorf("page %d is not the list of free pages: flags %#x", id, flags)
	}
	count, ids := uint64(le.Uint16(b[10:])), b[headerSize:]
	if count == 0xFFFF { // too many for 16 bits: the first entry is the count
		count, ids = le.Uint64(ids), ids[8:]
	}
	if count > uint64(len(ids)/8) {
		return fmt.Errorf("the list of free pages has no room for its %d", count)
	}
	for i := range count {
		free := le.Uint64(ids[i*8:])
		if free < 2 || free >= c.meta.pages {
			return fmt.Errorf("the free page %d is not one of %d", free, c.meta.pages)
		}
		if c.seen[free] {
			return fmt.Errorf("page %d is both free and used, or free twice", free)
		}
		c.seen[free] = true
	}
	return nil
}
