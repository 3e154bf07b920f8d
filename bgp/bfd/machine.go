package bfd

import (
	"math/rand/v2"
	"time"
)

// slowInterval is the least DesiredMinTx of a session that is not Up (RFC 5880
// 6.8.3).
const slowInterval = time.Second

// Change is what an input made of a session's state.
type Change uint8

// What a caller has to act on.
const (
	Unchanged Change = iota
	WentUp
	Failed    // it was Up, and the path or the neighbor is lost
	Withdrawn // it was Up, and the neighbor took it down on purpose: no failure
	Moved     // between states other than Up
)

// Machine is one session's state machine (RFC 5880 6.8) in the active role. It
// is pure: the caller tells it the time, which never goes back, and sends what
// it is told to. It does not allocate once made.
type Machine struct {
	config Config
	random *rand.Rand

	// The state variables of RFC 5880 6.8.1.
	state, remoteState      State
	localDiscr, remoteDiscr uint32
	localDiag, remoteDiag   Diag
	desiredMinTx            time.Duration // as we announce it; at least slowInterval unless Up
	requiredMinRx           time.Duration // as we announce it
	remoteMinRx             time.Duration
	remoteDemand            bool
	remoteDesiredMinTx      time.Duration // of the last packet received, 0 before
	remoteDetectMult        uint8
	polling, pollAgain      bool
	txInUse, rxInUse        time.Duration // what we act on until a poll sequence has ended (6.8.3)
	expire                  time.Time     // zero: never
	plan                                  // of the next packet
	prompt, final           bool          // a packet is to go out now: since it differs; in answer to a poll
	leaving                 bool          // another process goes on: only sending continues
}

// plan is when the next packet is due, and by what.
type plan struct {
	lastSent  time.Time // zero: never
	sendAt    time.Time
	planned   time.Time // what sendAt was computed as
	reduction float64   // jitter of the packet at sendAt: 0 to 0.25 (6.8.7)
}

// NewMachine returns a session that is Down and sends its first packet at now,
// or a moment later: sessions that start together should not send together.
// discr is its discriminator, not 0 and unique on this system.
func NewMachine(c Config, discr uint32, random *rand.Rand, now time.Time) *Machine {
	m := &Machine{
		config: c, random: random, state: Down, remoteState: Down, localDiscr: discr,
		remoteMinRx: time.Microsecond, desiredMinTx: max(slowInterval, c.Interval), requiredMinRx: c.Interval,
	}
	m.txInUse, m.rxInUse = m.desiredMinTx, m.requiredMinRx
	m.sendAt = now.Add(time.Duration(random.Int64N(int64(10 * time.Millisecond))))
	return m
}

// transmitInterval is the least time between two packets of ours, before
// jitter (RFC 5880 6.8.7); 0: none are sent.
func (m *Machine) transmitInterval() time.Duration {
	if m.remoteMinRx == 0 {
		return 0
	}
	return max(m.txInUse, m.remoteMinRx)
}

// detectionTime is how long a silence of the neighbor is a failure (RFC 5880
// 6.8.4); 0: nothing was heard yet.
func (m *Machine) detectionTime() time.Duration {
	return time.Duration(m.remoteDetectMult) * max(m.rxInUse, m.remoteDesiredMinTx)
}

// Receive takes a packet that Parse has accepted, and that is for this session
// (RFC 5880 6.8.6).
func (m *Machine) Receive(now time.Time, p Packet) Change {
	if m.leaving {
		return Unchanged
	}
	m.remoteDiscr, m.remoteState, m.remoteDiag = p.MyDiscriminator, p.State, p.Diag
	m.remoteDemand, m.remoteMinRx = p.Demand, p.RequiredMinRx
	m.remoteDesiredMinTx, m.remoteDetectMult = p.DesiredMinTx, p.DetectMult
	if m.polling && p.Final {
		m.endPoll()
	}
	if m.state == AdminDown {
		m.reschedule(now)
		return Unchanged
	}
	was := m.state
	switch {
	case p.State == AdminDown:
		if m.state != Down {
			m.localDiag = DiagNeighborDown
			m.enter(now, Down)
		}
	case m.state == Down && p.State == Down:
		m.enter(now, Init)
	case m.state == Down && p.State == Init, m.state == Init && p.State >= Init:
		m.localDiag = DiagNone
		m.enter(now, Up)
	case m.state == Up && p.State == Down:
		m.localDiag = DiagNeighborDown
		m.enter(now, Down)
	}
	if p.Poll {
		m.final = true
	}
	m.expire = now.Add(m.detectionTime())
	m.reschedule(now)
	return m.changed(was)
}

