// Package sni reads the name of the server that a client of TLS asks for out
// of the first bytes of its connection, for listeners that pass TLS on without
// ending it.
package sni

import (
	"bytes"
	"net/netip"
)

// State is what Parse makes of the bytes so far.
type State uint8

// The states.
const (
	// More: the message is not complete; ask again with more.
	More State = iota
	// Named: the client asks for a name.
	Named
	// Unnamed: a whole ClientHello, which asks for no name.
	Unnamed
	// NotTLS: no more bytes can make this a ClientHello that is accepted here.
	NotTLS
)

func (s State) String() string {
	switch s {
	case More:
		return "more"
	case Named:
		return "named"
	case Unnamed:
		return "unnamed"
	}
	return "not TLS"
}

const (
	// MaxHello is the longest ClientHello that is read, in bytes, its header of
	// 4 included. Those of browsers have 600 to 2,000.
	MaxHello = 16 << 10
	// MaxRecords bounds over how many records it may be spread: there is one,
	// and two or three where a hello is split on purpose.
	MaxRecords = 64

	maxRecord = 16 << 10 // RFC 8446 section 5.1: a fragment of TLSPlaintext

	recordHeader    = 5
	typeHandshake   = 22
	typeClientHello = 1
	extServerName   = 0 // RFC 6066 section 3
	nameTypeHost    = 0
)

// Parse reads the server name from b, the first bytes of a connection, which
// may go on beyond the ClientHello. The name is in lower case and has the form
// of a host name; an address, which RFC 6066 forbids, or another form makes it
// NotTLS, and so does anything in the message that RFC 8446 section 4.1.2 does
// not allow. Nothing but the name is allocated, unless the message is spread over
// several records.
func Parse(b []byte) (name string, state State) {
	m, state := message(b)
	if state != Named {
		return "", state
	}
	host, ok := serverName(m)
	switch {
	case !ok:
		return "", NotTLS
	case host == nil:
		return "", Unnamed
	}
	if name, ok = hostName(host); !ok {
		return "", NotTLS
	}
	return name, Named
}

// message gathers the body of the ClientHello from its records (RFC 8446
// sections 4 and 5.1). Its state is Named when it is whole.
func message(b []byte) ([]byte, State) {
	var gathered []byte // of several records
	have, want := 0, 4  // bytes of the message, its header included
	var head [4]byte
	for records := 0; have < want; records++ {
		if records == MaxRecords || !recordSoFar(b) {
			return nil, NotTLS
		}
		if len(b) < recordHeader {
			return nil, More
		}
		size := int(b[3])<<8 | int(b[4])
		whole := len(b) >= recordHeader+size
		fragment := b[recordHeader:min(len(b), recordHeader+size)]
		// The header may be spread as well.
		for i := 0; have+i < len(head) && i < len(fragment); i++ {
			head[have+i] = fragment[i]
		}
		if have+len(fragment) > 0 && head[0] != typeClientHello {
			return nil, NotTLS
		}
		if have+len(fragment) >= len(head) {
			want = len(head) + (int(head[1])<<16 | int(head[2])<<8 | int(head[3]))
			if want > MaxHello {
				return nil, NotTLS
			}
		}
		if have+len(fragment) > want {
			return nil, NotTLS // nothing may follow before the server's answer
		}
		if !whole {
			return nil, More
		}
		if records == 0 && len(fragment) >= want {
			return fragment[len(head):], Named
		}
		if gathered == nil {
			gathered = make([]byte, 0, 2048)
		}
		gathered = append(gathered, fragment...)
		have += len(fragment)
		b = b[recordHeader+size:]
	}
	return gathered[len(head):], Named
}

// recordSoFar reports whether b may begin with the header of a record that
// carries a part of a ClientHello: not empty, and of major version 3, whatever
// the minor one (RFC 8446 appendix D).
func recordSoFar(b []byte) bool {
	switch {
	case len(b) > 0 && b[0] != typeHandshake, len(b) > 1 && b[1] != 3:
		return false
	case len(b) >= recordHeader:
		size := int(b[3])<<8 | int(b[4])
		return size > 0 && size <= maxRecord
	}
	return true
}

// reader takes vectors off the front of a message. A nil one has failed.
type reader []byte

func (r *reader) take(n int) []byte {
	if len(*r) < n {
		*r = nil
		return nil
	}
	b := (*r)[:n:n]
	*r = (*r)[n:]
	return b
}

// number takes a big-endian number of n bytes; -1 if there is none.
func (r *reader) number(n int) int {
	b := r.take(n)
	if len(b) < n {
		return -1
	}
	v := 0
	for _, c := range b {
		v = v<<8 | int(c)
	}
	return v
}

// vector takes one whose length has n bytes.
func (r *reader) vector(n int) (reader, bool) {
	size := r.number(n)
	if size < 0 || size > len(*r) {
		return nil, false
	}
	return r.take(size), true
}

// serverName finds the extension in the body of a ClientHello; nil: there is
// none.
func serverName(m reader) (host []byte, ok bool) {
	if version := m.number(2); version < 0x0300 || version > 0x03ff {
		return nil, false
	}
	if len(m.take(32)) < 32 { // random
		return nil, false
	}
	session, ok := m.vector(1)
	if !ok || len(session) > 32 {
		return nil, false
	}
	suites, ok := m.vector(2)
	if !ok || len(suites) < 2 || len(suites)%2 != 0 {
		return nil, false
	}
	compression, ok := m.vector(1)
	if !ok || len(compression) < 1 {
		return nil, false
	}
	if len(m) == 0 {
		return nil, true // TLS 1.2 and before: extensions may be missing
	}
	extensions, ok := m.vector(2)
	if !ok || len(m) > 0 {
		return nil, false
	}
	for len(extensions) > 0 {
		kind := extensions.number(2)
		body, ok := extensions.vector(2)
		if kind < 0 || !ok {
			return nil, false
		}
		if kind != extServerName {
			continue
		}
		if host != nil {
			return nil, false // no extension may come twice
		}
		if host, ok = oneName(body); !ok {
			return nil, false
		}
	}
	return host, true
}

// oneName reads a ServerNameList (RFC 6066 section 3). There may be one name
// of each type, and host_name is the only type there is: exactly one.
func oneName(b reader) ([]byte, bool) {
	list, ok := b.vector(2)
	if !ok || len(b) > 0 || list.number(1) != nameTypeHost {
		return nil, false
	}
	host, ok := list.vector(2)
	return host, ok && len(host) > 0 && len(list) == 0
}

// hostName returns a name in lower case, if it is one: labels of letters,
// digits, hyphens and underscores, without a dot at the end.
func hostName(b []byte) (string, bool) {
	if len(b) > 253 || bytes.HasPrefix(b, []byte(".")) {
		return "", false
	}
	var low [253]byte
	label, digits := 0, true
	for i, c := range b {
		switch {
		case c >= 'A' && c <= 'Z':
			c += 'a' - 'A'
			digits = false
		case c >= 'a' && c <= 'z', c == '-', c == '_':
			digits = false
		case c >= '0' && c <= '9':
		case c == '.':
			if label == 0 {
				return "", false
			}
			low[i], label = c, 0
			digits = true
			continue
		default:
			return "", false
		}
		if label++; label > 63 {
			return "", false
		}
		low[i] = c
	}
	if label == 0 {
		return "", false
	}
	name := string(low[:len(b)])
	if digits { // the last label: it may be an address
		if _, err := netip.ParseAddr(name); err == nil {
			return "", false
		}
	}
	return name, true
}
