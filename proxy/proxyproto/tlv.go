package proxyproto

import (
	"encoding/binary"
	"hash/crc32"
	"iter"
)

// Type is the type of a TLV.
type Type uint8

// The types (section 2.2).
const (
	ALPN      Type = 0x01
	Authority Type = 0x02
	CRC32C    Type = 0x03
	NoOp      Type = 0x04 // padding
	UniqueID  Type = 0x05
	SSL       Type = 0x20
	NetNS     Type = 0x30
)

const (
	tlvHead      = 3 // type and length
	checksumSize = 4
	maxUniqueID  = 128
)

// TLVs are type-length-value triples, as sent. Those of a parsed header are
// well-formed.
type TLVs []byte

// All yields each triple in its order. Values are views.
func (t TLVs) All() iter.Seq2[Type, []byte] {
	return func(yield func(Type, []byte) bool) {
		for len(t) > 0 {
			typ, value, rest, ok := cutTLV(t)
			if !ok || !yield(typ, value) {
				return
			}
			t = rest
		}
	}
}

// Get returns the value, a view, of the first triple of a type.
func (t TLVs) Get(want Type) (value []byte, ok bool) {
	for typ, value := range t.All() {
		if typ == want {
			return value, true
		}
	}
	return nil, false
}

func cutTLV(b []byte) (typ Type, value, rest []byte, ok bool) {
	if len(b) < tlvHead {
		return 0, nil, nil, false
	}
	end := tlvHead + int(binary.BigEndian.Uint16(b[1:]))
	if len(b) < end {
		return 0, nil, nil, false
	}
	return Type(b[0]), b[tlvHead:end:end], b[end:], true
}

func appendTLV(dst []byte, typ Type, value []byte) []byte {
	dst = binary.BigEndian.AppendUint16(append(dst, byte(typ)), uint16(len(value)))
	return append(dst, value...)
}

// checkTLVs checks the TLVs, which begin at header[at], for their form, and the
// checksum if there is one (sections 2.2.3 and 2.2.5).
func checkTLVs(header []byte, at int) error {
	sum := 0 // where the checksum stands
	for at < len(header) {
		typ, value, _, ok := cutTLV(header[at:])
		if !ok {
			return ErrTLV
		}
		at += tlvHead
		switch {
		case typ == CRC32C && (sum > 0 || len(value) != checksumSize):
			return ErrTLV
		case typ == CRC32C:
			sum = at
		case typ == UniqueID && len(value) > maxUniqueID:
			return ErrTLV
		}
		at += len(value)
	}
	if sum > 0 && binary.BigEndian.Uint32(header[sum:]) != checksum(header, sum) {
		return ErrChecksum
	}
	return nil
}

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	zeros      [checksumSize]byte
)

// checksum is that of a header whose checksum, at header[at], counts as zero.
func checksum(header []byte, at int) uint32 {
	c := crc32.Update(0, castagnoli, header[:at])
	c = crc32.Update(c, castagnoli, zeros[:])
	return crc32.Update(c, castagnoli, header[at+checksumSize:])
}
