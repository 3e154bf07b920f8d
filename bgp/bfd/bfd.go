// Package bfd finds out within a fraction of a second that a neighbor cannot
// be reached, by Bidirectional Forwarding Detection (RFC 5880), in asynchronous
// mode over a single hop of IPv4 or IPv6 (RFC 5881). Neither the echo function
// nor demand mode nor authentication is offered; packets that ask for the
// latter are dropped.
package bfd

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Config is how a session is timed.
type Config struct {
	// Interval is both how often we want to send and how often we are willing
	// to receive (bfd.DesiredMinTxInterval and bfd.RequiredMinRxInterval, RFC
	// 5880 6.8.1): from 10ms to 10s, in whole microseconds. What is used is the
	// slower of the two sides' wishes, for each direction.
	Interval time.Duration
	// Multiplier is how many of our intervals may pass in silence before the
	// neighbor gives us up (bfd.DetectMult): from 2 to 255. One would make of
	// each lost packet a failure.
	Multiplier int
}

// Bounds of a Config.
const (
	MinInterval   = 10 * time.Millisecond
	MaxInterval   = 10 * time.Second
	MinMultiplier = 2
	MaxMultiplier = 255
)

// Validate reports every fault of c.
func (c Config) Validate() error {
	var errs []error
	if c.Interval < MinInterval || c.Interval > MaxInterval || c.Interval%time.Microsecond != 0 {
		errs = append(errs, fmt.Errorf("interval: %s is not a whole number of microseconds from %s to %s", c.Interval, MinInterval, MaxInterval))
	}
	if c.Multiplier < MinMultiplier || c.Multiplier > MaxMultiplier {
		errs = append(errs, fmt.Errorf("multiplier: %d is not from %d to %d", c.Multiplier, MinMultiplier, MaxMultiplier))
	}
	return errors.Join(errs...)
}

// Peer is a neighbor to hold a session with.
type Peer struct {
	Name    string     // unique
	Address netip.Addr // unique; a link-local one has a zone
	Config  Config
	// Hold has a session that is not Up stay so, in silence, until it is false.
	Hold bool
}

// Status is what is known of one session.
type Status struct {
	State State
	Since time.Time // of the last change to or from Up; zero if never
	// Diag is why the session last left Up or Init, as we put it; RemoteDiag is
	// what the neighbor said last.
	Diag, RemoteDiag Diag
	RemoteState      State
	// RemoteAdmin says that the neighbor has taken the session down on
	// purpose, which is no failure of the path.
	RemoteAdmin bool
	// Transmit is how often we send, before jitter; Detection is how long a
	// silence is a failure. Both are as negotiated; 0: nothing heard yet.
	Transmit, Detection time.Duration
	Discriminator       uint32 // ours
	RemoteDiscriminator uint32 // 0: unknown
	// Failures counts how often the session was Up and was lost; that the
	// neighbor takes it down on purpose is not one.
	Failures int
	// Reason says in words why the session is not Up; empty if it is.
	Reason string
}
