package http2

import (
	"hash/maphash"
	"strconv"

	"github.com/pharos-lb/pharos/proxy/l7/http1"
)

// encoder writes header blocks (RFC 7541). It has its own dynamic table,
// instead of package hpack's: that one makes strings of all fields, looks each
// up in four maps, and remembers every one, so that fields which never come
// again drive out those that do.
//
// This one remembers a field when it comes for the second time. Huffman codes
// are not used: with the table most fields are one byte, and for the others
// the time counts for more.
type encoder struct {
	limit   int        // of size
	size    int        // as RFC 7541 section 4.1 counts it
	entries []entry    // the newest is the last
	hashes  []uint32   // of entries
	once    [64]uint32 // hashes of the last fields that were not in the table
	next    int        // in once

	resized bool   // the peer was not told of the limit
	name    []byte // scratch
}

type entry struct {
	name int    // its length
	text string // name and value
}

// entryOverhead is what an entry counts beyond its bytes; fields above
// maxEntry are not worth the others that they would drive out.
const (
	entryOverhead = 32
	maxEntry      = tableSize / 4
)

var hashSeed = maphash.MakeSeed()

// resize applies the peer's limit of the table. It only ever shrinks: growing
// again would need two updates in a block (RFC 7541 section 4.2), which some
// decoders refuse, and peers hardly ever ask for it.
func (e *encoder) resize(limit int) {
	if limit < e.limit {
		e.limit = limit
		e.resized = true
		e.evict()
	}
}

// begin begins a block: with the change of the table, if there was one.
func (e *encoder) begin(dst []byte) []byte {
	if e.resized {
		e.resized = false
		dst = appendInteger(dst, 0x20, 5, e.limit)
	}
	return dst
}

func (e *encoder) evict() {
	for e.size > e.limit {
		e.size -= len(e.entries[0].text) + entryOverhead
		e.entries[0].text = ""
		e.entries, e.hashes = e.entries[1:], e.hashes[1:]
	}
}

// status appends :status.
func (e *encoder) status(dst []byte, status int) []byte {
	switch status {
	case 200:
		return append(dst, 0x80|8)
	case 204:
		return append(dst, 0x80|9)
	case 206:
		return append(dst, 0x80|10)
	case 304:
		return append(dst, 0x80|11)
	case 400:
		return append(dst, 0x80|12)
	case 404:
		return append(dst, 0x80|13)
	case 500:
		return append(dst, 0x80|14)
	}
	var digits [3]byte
	return e.field(dst, []byte(":status"), strconv.AppendInt(digits[:0], int64(status), 10))
}

// requestLine appends the pseudo-header fields of a request.
func (e *encoder) requestLine(dst []byte, req *Request) []byte {
	switch string(req.Method) {
	case "GET":
		dst = append(dst, 0x80|2)
	case "POST":
		dst = append(dst, 0x80|3)
	default:
		dst = e.field(dst, []byte(":method"), req.Method)
	}
	if string(req.Scheme) == "https" {
		dst = append(dst, 0x80|7)
	} else {
		dst = append(dst, 0x80|6)
	}
	if len(req.Authority) > 0 {
		dst = e.field(dst, []byte(":authority"), req.Authority)
	}
	if string(req.Path) == "/" {
		return append(dst, 0x80|4)
	}
	return e.field(dst, []byte(":path"), req.Path)
}

// fields appends those fields that may go from one hop to the next.
func (e *encoder) fields(dst []byte, fields []http1.Field, withoutLength bool) []byte {
	for i := range fields {
		switch f := &fields[i]; f.Kind {
		case http1.Host, http1.TransferEncoding, http1.Connection, http1.HopByHop, http1.Upgrade, http1.Dropped:
		case http1.ContentLength:
			if !withoutLength {
				dst = e.field(dst, f.Name, f.Value)
			}
		default:
			dst = e.field(dst, f.Name, f.Value)
		}
	}
	return dst
}

// field appends one field, its name in lower case.
func (e *encoder) field(dst, name, value []byte) []byte {
	name = e.lower(name)
	static := staticIndex(name)
	switch static {
	case indexAuthorization, indexProxyAuthorization, indexCookie, indexSetCookie:
		// Secrets stay out of tables (RFC 7541 section 7.1.3).
		return appendLiteral(dst, 0x10, 4, static, name, value)
	}
	size := len(name) + len(value) + entryOverhead
	if size > maxEntry || size > e.limit {
		return appendLiteral(dst, 0, 4, static, name, value)
	}
	hash := hashField(name, value)
	if i := e.find(hash, name, value); i > 0 {
		return appendInteger(dst, 0x80, 7, i)
	}
	if !e.again(hash) {
		return appendLiteral(dst, 0, 4, static, name, value)
	}
	e.insert(hash, name, value)
	return appendLiteral(dst, 0x40, 6, static, name, value)
}

func hashField(name, value []byte) uint32 {
	h := maphash.Bytes(hashSeed, name)*31 + maphash.Bytes(hashSeed, value)
	return uint32(h ^ h>>32)
}

// find returns the index of a field in the table; 0 if it is not there.
func (e *encoder) find(hash uint32, name, value []byte) int {
	for i := len(e.hashes) - 1; i >= 0; i-- {
		if e.hashes[i] != hash {
			continue
		}
		if t := &e.entries[i]; t.name == len(name) && t.text[:t.name] == string(name) && t.text[t.name:] == string(value) {
			return staticEntries + len(e.entries) - i // the newest comes first
		}
	}
	return 0
}

// again reports whether a field came before, not long ago.
func (e *encoder) again(hash uint32) bool {
	for _, h := range e.once {
		if h == hash {
			return true
		}
	}
	e.once[e.next] = hash
	e.next = (e.next + 1) % len(e.once)
	return false
}

func (e *encoder) insert(hash uint32, name, value []byte) {
	e.size += len(name) + len(value) + entryOverhead
	e.evict()
	text := make([]byte, 0, len(name)+len(value))
	text = append(append(text, name...), value...)
	e.entries = append(e.entries, entry{name: len(name), text: string(text)})
	e.hashes = append(e.hashes, hash)
}

// lower returns the name in lower case, which HTTP/1.1 does not ask for.
func (e *encoder) lower(name []byte) []byte {
	for i, c := range name {
		if c < 'A' || c > 'Z' {
			continue
		}
		e.name = append(e.name[:0], name...)
		for j := i; j < len(e.name); j++ {
			e.name[j] = lower(e.name[j])
		}
		return e.name
	}
	return name
}

// appendLiteral appends a literal representation (RFC 7541 section 6.2); index
// is the static index of the name, 0: it is written out.
func appendLiteral(dst []byte, pattern byte, prefix uint, index int, name, value []byte) []byte {
	dst = appendInteger(dst, pattern, prefix, index)
	if index == 0 {
		dst = append(appendInteger(dst, 0, 7, len(name)), name...)
	}
	return append(appendInteger(dst, 0, 7, len(value)), value...)
}

// appendInteger appends n in a prefix of some bits, beside a pattern (RFC 7541
// section 5.1).
func appendInteger(dst []byte, pattern byte, prefix uint, n int) []byte {
	limit := 1<<prefix - 1
	if n < limit {
		return append(dst, pattern|byte(n))
	}
	dst = append(dst, pattern|byte(limit))
	for n -= limit; n >= 0x80; n >>= 7 {
		dst = append(dst, byte(n)|0x80)
	}
	return append(dst, byte(n))
}
