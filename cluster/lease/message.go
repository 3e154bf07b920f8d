package lease

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Kind says what a Message is.
type Kind string

const (
	// Ask asks a member for its voice, or to go on giving it.
	Ask Kind = "ask"
	// Grant gives it: from when it was given, for the term that was asked for.
	Grant Kind = "grant"
	// Refuse says why not.
	Refuse Kind = "refuse"
	// Release gives a voice back. Who sends it has fallen silent before.
	Release Kind = "release"
	// Bid says that its sender would hold the resource, and how well it suits.
	Bid Kind = "bid"
)

// Refusal is why a member does not give its voice.
type Refusal string

const (
	// RefusedHeld: another claim has it.
	RefusedHeld Refusal = "held"
	// RefusedEpoch: the claim's epoch is not above all that the member has seen, and
	// it is not held; or it has ended.
	RefusedEpoch Refusal = "epoch"
	// RefusedView: the two do not know the same members.
	RefusedView Refusal = "view"
	// RefusedQuiet: the member has started, or its members have changed, too
	// short a time ago to know what was granted.
	RefusedQuiet Refusal = "quiet"
)

// Claim names one attempt of one process to hold a resource.
type Claim struct {
	Node  string `json:"node"`
	Life  uint64 `json:"life"`  // of the process, at random: two of them are two claimants
	Epoch uint64 `json:"epoch"` // above that of every claim that has held before
}

// Message goes from one member to another.
type Message struct {
	Kind     Kind   `json:"kind"`
	Resource string `json:"resource"`
	Claim    Claim  `json:"claim"`
	// Seq numbers the asks of a claim. Answers have that of their ask.
	Seq uint64 `json:"seq,omitempty"`
	// View is a digest of the members that an asker knows of.
	View uint64        `json:"view,omitempty"`
	Term time.Duration `json:"term,omitempty"` // of Ask, in nanoseconds
	// Refusal of Refuse, and what it knows: who holds (if held), and the highest
	// epoch that it has seen.
	Refusal Refusal `json:"refusal,omitempty"`
	Holder  string  `json:"holder,omitempty"`
	Seen    uint64  `json:"seen,omitempty"`
	Rank    uint32  `json:"rank,omitempty"` // of Ask and Bid; the higher, the better
	// Held of Ask: the claim has had a majority, and asks for more voices.
	Held bool `json:"held,omitempty"`
	// Keep of Release: the claimant's next process is about to ask for the voice.
	Keep bool `json:"keep,omitempty"`
}

// Envelope is a message and whom it is for.
type Envelope struct {
	To      string
	Message Message
}

// MaxTerm is the longest time that a voice can be given for. A member that has
// just started is quiet that long: its former process may have given one.
const MaxTerm = 2 * time.Second

const (
	maxName  = 253
	maxEpoch = 1 << 62 // leaves room to count on from whatever a peer says
)

// ErrMessage: bytes that are no messages.
var ErrMessage = errors.New("not a lease message")

// Encode makes bytes of messages.
func Encode(messages []Message) ([]byte, error) { return json.Marshal(messages) }

// Decode reads what Encode made, and checks that every message can be acted on.
func Decode(b []byte) ([]Message, error) {
	var messages []Message
	if err := json.Unmarshal(b, &messages); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMessage, err)
	}
	for i, m := range messages {
		if err := m.check(); err != nil {
			return nil, fmt.Errorf("%w: message %d: %w", ErrMessage, i, err)
		}
	}
	return messages, nil
}

func (m Message) check() error {
	switch m.Kind {
	case Ask, Grant, Refuse, Release, Bid:
	default:
		return fmt.Errorf("its kind is %q", m.Kind)
	}
	switch {
	case m.Resource == "" || len(m.Resource) > maxName:
		return errors.New("it names no resource")
	case m.Claim.Node == "" || len(m.Claim.Node) > maxName || len(m.Holder) > maxName:
		return errors.New("it names no node")
	case max(m.Claim.Epoch, m.Seen) > maxEpoch:
		return errors.New("its epoch is out of range")
	case m.Kind == Ask && (m.Term <= 0 || m.Term > MaxTerm):
		return fmt.Errorf("its term is %s", m.Term)
	}
	return nil
}

// sameProcess says whether two claims are of one process.
func (c Claim) sameProcess(o Claim) bool { return c.Node == o.Node && c.Life == o.Life }
