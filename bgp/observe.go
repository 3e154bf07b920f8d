package bgp

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/pharos-lb/pharos/bgp/guard"
)

// The names of the session states (RFC 4271 8.2.2).
const (
	stateIdle        = "idle"
	stateConnect     = "connect"
	stateActive      = "active"
	stateOpenSent    = "opensent"
	stateOpenConfirm = "openconfirm"
	stateEstablished = "established"
)

// observer derives from the messages of one connection, as they pass, what the
// session is and what the router has been told. It is pure: the relay feeds it.
type observer struct {
	params params
	state  string     // from opensent on; never back
	reason string     // why the connection ends: the first one counts
	peer   guard.Open // the router's OPEN, if had is set
	had    bool

	// ours and theirs are the OPENs as they were sent; nil before.
	ours, theirs []byte

	// told is what the router knows of us; a sequence number counts the
	// UPDATEs of each prefix, so that one can wait for the next one.
	told      map[netip.Prefix]bool
	announced map[netip.Prefix]uint64
	withdrawn map[netip.Prefix]uint64
	updates   uint64 // of all prefixes together
}

func newObserver(p params) *observer {
	return &observer{
		params: p, state: stateOpenSent,
		told:      map[netip.Prefix]bool{},
		announced: map[netip.Prefix]uint64{},
		withdrawn: map[netip.Prefix]uint64{},
	}
}

// sent takes note of a message of ours that was written to the router.
func (o *observer) sent(msg []byte) {
	switch typeOf(msg) {
	case typeOpen:
		o.ours = slices.Clone(msg)
	case typeUpdate:
		withdrawn, announced, err := parseUpdate(msg)
		if err != nil {
			o.end(fmt.Sprintf("our own UPDATE cannot be read back: %v", err))
			return
		}
		o.updates++
		for _, p := range withdrawn {
			delete(o.told, p)
			o.withdrawn[p]++
		}
		for _, p := range announced {
			o.told[p] = true
			o.announced[p]++
		}
	case typeNotification:
		if n, err := parseNotification(msg); err == nil {
			o.end(o.sentWords(n))
		}
	}
}

// received takes note of a message of the router that the guard has let pass.
func (o *observer) received(msg []byte) {
	switch typeOf(msg) {
	case typeOpen:
		if peer, err := guard.ParseOpen(msg); err == nil {
			o.peer, o.had = peer, true
		}
		o.theirs = slices.Clone(msg)
		if o.state == stateOpenSent {
			o.state = stateOpenConfirm
		}
	case typeKeepalive:
		if o.state == stateOpenConfirm {
			o.state = stateEstablished
		}
	case typeNotification:
		if n, err := parseNotification(msg); err == nil {
			o.end(o.receivedWords(n))
		}
	}
}

// end notes why the connection ends; what follows from it adds nothing.
func (o *observer) end(reason string) {
	if o.reason == "" {
		o.reason = reason
	}
}

func (o *observer) sentWords(n notification) string {
	p := o.params
	switch {
	case n.code == codeOpen && n.subcode == openBadPeerAS && o.had:
		return fmt.Sprintf("the router says that it is AS %d, but asn is %d for this neighbor: correct one of them", o.peer.ASN, p.asn)
	case n.code == codeHoldExpired:
		return fmt.Sprintf("hold timer expired: nothing heard from the router for %s", o.holdTime())
	}
	return "we ended the session: " + n.String()
}

func (o *observer) receivedWords(n notification) string {
	if n.code == codeOpen && n.subcode == openBadPeerAS {
		return fmt.Sprintf("the router refused us: bad peer AS: it expects another ASN than %d, our local_asn: correct one of them", o.params.localASN)
	}
	return "the router ended the session: " + n.String()
}

// negotiated says whether both sides speak the prefix's address family; we
// speak both.
func (o *observer) negotiated(p netip.Prefix) bool {
	if p.Addr().Is4() {
		return o.peer.IPv4
	}
	return o.peer.IPv6
}

// holdTime is the negotiated one: the smaller (RFC 4271 4.2).
func (o *observer) holdTime() time.Duration {
	if d := time.Duration(o.peer.HoldTime) * time.Second; o.had && d < o.params.holdTime {
		return d
	}
	return o.params.holdTime
}
