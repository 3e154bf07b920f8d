package lease

import (
	"encoding/json"
	"fmt"
	"time"
)

// keepFor is how long a voice that was given back for the node's next process is
// kept for it.
const keepFor = time.Second

// handedOver is what goes from one process of a node to the next. Times are
// readings of the machine's clock, which both have.
type handedOver struct {
	View   uint64                     `json:"view"`
	Quiet  time.Duration              `json:"quiet"` // until when
	Voices map[string]handedOverVoice `json:"voices"`
}

type handedOverVoice struct {
	Claim Claim             `json:"claim"`
	Until time.Duration     `json:"until"`
	Other time.Duration     `json:"other"`
	Seq   uint64            `json:"seq"`
	Seen  uint64            `json:"seen"`
	Kept  bool              `json:"kept"`
	Ended map[string]uint64 `json:"ended,omitempty"`
}

// HandOver ends the part of this process for the node's next one on the same
// machine: it gives all that it has back, such that the members keep it for the
// node, and from here on neither grants nor wants anything. What it returns is
// for the next one's Adopt.
func (m *Machine) HandOver(now time.Duration) []byte {
	for _, resource := range sortedKeys(m.claims) {
		m.giveUpFor(resource, m.claims[resource], now, true)
	}
	clear(m.claims)
	out := handedOver{View: m.view, Quiet: m.quietUntil, Voices: make(map[string]handedOverVoice, len(m.voices))}
	for resource, v := range m.voices {
		out.Voices[resource] = handedOverVoice{v.claim, v.until, v.other, v.seq, v.seen, v.kept, v.ended}
	}
	m.members, m.retired = nil, true
	b, _ := json.Marshal(out) // numbers and text
	return b
}

// Adopt takes over what the node's process before has granted, and which it grants
// no more. This process then knows all that was, and need not be quiet for it,
// unless it knows other members.
func (m *Machine) Adopt(handed []byte, now time.Duration) error {
	var in handedOver
	if err := json.Unmarshal(handed, &in); err != nil {
		return fmt.Errorf("read the voices that were handed over: %w", err)
	}
	for resource, h := range in.Voices {
		v := m.voiceOf(resource)
		v.seen, v.other = max(v.seen, h.Seen), max(v.other, h.Other)
		for node, epoch := range h.Ended {
			v.ended[node] = max(v.ended[node], epoch)
		}
		if v.given(now) { // this process backs nobody else: it has been quiet
			continue
		}
		// Its session is the former process's. It ends by its term.
		v.claim, v.until, v.seq, v.kept, v.session = h.Claim, h.Until, h.Seq, h.Kept, 0
	}
	if in.View == m.view {
		m.quietUntil = in.Quiet
	}
	return nil
}
