package bfd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// State is a session's state as it is on the wire (RFC 5880 4.1).
type State uint8

// The states of RFC 5880 4.1.
const (
	AdminDown State = iota
	Down
	Init
	Up
)

func (s State) String() string {
	switch s {
	case AdminDown:
		return "admin-down"
	case Down:
		return "down"
	case Init:
		return "init"
	case Up:
		return "up"
	}
	return "state " + strconv.Itoa(int(s))
}

// Diag is why a session last went down (RFC 5880 4.1).
type Diag uint8

// The diagnostics of RFC 5880 4.1 that a single-hop session has a use for.
const (
	DiagNone           Diag = 0
	DiagExpired        Diag = 1 // control detection time expired
	DiagNeighborDown   Diag = 3 // neighbor signaled session down
	DiagAdministrative Diag = 7 // administratively down
)

const (
	lengthMandatory     = 24
	lengthAuthenticated = 26 // at least
	version             = 1
)

var diagWords = [...]string{
	"none", "detection time expired", "echo failed", "neighbor signaled down", "forwarding plane reset",
	"path down", "concatenated path down", "administratively down", "reverse concatenated path down",
}

func (d Diag) String() string {
	if int(d) < len(diagWords) {
		return diagWords[d]
	}
	return "diagnostic " + strconv.Itoa(int(d))
}

// Packet is a BFD control packet without an authentication section (RFC 5880
// 4.1). The intervals are whole microseconds and at most 2^32-1 of them.
type Packet struct {
	Diag              Diag // 5 bits
	State             State
	Poll, Final       bool
	Independent       bool // control plane independent
	Demand            bool
	DetectMult        uint8 // not 0
	MyDiscriminator   uint32
	YourDiscriminator uint32
	DesiredMinTx      time.Duration
	RequiredMinRx     time.Duration
	RequiredMinEchoRx time.Duration
}

const (
	flagPoll          = 1 << 5
	flagFinal         = 1 << 4
	flagIndependent   = 1 << 3
	flagAuthenticated = 1 << 2
	flagDemand        = 1 << 1
	flagMultipoint    = 1 << 0
)

// Why a packet is dropped (RFC 5880 6.8.6).
var (
	errShort         = errors.New("it is shorter than its length says, or than a control packet")
	errVersion       = errors.New("its version is not 1")
	errDetectMult    = errors.New("its detect multiplier is 0")
	errMultipoint    = errors.New("its multipoint bit is set")
	errMyDiscr       = errors.New("it has no discriminator of its sender")
	errYourDiscr     = errors.New("it has no discriminator of ours in a state that needs one")
	errAuthenticated = errors.New("it is authenticated, and the session is not")
)

// Parse reads a control packet, and makes those checks of RFC 5880 6.8.6 that
// need no session. Octets behind the packet's length are left aside. It does
// not allocate.
func Parse(b []byte) (Packet, error) {
	if len(b) < lengthMandatory {
		return Packet{}, errShort
	}
	length, flags := int(b[3]), b[1]
	switch {
	case b[0]>>5 != version:
		return Packet{}, errVersion
	case length < lengthMandatory, length > len(b), flags&flagAuthenticated != 0 && length < lengthAuthenticated:
		return Packet{}, errShort
	case b[2] == 0:
		return Packet{}, errDetectMult
	case flags&flagMultipoint != 0:
		return Packet{}, errMultipoint
	}
	p := Packet{
		Diag: Diag(b[0] & 0x1f), State: State(flags >> 6),
		Poll: flags&flagPoll != 0, Final: flags&flagFinal != 0,
		Independent: flags&flagIndependent != 0, Demand: flags&flagDemand != 0,
		DetectMult:        b[2],
		MyDiscriminator:   binary.BigEndian.Uint32(b[4:]),
		YourDiscriminator: binary.BigEndian.Uint32(b[8:]),
		DesiredMinTx:      micros(b[12:]),
		RequiredMinRx:     micros(b[16:]),
		RequiredMinEchoRx: micros(b[20:]),
	}
	switch {
	case p.MyDiscriminator == 0:
		return Packet{}, errMyDiscr
	case p.YourDiscriminator == 0 && p.State != Down && p.State != AdminDown:
		return Packet{}, errYourDiscr
	case flags&flagAuthenticated != 0:
		return Packet{}, errAuthenticated
	}
	return p, nil
}

// Append writes p behind b.
func (p Packet) Append(b []byte) []byte {
	flags := byte(p.State) << 6
	if p.Poll {
		flags |= flagPoll
	}
	if p.Final {
		flags |= flagFinal
	}
	if p.Independent {
		flags |= flagIndependent
	}
	if p.Demand {
		flags |= flagDemand
	}
	b = append(b, version<<5|byte(p.Diag&0x1f), flags, p.DetectMult, lengthMandatory)
	b = binary.BigEndian.AppendUint32(b, p.MyDiscriminator)
	b = binary.BigEndian.AppendUint32(b, p.YourDiscriminator)
	b = binary.BigEndian.AppendUint32(b, uint32(p.DesiredMinTx/time.Microsecond))
	b = binary.BigEndian.AppendUint32(b, uint32(p.RequiredMinRx/time.Microsecond))
	return binary.BigEndian.AppendUint32(b, uint32(p.RequiredMinEchoRx/time.Microsecond))
}

func micros(b []byte) time.Duration {
	return time.Duration(binary.BigEndian.Uint32(b)) * time.Microsecond
}

// String is for logs and failing tests.
func (p Packet) String() string {
	return fmt.Sprintf("%s (%s) poll=%t final=%t x%d %08x->%08x tx %s rx %s",
		p.State, p.Diag, p.Poll, p.Final, p.DetectMult, p.MyDiscriminator, p.YourDiscriminator, p.DesiredMinTx, p.RequiredMinRx)
}
