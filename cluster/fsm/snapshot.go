package fsm

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/pharos-lb/pharos/cluster/registry"
)

// A snapshot is a header and the state as JSON:
//
//	8 bytes   "PHAROSST"
//	4 bytes   format, big endian
//	8 bytes   length of the JSON, big endian
//	32 bytes  SHA-256 of the 20 bytes before and the JSON
//
// Every format that was ever released stays readable: testdata has one of each.
const (
	snapshotMagic  = "PHAROSST"
	snapshotFormat = 2 // 1 had no revision, servers and keys
	headerSize     = 8 + 4 + 8
	maxSnapshot    = 256 << 20 // bytes of JSON; a document of registry.MaxDocument gives a few MiB
)

// ErrSnapshotFormat is for a snapshot that a newer version wrote.
var ErrSnapshotFormat = errors.New("unknown snapshot format: a newer version wrote it")

// EncodeSnapshot writes a state.
func EncodeSnapshot(w io.Writer, s State) error {
	body, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode snapshot of version %d: %w", s.Snapshot.Version, err)
	}
	if len(body) > maxSnapshot {
		return fmt.Errorf("encode snapshot of version %d: %d bytes, at most %d can be read again", s.Snapshot.Version, len(body), maxSnapshot)
	}
	head := make([]byte, 0, headerSize+sha256.Size)
	head = append(head, snapshotMagic...)
	head = binary.BigEndian.AppendUint32(head, snapshotFormat)
	head = binary.BigEndian.AppendUint64(head, uint64(len(body)))
	head = append(head, checksum(head, body)...)
	for _, part := range [][]byte{head, body} {
		if _, err := w.Write(part); err != nil {
			return fmt.Errorf("write snapshot of version %d: %w", s.Snapshot.Version, err)
		}
	}
	return nil
}

// DecodeSnapshot reads a state. A snapshot that was cut short, changed or
// lengthened is ErrCorrupt, one of a later format ErrSnapshotFormat; any other
// error is the reader's.
func DecodeSnapshot(r io.Reader) (State, error) {
	head := make([]byte, headerSize+sha256.Size)
	if err := readFull(r, head, "header"); err != nil {
		return State{}, err
	}
	if string(head[:8]) != snapshotMagic {
		return State{}, fmt.Errorf("read snapshot: it does not begin with %s: %w", snapshotMagic, ErrCorrupt)
	}
	format := binary.BigEndian.Uint32(head[8:])
	if format == 0 || format > snapshotFormat {
		return State{}, fmt.Errorf("read snapshot of format %d, this version knows %d: %w", format, snapshotFormat, ErrSnapshotFormat)
	}
	length := binary.BigEndian.Uint64(head[12:])
	if length > maxSnapshot {
		return State{}, fmt.Errorf("read snapshot: a length of %d bytes: %w", length, ErrCorrupt)
	}
	// ReadAll grows as it reads: a broken length must not make it allocate.
	body, err := io.ReadAll(io.LimitReader(r, int64(length)+1))
	if err != nil {
		return State{}, fmt.Errorf("read snapshot: %w", err)
	}
	if uint64(len(body)) != length {
		return State{}, fmt.Errorf("read snapshot: not the %d bytes that its header says: %w", length, ErrCorrupt)
	}
	if string(checksum(head[:headerSize], body)) != string(head[headerSize:]) {
		return State{}, fmt.Errorf("read snapshot: the checksum is wrong: %w", ErrCorrupt)
	}
	s := New()
	if err := decodeJSON("snapshot", body, &s); err != nil {
		return State{}, err
	}
	if format == 1 {
		s.Desired = FromSnapshot(s.Snapshot)
	}
	return s, nil
}

// FromSnapshot is what a version made of a configuration that knew nothing
// beside it: what the log of that version makes as well.
func FromSnapshot(s registry.Snapshot) Desired {
	return Desired{Snapshot: s, Revision: s.Version, Servers: serversOf(s.Config, nil, nil, time.Time{})}
}

func readFull(r io.Reader, into []byte, what string) error {
	_, err := io.ReadFull(r, into)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("read snapshot: the %s is cut short: %w", what, ErrCorrupt)
	}
	if err != nil {
		return fmt.Errorf("read snapshot %s: %w", what, err)
	}
	return nil
}

func checksum(head, body []byte) []byte {
	h := sha256.New()
	h.Write(head)
	h.Write(body)
	return h.Sum(nil)
}
