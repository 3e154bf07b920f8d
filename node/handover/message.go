// Package handover is what two processes of one node need to hand its work
// from the old to the new: how the new one is started, what they tell each
// other, how descriptors pass between them, how an operator asks for it, and
// who stays as the process that a supervisor knows. What is handed over, and
// in which order, is package node's affair.
package handover

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Kind says what a message means. Each side knows which kind comes next.
type Kind string

// The messages, in their order. Failed may come in the place of any of the
// successor's.
const (
	Ready     Kind = "ready"     // successor: its files are read, its checks have run, it could take over
	Take      Kind = "take"      // old: here are the listening sockets
	Accepting Kind = "accepting" // successor: it accepts on them
	Released  Kind = "released"  // old: the control plane is stopped, its files are free
	Leading   Kind = "leading"   // successor: it runs the control plane
	Sessions  Kind = "sessions"  // old: here are the BGP sessions; there is no way back
	Done      Kind = "done"      // successor: it is the node now
	Failed    Kind = "failed"    // successor: it cannot go on, for this reason
)

// Message is what one process tells the other. A field that a version does not
// know is ignored, so that later versions may say more.
type Message struct {
	Kind    Kind   `json:"kind"`
	Version string `json:"version,omitempty"` // of the software: Ready
	Error   string `json:"error,omitempty"`   // Failed

	// Revision is the one that runs, which the successor must find on disk; 0:
	// none does. Take.
	Revision uint64 `json:"revision,omitempty"`

	Sockets  []Socket  `json:"sockets,omitempty"`  // Take
	Settings []Setting `json:"settings,omitempty"` // Take
	// Announced names the VIPs that the old process announces: Take.
	Announced []string  `json:"announced,omitempty"`
	Sessions  []Session `json:"sessions,omitempty"` // Sessions
	// Leases is what the old process has granted to other nodes, as package lease
	// writes it, and is kept for the successor by them: Sessions.
	Leases json.RawMessage `json:"leases,omitempty"`
}

// Use is what a socket is for.
type Use string

// The uses of sockets.
const (
	Traffic Use = "traffic" // a listener of the proxy
	Control Use = "control" // the control port
)

// Socket is a listening socket. Its descriptor travels beside the message, in
// the order of Message.Sockets.
type Socket struct {
	Use       Use            `json:"use"`
	Transport string         `json:"transport"`
	Address   netip.AddrPort `json:"address"`
}

// Setting is a kernel setting that the last process puts back.
type Setting struct {
	Key    string `json:"key"`
	Before int    `json:"before"`
}

// Session is an established BGP session. Its descriptor travels beside the
// message, in the order of Message.Sessions.
type Session struct {
	Neighbor string         `json:"neighbor"`
	Ours     []byte         `json:"ours"`
	Theirs   []byte         `json:"theirs"`
	Begun    []byte         `json:"begun,omitempty"`
	Told     []netip.Prefix `json:"told,omitempty"`
	Since    time.Time      `json:"since"`
	Flaps    int            `json:"flaps,omitempty"`
	// BFD is the state of the BFD session with the same router, as package bgp
	// writes it; absent: it has none.
	BFD json.RawMessage `json:"bfd,omitempty"`
}

// descriptors is how many travel beside the message.
func (m Message) descriptors() int { return len(m.Sockets) + len(m.Sessions) }

// A message on the wire: the length of its JSON and the number of descriptors,
// 4 octets each, big-endian; an octet for each batch of descriptors, which
// carries them; the JSON.
const (
	headerLen = 8
	// batch is how many descriptors go with one octet: the kernel takes 253
	// (SCM_MAX_FD, unix(7)).
	batch      = 128
	maxJSON    = 16 << 20
	maxFDs     = 1 << 16
	batchOctet = 'F'
)

// ErrFormat says that what was received is no message.
var ErrFormat = errors.New("not a message of a hand-over")

func batches(descriptors int) int { return (descriptors + batch - 1) / batch }

// encode gives the header and the JSON.
func (m Message) encode() (header [headerLen]byte, body []byte, err error) {
	if body, err = json.Marshal(m); err != nil {
		return header, nil, fmt.Errorf("encode a message of the hand-over: %w", err)
	}
	if len(body) > maxJSON || m.descriptors() > maxFDs {
		return header, nil, fmt.Errorf("a message of %d octets and %d descriptors is too long for a hand-over", len(body), m.descriptors())
	}
	binary.BigEndian.PutUint32(header[:4], uint32(len(body)))
	binary.BigEndian.PutUint32(header[4:], uint32(m.descriptors()))
	return header, body, nil
}

// decodeHeader gives the length of the JSON and the number of descriptors.
func decodeHeader(h [headerLen]byte) (body, descriptors int, err error) {
	b, d := binary.BigEndian.Uint32(h[:4]), binary.BigEndian.Uint32(h[4:])
	if b > maxJSON || d > maxFDs {
		return 0, 0, fmt.Errorf("%w: it announces %d octets and %d descriptors", ErrFormat, b, d)
	}
	return int(b), int(d), nil
}

// decode reads the JSON of a message that came with so many descriptors.
func decode(body []byte, descriptors int) (Message, error) {
	var m Message
	if err := json.Unmarshal(body, &m); err != nil {
		return Message{}, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if m.Kind == "" {
		return Message{}, fmt.Errorf("%w: it has no kind", ErrFormat)
	}
	if m.descriptors() != descriptors {
		return Message{}, fmt.Errorf("%w: it names %d sockets and sessions, and comes with %d descriptors", ErrFormat, m.descriptors(), descriptors)
	}
	return m, nil
}