func (m *Machine) changed(was State) Change {
	switch {
	case was == m.state:
		return Unchanged
	case m.state == Up:
		return WentUp
	case was == Up && m.localDiag != DiagAdministrative && m.remoteState == AdminDown:
		return Withdrawn
	case was == Up && m.localDiag != DiagAdministrative:
		return Failed
	}
	return Moved
}

// enter changes the state. The neighbor is told at once (RFC 5880 6.8.7), and
// of the timers that go with the state (6.8.3).
func (m *Machine) enter(now time.Time, s State) {
	m.state = s
	m.prompt = true
	m.announce(now)
}

// announce sets what we announce to what state and configuration ask for, and
// begins a poll sequence if that is something else (RFC 5880 6.8.3).
func (m *Machine) announce(now time.Time) {
	tx, rx := m.config.Interval, m.config.Interval
	if m.state != Up {
		tx = max(tx, slowInterval)
	}
	if tx == m.desiredMinTx && rx == m.requiredMinRx {
		return
	}
	m.desiredMinTx, m.requiredMinRx = tx, rx
	if m.state != Up {
		// Without a session there is nobody who counts on the old values, nor
		// answers a poll.
		m.txInUse, m.rxInUse = tx, rx
		m.polling, m.pollAgain = false, false
	} else {
		// Sending slower, or expecting more often, has to wait until the
		// neighbor has agreed.
		m.txInUse, m.rxInUse = min(m.txInUse, tx), max(m.rxInUse, rx)
		m.pollAgain = m.polling
		m.polling, m.prompt = true, true
	}
	m.reschedule(now)
}

// endPoll ends a poll sequence, unless what we announce has changed since it
// began: the answer may be to what was before (RFC 5880 6.5).
func (m *Machine) endPoll() {
	if m.pollAgain {
		m.pollAgain = false
		return
	}
	m.polling = false
	m.txInUse, m.rxInUse = m.desiredMinTx, m.requiredMinRx
}

// Configure changes the timing of the session, which goes on meanwhile.
func (m *Machine) Configure(now time.Time, c Config) {
	if c == m.config {
		return
	}
	m.prompt = m.prompt || c.Multiplier != m.config.Multiplier
	m.config = c
	m.announce(now)
}

// Disable takes the session down on purpose (RFC 5880 6.8.16), and tells the
// neighbor at once. There is no way back: a new session has a new Machine.
func (m *Machine) Disable(now time.Time) {
	m.localDiag = DiagAdministrative
	m.expire = time.Time{}
	m.enter(now, AdminDown)
}

// Leave stops all but sending, which goes on as it was: another process goes
// on with the session, and what it has not sent yet is sent by this one.
func (m *Machine) Leave() {
	m.leaving = true
	m.expire = time.Time{}
	m.prompt, m.final = false, false
}

// silent says that no periodic packets are sent (RFC 5880 6.8.7).
func (m *Machine) silent() bool {
	demand := m.remoteDemand && m.state == Up && m.remoteState == Up && !m.polling
	return m.remoteMinRx == 0 || demand
}

// reschedule moves the next packet to where the interval that is in use now
// puts it, if that is another one.
func (m *Machine) reschedule(now time.Time) {
	if m.lastSent.IsZero() {
		return // the first one is still to come
	}
	if at := m.lastSent.Add(m.jittered()); !at.Equal(m.planned) {
		m.planned, m.sendAt = at, at
		if at.Before(now) {
			m.sendAt = now // it is not late: it was not due before
		}
	}
}

func (m *Machine) jittered() time.Duration {
	return time.Duration(float64(m.transmitInterval()) * (1 - m.reduction))
}

// Next is when Advance has something to do next: now, or later, or, if it is
// zero, not before another input.
func (m *Machine) Next(now time.Time) time.Time {
	if m.prompt || m.final {
		return now
	}
	next := m.expire
	if !m.silent() && (next.IsZero() || m.sendAt.Before(next)) {
		next = m.sendAt
	}
	if !next.IsZero() && next.Before(now) {
		return now
	}
	return next
}

// Advance lets time pass: a silence may end the session, and if send is true,
// out is to be sent now. late is by how much a periodic packet missed its
// time; it is negative for a packet that answers to something. There may be
// more to do at once: Next tells.
func (m *Machine) Advance(now time.Time) (out Packet, send bool, late time.Duration, change Change) {
	if m.expires(now) {
		change = m.expired(now)
	}
	if m.final {
		// It has P clear, and so does not stand for a periodic packet, nor for
		// one that begins a poll sequence (6.5).
		m.final = false
		m.prompt = m.prompt && m.polling
		out = m.packet()
		out.Poll, out.Final = false, true
		return out, true, -1, change
	}
	if m.silent() {
		m.prompt = false
		return out, false, -1, change
	}
	if due := !now.Before(m.sendAt); m.prompt || due {
		late = -1
		if due {
			late = now.Sub(m.sendAt)
		}
		m.prompt = false
		out = m.packet()
		m.sent(now)
		return out, true, late, change
	}
	return out, false, -1, change
}

