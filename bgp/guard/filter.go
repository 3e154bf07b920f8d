package guard

import (
	"slices"
	"time"
)

// Filter decides what the engine hears of one connection's messages. It is
// pure: it is given whole messages, whose headers CheckHeader has taken, in the
// order in which the router sent them, and the time. The zero value is for a
// connection on which the router has said nothing yet.
//
// An UPDATE stands for a KEEPALIVE: both restart the hold timer (RFC 4271 8.2.2,
// events 26 and 27). Of OPEN and NOTIFICATION the engine is given no more than
// it needs, made anew.
type Filter struct {
	phase phase
	heard time.Time // when the engine was last told that the router lives
}

// phase is how far the router is, as far as it says so (RFC 4271 8.2.2).
type phase uint8

const (
	waitsForOpen      phase = iota // opensent
	waitsForKeepalive              // openconfirm
	open                           // established
	closed                         // after a NOTIFICATION
)

// often is how often the engine hears that the router lives. The shortest hold
// time is 3 s; a full table may bring thousands of messages a second.
const often = 200 * time.Millisecond

// Refusal is why a router's message ends the connection.
type Refusal struct {
	Code, Subcode uint8 // of the NOTIFICATION that tells the router
	Reason        string
}

// Refusals by the phase in which a message came that was not due (RFC 6608 3).
var undue = [...]Refusal{
	waitsForOpen:      {5, 1, "the router sent another message before its OPEN"},
	waitsForKeepalive: {5, 2, "the router sent another message before its KEEPALIVE"},
	open:              {5, 3, "the router sent a second OPEN"},
	closed:            {5, 0, "the router sent a message behind its NOTIFICATION"},
}

var malformed = Refusal{2, 0, "the router's OPEN is malformed: its inner lengths do not fit"}

// keepalive is what the engine is given instead of an UPDATE. It is not changed.
var keepalive = AppendMessage(nil, TypeKeepalive)

// Judge returns the message that the engine is given for one of the router's,
// nil for none; or why the connection ends. What it returns may be msg itself.
func (f *Filter) Judge(msg []byte, now time.Time) (pass []byte, refusal *Refusal) {
	switch t := TypeOf(msg); {
	case f.phase == closed:
		return nil, &undue[closed]
	case t == TypeNotification:
		f.phase = closed
		// Code and subcode. The text is for operators, and is read elsewhere.
		return AppendMessage(nil, TypeNotification, msg[HeaderLen:HeaderLen+2]...), nil
	case t == TypeOpen && f.phase == waitsForOpen:
		o, err := ParseOpen(msg)
		if err != nil {
			f.phase = closed
			return nil, &malformed
		}
		f.phase = waitsForKeepalive
		return o.message(), nil
	case t == TypeKeepalive && f.phase == waitsForKeepalive:
		f.phase, f.heard = open, now
		return keepalive, nil
	case t == TypeOpen || f.phase != open:
		r := &undue[f.phase]
		f.phase = closed
		return nil, r
	case t == TypeRouteRefresh && plain(msg):
		return msg, nil
	}
	if now.Sub(f.heard) < often {
		return nil, nil
	}
	f.heard = now
	return keepalive, nil
}

// plain reports whether a ROUTE-REFRESH asks for a family of ours, and nothing
// else: neither for a filter (RFC 5291) nor as a demarcation (RFC 7313).
func plain(msg []byte) bool {
	body := msg[HeaderLen:]
	return len(body) == 4 && (slices.Equal(body, ipv4Unicast[:]) || slices.Equal(body, ipv6Unicast[:]))
}
