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
	// Of each family: whether the router waits for its routes anew, and when the
	// engine was last told so.
	asks  [len(refreshes)]bool
	asked [len(refreshes)]time.Time
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

// seldom is how often the engine is asked for all routes anew (RFC 2918). Each
// time costs it memory until the router has read the answer; a router that asks
// again in the meantime is answered once, at its next message.
const seldom = time.Second

// refreshes are what a router asks with, and passed what the engine is given
// for it: with a KEEPALIVE behind it, since it does not restart the hold timer.
// They are not changed.
var (
	refreshes = [...][]byte{
		AppendMessage(nil, TypeRouteRefresh, ipv4Unicast[:]...),
		AppendMessage(nil, TypeRouteRefresh, ipv6Unicast[:]...),
	}
	passed = [...][]byte{
		AppendMessage(slices.Clone(refreshes[0]), TypeKeepalive),
		AppendMessage(slices.Clone(refreshes[1]), TypeKeepalive),
	}
)

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

// Judge returns what the engine is given for one of the router's messages: whole
// messages, or nil for none; or why the connection ends. What it returns must
// not be changed.
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
	case t == TypeRouteRefresh:
		// One with more in it asks for a filter (RFC 5291) or is a demarcation (RFC
		// 7313), and one of another family is nothing to us.
		for i, r := range refreshes {
			f.asks[i] = f.asks[i] || slices.Equal(r, msg)
		}
	}
	return f.due(now), nil
}

// due is what the engine should have now, of what can wait.
func (f *Filter) due(now time.Time) []byte {
	for i := range passed {
		if f.asks[i] && now.Sub(f.asked[i]) >= seldom {
			f.asks[i], f.asked[i], f.heard = false, now, now
			return passed[i]
		}
	}
	if now.Sub(f.heard) < often {
		return nil
	}
	f.heard = now
	return keepalive
}