// Ahead gives the next periodic packet before it is due, for a caller that has
// it sent at that time, and takes it for sent. ok is false in states in which
// what is said next may be something else. To take a packet back is to set plan
// to what it was.
func (m *Machine) Ahead(now time.Time) (out Packet, at time.Time, ok bool) {
	if m.state != Up || m.remoteState != Up || m.polling || m.prompt || m.silent() || m.lastSent.IsZero() || !m.sendAt.After(now) {
		return Packet{}, time.Time{}, false
	}
	at = m.sendAt
	m.sent(at)
	return m.packet(), at, true
}

// sent plans the next packet. Each interval is shortened at random, so that
// systems do not fall into step; with a multiplier of 1 by at least 10 %,
// which the Config excludes (RFC 5880 6.8.7).
func (m *Machine) sent(now time.Time) {
	m.lastSent = now
	m.reduction = 0.25 * m.random.Float64()
	m.planned = now.Add(m.jittered())
	m.sendAt = m.planned
}

// expires says whether the neighbor has been silent for too long.
func (m *Machine) expires(now time.Time) bool { return !m.expire.IsZero() && !now.Before(m.expire) }

// expired ends the session after a silence (RFC 5880 6.8.4).
func (m *Machine) expired(now time.Time) Change {
	m.expire = time.Time{}
	m.remoteDiscr = 0 // 6.8.1
	was := m.state
	if was == Init || was == Up {
		m.localDiag = DiagExpired
		// What the neighbor said last was said before the silence: it does not
		// make a failure of today a decision of then.
		m.remoteState = Down
		m.enter(now, Down)
	}
	return m.changed(was)
}

// packet is what a periodic packet says now (RFC 5880 6.8.7).
func (m *Machine) packet() Packet {
	return Packet{
		Diag: m.localDiag, State: m.state, Poll: m.polling, DetectMult: uint8(m.config.Multiplier),
		MyDiscriminator: m.localDiscr, YourDiscriminator: m.remoteDiscr,
		DesiredMinTx: m.desiredMinTx, RequiredMinRx: m.requiredMinRx,
	}
}

// Snapshot is a session on its way from one process to the next.
type Snapshot struct {
	Config              Config
	State, RemoteState  State
	Discriminator       uint32
	RemoteDiscriminator uint32
	Diag, RemoteDiag    Diag
	RemoteDemand        bool
	RemoteMinRx         time.Duration
	RemoteDesiredMinTx  time.Duration
	RemoteDetectMult    uint8
	Polling             bool
	TxInUse, RxInUse    time.Duration
}

// Snapshot gives what another process needs to go on.
func (m *Machine) Snapshot() Snapshot {
	return Snapshot{
		Config: m.config, State: m.state, RemoteState: m.remoteState,
		Discriminator: m.localDiscr, RemoteDiscriminator: m.remoteDiscr,
		Diag: m.localDiag, RemoteDiag: m.remoteDiag, RemoteDemand: m.remoteDemand, RemoteMinRx: m.remoteMinRx,
		RemoteDesiredMinTx: m.remoteDesiredMinTx, RemoteDetectMult: m.remoteDetectMult,
		Polling: m.polling, TxInUse: m.txInUse, RxInUse: m.rxInUse,
	}
}

// Resume returns a session that goes on from a Snapshot, and sends at once. The
// neighbor has a whole detection time to be heard.
func Resume(s Snapshot, random *rand.Rand, now time.Time) *Machine {
	m := NewMachine(s.Config, s.Discriminator, random, now)
	m.state, m.remoteState = s.State, s.RemoteState
	m.remoteDiscr, m.localDiag, m.remoteDiag = s.RemoteDiscriminator, s.Diag, s.RemoteDiag
	m.remoteDemand, m.remoteMinRx = s.RemoteDemand, s.RemoteMinRx
	m.remoteDesiredMinTx, m.remoteDetectMult = s.RemoteDesiredMinTx, s.RemoteDetectMult
	if s.State == Up {
		m.desiredMinTx = s.Config.Interval
	}
	m.txInUse, m.rxInUse, m.polling = s.TxInUse, s.RxInUse, s.Polling
	if s.RemoteDetectMult > 0 {
		m.expire = now.Add(m.detectionTime())
	}
	m.prompt = true
	return m
}
