package member

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"slices"

	"github.com/hashicorp/memberlist"
)

// Meta is what a node says of itself with its heartbeats.
type Meta struct {
	// Name is the node's name. Gossip carries it anyway: it is not encoded, and
	// SetMeta ignores it.
	Name      string
	Control   string   // control address, host:port
	Addresses []string // the node's own addresses, for next hops
	Ready     bool     // it can serve
	Draining  bool     // it is being, or has been, drained
	// AppliedVersion is the configuration that it runs.
	AppliedVersion uint64
	// Load is the 1-minute load average per core, 0 or more.
	Load float64
	// Unwell are the VIPs, by VIPHash, in order, that the node does not announce,
	// or that it announces in spite of a fault. AllUnwell stands for all, and for
	// more than maxUnwell.
	Unwell    []uint32
	AllUnwell bool
}

// maxUnwell is how many VIPs are told apart: they take four bytes each of the few
// that there are.
const maxUnwell = 24

// VIPHash stands for a VIP's name in metadata. Two names that have the same one
// are taken for one VIP: then a node may hold a VIP for worse served elsewhere
// than it is.
func VIPHash(name string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	return h.Sum32()
}

// Well reports whether the node announces a VIP, and nothing speaks against it.
// Nodes of versions that do not tell are taken for well.
func (m Meta) Well(vip string) bool {
	return m.AppliedVersion > 0 && !m.AllUnwell && !slices.Contains(m.Unwell, VIPHash(vip))
}

var (
	// ErrMetaTooLong: the limit is memberlist's, 512 bytes.
	ErrMetaTooLong = errors.New("the node's metadata is too long to gossip")
	// ErrMetaFormat: bytes that no version of this package can have written.
	ErrMetaFormat = errors.New("unreadable node metadata")
)

// The encoding is one version byte, then fields: a tag, a length of one byte,
// the value. A reader skips tags that it does not know, so a field can be added
// without a new version; a new version is one that old readers must not read.
const metaVersion = 1

const (
	tagControl = 1 + iota
	tagAddress // once for each
	tagFlags   // one byte
	tagApplied // uvarint
	tagLoad    // uint16, big-endian, in thousandths
	tagUnwell  // uint32, big-endian, for each; empty: all are
)

const (
	flagReady = 1 << iota
	flagDraining
)

// encode gives at most memberlist.MetaMaxSize bytes.
func (m Meta) encode() ([]byte, error) {
	b := []byte{metaVersion}
	var err error
	field := func(tag byte, value []byte) {
		if len(value) > math.MaxUint8 {
			err = fmt.Errorf("%w: %q has %d bytes, at most %d go", ErrMetaTooLong, value, len(value), math.MaxUint8)
			return
		}
		b = append(append(b, tag, byte(len(value))), value...)
	}
	if m.Control != "" {
		field(tagControl, []byte(m.Control))
	}
	for _, a := range m.Addresses {
		field(tagAddress, []byte(a))
	}
	var flags byte
	if m.Ready {
		flags |= flagReady
	}
	if m.Draining {
		flags |= flagDraining
	}
	if flags != 0 {
		field(tagFlags, []byte{flags})
	}
	if m.AppliedVersion != 0 {
		field(tagApplied, binary.AppendUvarint(nil, m.AppliedVersion))
	}
	if load := thousandths(m.Load); load != 0 {
		field(tagLoad, binary.BigEndian.AppendUint16(nil, load))
	}
	switch {
	case m.AllUnwell || len(m.Unwell) > maxUnwell:
		field(tagUnwell, nil)
	case len(m.Unwell) > 0:
		var all []byte
		for _, h := range m.Unwell {
			all = binary.BigEndian.AppendUint32(all, h)
		}
		field(tagUnwell, all)
	}
	if err == nil && len(b) > memberlist.MetaMaxSize {
		err = fmt.Errorf("%w: %d bytes, at most %d go", ErrMetaTooLong, len(b), memberlist.MetaMaxSize)
	}
	return b, err
}

func thousandths(load float64) uint16 {
	if !(load > 0) { // NaN too
		return 0
	}
	return uint16(math.Round(min(load*1000, math.MaxUint16)))
}

// decodeMeta reads what encode wrote, here or on another version's node.
func decodeMeta(b []byte) (Meta, error) {
	if len(b) == 0 {
		return Meta{}, fmt.Errorf("%w: it is empty", ErrMetaFormat)
	}
	if b[0] != metaVersion {
		return Meta{}, fmt.Errorf("%w: version %d, this node reads %d", ErrMetaFormat, b[0], metaVersion)
	}
	var m Meta
	for b = b[1:]; len(b) > 0; {
		if len(b) < 2 || len(b) < 2+int(b[1]) {
			return Meta{}, fmt.Errorf("%w: it is cut short", ErrMetaFormat)
		}
		tag, value := b[0], b[2:2+int(b[1])]
		b = b[2+len(value):]
		switch tag {
		case tagControl:
			m.Control = string(value)
		case tagAddress:
			m.Addresses = append(m.Addresses, string(value))
		case tagFlags:
			if len(value) != 1 {
				return Meta{}, fmt.Errorf("%w: flags of %d bytes", ErrMetaFormat, len(value))
			}
			m.Ready, m.Draining = value[0]&flagReady != 0, value[0]&flagDraining != 0
		case tagApplied:
			v, n := binary.Uvarint(value)
			if n <= 0 || n != len(value) {
				return Meta{}, fmt.Errorf("%w: the applied version is no number", ErrMetaFormat)
			}
			m.AppliedVersion = v
		case tagLoad:
			if len(value) != 2 {
				return Meta{}, fmt.Errorf("%w: a load of %d bytes", ErrMetaFormat, len(value))
			}
			m.Load = float64(binary.BigEndian.Uint16(value)) / 1000
		case tagUnwell:
			if len(value)%4 != 0 || len(value) > 4*maxUnwell {
				return Meta{}, fmt.Errorf("%w: %d bytes of VIPs", ErrMetaFormat, len(value))
			}
			m.AllUnwell, m.Unwell = len(value) == 0, nil
			for ; len(value) > 0; value = value[4:] {
				m.Unwell = append(m.Unwell, binary.BigEndian.Uint32(value))
			}
		}
	}
	return m, nil
}
