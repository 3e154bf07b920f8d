package bfd

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// batch is how many packets are received before the timers are looked at
	// again; after a full batch, nothing is received for rest. So a flood that
	// passes the filter costs a bounded share of a core, and no punctuality.
	batch = 64
	rest  = time.Millisecond
	// reopenEach is how often a socket that could not be opened is tried.
	reopenEach = time.Second
	// longestFarewell bounds how long AdminDown is said to a peer.
	longestFarewell = time.Second
)

// loop is the thread that sends and receives. Its fields are its own, but for
// commands; it takes no lock, waits for no other goroutine, and allocates only
// when a session's state or the set of sessions changes. So what may delay it
// is the kernel, and the moments in which Go's garbage collector stops all.
type loop struct {
	engine   *Engine
	random   *rand.Rand
	commands chan func()
	wake     int // an eventfd
	done     chan struct{}

	sessions  map[string]*session
	order     []*session // the same, and those that are ending
	receivers [2]*receiver
	faults    [2]error // why one could not be opened
	reopenAt  time.Time
	restUntil time.Time
	detached  bool
	ending    bool
	ring      *ring  // sends ahead; nil: this kernel does not, or does not allow it
	serial    uint64 // of what it was given last
	spare     bool   // the runtime has one more P for this thread: see reserve

	fds     [4]unix.PollFd
	timeout unix.Timespec
	out     [lengthMandatory]byte
}

// session is one peer's: owned by the loop.
type session struct {
	peer    Peer
	source  source
	machine *Machine
	fd      int    // -1: it could not be opened
	port    uint16 // that fd is bound to; 0: any will do
	to      unix.Sockaddr
	shown   *published
	since   time.Time
	remote  bool      // the peer took it down on purpose
	until   time.Time // zero: it stays; else when it is dropped
	sendErr error     // of the last packet; nil if it was sent
	last    Status    // as published
	ahead   ahead
	stamps  stamps
}

func newLoop(e *Engine) (*loop, error) {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("start BFD: %w", err)
	}
	return &loop{
		engine: e, random: rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())),
		commands: make(chan func(), 1), wake: wake, done: make(chan struct{}), sessions: map[string]*session{},
	}, nil
}

// do runs f on the loop's thread, and returns when it has. It must not be
// called once the loop was closed.
func (l *loop) do(f func()) {
	ran := make(chan struct{})
	select {
	case l.commands <- func() { defer close(ran); f() }:
	case <-l.done:
		return
	}
	one := binary.NativeEndian.AppendUint64(nil, 1)
	_, _ = unix.Write(l.wake, one)
	select {
	case <-ran:
	case <-l.done:
	}
}

// close frees what do needs.
func (l *loop) close() { _ = unix.Close(l.wake) }

// run never unlocks its thread: with the goroutine, the runtime ends the
// thread, and its priority with it.
func (l *loop) run() {
	runtime.LockOSThread()
	defer close(l.done)
	priority := raisePriority()
	l.engine.lateness.priority.Store(&priority)
	l.ring, _ = newRing()
	for !l.ending || len(l.order) > 0 && !l.detached {
		l.turn()
	}
	for _, s := range l.order {
		l.shut(s)
	}
	if l.ring != nil {
		l.ring.close()
	}
	l.closeReceivers()
	l.reserve(false)
}

// turn is one round: wait, obey, receive, send.
func (l *loop) turn() {
	now := time.Now()
	l.wait(now)
	if l.fds[0].Revents != 0 {
		l.obey()
	}
	now = time.Now()
	if l.ring != nil {
		l.reap(now)
	}
	if !l.detached && !l.reopenAt.IsZero() && !now.Before(l.reopenAt) {
		l.open(now)
	}
	if !now.Before(l.restUntil) {
		// Whatever poll has said: since it returned, this thread may have waited
		// for a P, and packets have come meanwhile.
		for _, r := range l.receivers {
			if r != nil {
				l.receive(r, now)
			}
		}
	}
	// What has expired is judged by the time before that: a silence is one only
	// if nothing was in the queue after it.
	gone := false
	for _, s := range l.order {
		l.advance(s, now)
		gone = gone || !s.until.IsZero() && !now.Before(s.until)
	}
	if gone {
		l.drop(now)
	}
}

// wait sleeps until a command, a packet, or the next deadline.
func (l *loop) wait(now time.Time) {
	l.fds[0] = unix.PollFd{Fd: int32(l.wake), Events: unix.POLLIN}
	l.fds[3] = unix.PollFd{Fd: -1}
	if l.ring != nil {
		l.fds[3] = unix.PollFd{Fd: int32(l.ring.fd), Events: unix.POLLIN}
	}
	resting := now.Before(l.restUntil)
	for i, r := range l.receivers {
		l.fds[1+i] = unix.PollFd{Fd: -1} // ignored
		if r != nil && !resting {
			l.fds[1+i] = unix.PollFd{Fd: int32(r.fd), Events: unix.POLLIN}
		}
	}
	next := l.reopenAt
	earlier := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	if resting {
		earlier(l.restUntil)
	}
	for _, s := range l.order {
		if !s.held() {
			earlier(s.machine.Next(now))
		}
		earlier(s.until)
	}
	timeout := (*unix.Timespec)(nil)
	if !next.IsZero() {
		l.timeout = unix.NsecToTimespec(max(0, int64(next.Sub(now))))
		timeout = &l.timeout
	}
	// An error is a signal, and leaves Revents as they are: none.
	_, _ = unix.Ppoll(l.fds[:], timeout, nil)
}

func (l *loop) obey() {
	var count [8]byte
	_, _ = unix.Read(l.wake, count[:])
	for {
		select {
		case f := <-l.commands:
			f()
		default:
			return
		}
	}
}

func (l *loop) receive(r *receiver, now time.Time) {
	for range batch {
		packet, from, hops, ok := r.receive()
		if !ok {
			return
		}
		if !l.deliver(packet, from, hops, now) {
			l.engine.lateness.refused.Add(1)
		}
	}
	l.restUntil = now.Add(rest)
}

// deliver gives a packet to its session, if it is a good one.
func (l *loop) deliver(b []byte, from source, hops int, now time.Time) bool {
	if hops != hopLimit { // RFC 5881 5
		return false
	}
	p, err := Parse(b)
	if err != nil {
		return false
	}
	for _, s := range l.order {
		// By the discriminator, and by where it comes from: on a single hop, a
		// neighbor has one address (RFC 5880 6.8.6, RFC 5881 3).
		if s.source != from || p.YourDiscriminator != 0 && p.YourDiscriminator != s.machine.localDiscr {
			continue
		}
		if p.YourDiscriminator == 0 && !s.until.IsZero() {
			continue
		}
		if !s.held() {
			l.note(s, s.machine.Receive(now, p), now)
		}
		return true
	}
	return false
}

// advance sends what is due.
func (l *loop) advance(s *session, now time.Time) {
	if !s.ahead.fits(s.machine, now) {
		l.takeBack(s, now)
	}
	defer l.stock(s, now)
	for !s.held() {
		if next := s.machine.Next(now); next.IsZero() || next.After(now) {
			return
		}
		p, send, late, change := s.machine.Advance(now)
		if send && s.fd >= 0 {
			s.sendErr = unix.Sendto(s.fd, p.Append(l.out[:0]), unix.MSG_DONTWAIT, s.to)
			if s.sendErr != nil {
				l.engine.lateness.unsent.Add(1)
			}
			if late >= 0 {
				l.engine.lateness.add(late + time.Since(now))
			}
		}
		l.note(s, change, now)
	}
}

// note publishes what has changed.
func (l *loop) note(s *session, change Change, now time.Time) {
	switch change {
	case Unchanged, Moved:
	case WentUp:
		s.since, s.remote = now, false
	case Failed:
		s.since, s.remote = now, false
		lost := l.status(s)
		lost.Failures++
		s.shown.lost.Store(&lost)
		s.shown.failures.Add(1)
	case Withdrawn:
		s.since, s.remote = now, true
	}
	status := l.status(s)
	if status == s.last {
		return
	}
	s.last = status
	fresh := status // on the heap, and never written again
	s.shown.status.Store(&fresh)
	l.tell()
}

func (l *loop) status(s *session) Status {
	m := s.machine
	st := Status{
		State: m.state, Since: s.since, Diag: m.localDiag, RemoteDiag: m.remoteDiag, RemoteState: m.remoteState,
		RemoteAdmin: m.remoteState == AdminDown && (s.remote || m.remoteDetectMult > 0),
		Detection:   m.detectionTime(), Discriminator: m.localDiscr, RemoteDiscriminator: m.remoteDiscr,
		Failures: int(s.shown.failures.Load()),
	}
	if m.remoteDetectMult > 0 {
		st.Transmit = m.transmitInterval()
	}
	if m.state != Up {
		st.Reason = l.reason(s, st)
	}
	return st
}

// reason is why a session is not up.
func (l *loop) reason(s *session, st Status) string {
	family := 0
	if !s.source.addr.Is4() {
		family = 1
	}
	switch {
	case st.State == AdminDown:
		return "taken down here: the neighbor is not configured any more, or the node stops"
	case l.faults[family] != nil:
		return l.faults[family].Error()
	case s.sendErr != nil:
		return "cannot send: " + s.sendErr.Error()
	case st.RemoteAdmin:
		return "the router has taken the session down on purpose"
	case st.Diag == DiagExpired:
		return fmt.Sprintf("nothing heard from the router for %s", st.Detection)
	case st.Diag == DiagNeighborDown:
		return "the router says that the session is down: " + st.RemoteDiag.String()
	case s.held():
		return "BFD begins when the BGP session is established"
	case st.Detection == 0:
		return "nothing heard from the router yet: is BFD on there for this node?"
	}
	return "the session is being set up"
}

// set makes peers those that sessions are held with.
func (l *loop) set(peers []Peer, adopted []Handover) {
	if l.detached {
		return
	}
	now := time.Now()
	wanted := map[string]bool{}
	for _, p := range peers {
		wanted[p.Name] = true
		old := l.sessions[p.Name]
		if old != nil && old.peer.Address == p.Address {
			was := old.held()
			old.peer = p
			if was && !old.held() {
				l.begin(old, now)
			}
			old.machine.Configure(now, p.Config)
			l.note(old, Unchanged, now)
			continue
		}
		if old != nil {
			l.farewell(old, now)
		}
		var from *Handover
		if i := slices.IndexFunc(adopted, func(h Handover) bool { return h.Peer == p.Name }); i >= 0 {
			from = &adopted[i]
		}
		l.add(p, from, now)
	}
	for name, s := range l.sessions {
		if !wanted[name] {
			l.farewell(s, now)
		}
	}
	l.open(now)
	l.reserve(len(l.sessions) > 0)
	l.publish()
}

// reserve lets one more thread run Go code at a time than there are cores, or
// ends that. A thread that wakes up needs one of the runtime's Ps to go on, and
// where every P belongs to a thread of the proxy that the kernel has put aside
// for another one, no priority of this thread helps: it waited for up to 120 ms.
// With one to spare it runs at once.
func (l *loop) reserve(want bool) {
	switch {
	case want && !l.spare:
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	case !want && l.spare:
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) - 1)
	}
	l.spare = want
}

func (l *loop) add(p Peer, from *Handover, now time.Time) {
	s := &session{peer: p, fd: -1, shown: &published{was: Down}}
	if from != nil && from.Session.Discriminator != 0 && from.Session.Config.Validate() == nil {
		s.machine = Resume(from.Session, l.random, now)
		s.machine.Configure(now, p.Config)
		s.port, s.since = from.SourcePort, from.Since
		s.shown.failures.Store(int64(from.Failures))
		s.shown.seen, s.shown.was = int64(from.Failures), from.Session.State
	} else {
		s.machine = NewMachine(p.Config, l.discriminator(), l.random, now)
	}
	l.sessions[p.Name] = s
	l.order = append(l.order, s)
	s.last = l.status(s)
	first := s.last
	s.shown.status.Store(&first)
}

// held says that the session is to stay as it is: nothing is sent, and nothing
// that comes is heard.
func (s *session) held() bool { return s.peer.Hold && s.machine.state != Up && s.until.IsZero() }

// begin starts a session again that was held. Why it had ended stays known.
func (l *loop) begin(s *session, now time.Time) {
	diag := s.machine.localDiag
	s.machine = NewMachine(s.peer.Config, s.machine.localDiscr, l.random, now)
	s.machine.localDiag = diag
	s.remote = false
}

// prepare opens what the session sends on.
func (l *loop) prepare(s *session) {
	if s.fd >= 0 {
		return
	}
	var err error
	if s.source, err = resolve(s.peer.Address); err == nil {
		s.to = s.source.sockaddr(l.engine.options.to)
		port := s.port
		s.fd, s.port, err = openSender(s.source.addr.Is4(), port, l.random)
		if err != nil && port != 0 {
			s.fd, s.port, err = openSender(s.source.addr.Is4(), 0, l.random)
		}
	}
	if s.sendErr = err; err == nil {
		s.stamps.enable(s.fd)
	}
}

// shut ends a session's sending: what the kernel has of it is not sent.
func (l *loop) shut(s *session) {
	l.takeBack(s, time.Now())
	if s.fd >= 0 {
		_ = unix.Close(s.fd)
	}
}

// discriminator is random, not 0, and unique here (RFC 5880 6.8.1): who cannot
// see our packets cannot guess it.
func (l *loop) discriminator() uint32 {
	for {
		d := rand.Uint32()
		if d != 0 && !slices.ContainsFunc(l.order, func(s *session) bool { return s.machine.localDiscr == d }) {
			return d
		}
	}
}

// farewell takes a session down on purpose, and says so for a detection time
// as the peer counts it (RFC 5880 6.8.16).
func (l *loop) farewell(s *session, now time.Time) {
	delete(l.sessions, s.peer.Name)
	linger := min(time.Duration(s.peer.Config.Multiplier)*s.machine.transmitInterval(), longestFarewell)
	if s.machine.state != Up && s.machine.state != Init {
		linger = 0
	}
	s.until = now.Add(linger)
	s.machine.Disable(now)
	l.advance(s, now)
}

// drop forgets sessions that have said farewell.
func (l *loop) drop(now time.Time) {
	l.order = slices.DeleteFunc(l.order, func(s *session) bool {
		over := !s.until.IsZero() && !now.Before(s.until)
		if over {
			// It was said once, and may have been lost.
			s.machine.prompt = true
			l.advance(s, now)
			l.shut(s)
		}
		return over
	})
	l.open(now)
}

// publish shows others which sessions there are.
func (l *loop) publish() {
	shown := make(map[string]*published, len(l.sessions))
	for name, s := range l.sessions {
		shown[name] = s.shown
	}
	l.engine.sessions.Store(&shown)
	l.tell()
}

func (l *loop) tell() {
	select {
	case l.engine.news <- struct{}{}:
	default:
	}
}

// open opens the receivers that are needed, closes others, and renews filters.
func (l *loop) open(now time.Time) {
	l.reopenAt = time.Time{}
	for _, s := range l.order {
		if l.prepare(s); s.fd < 0 {
			l.reopenAt = now.Add(reopenEach)
		}
	}
	for family, ipv4 := range [2]bool{true, false} {
		var sources []source
		var discriminators []uint32
		for _, s := range l.order {
			if s.source.addr.IsValid() && s.source.addr.Is4() == ipv4 {
				sources = append(sources, s.source)
				discriminators = append(discriminators, s.machine.localDiscr)
			}
		}
		if len(sources) == 0 {
			if l.receivers[family] != nil {
				l.receivers[family].close()
			}
			l.receivers[family], l.faults[family] = nil, nil
			continue
		}
		var err error
		if l.receivers[family] == nil {
			l.receivers[family], err = openReceiver(ipv4, l.engine.options.listen)
		}
		if err == nil {
			// Without the filter it works as well, only not under a flood.
			_ = l.receivers[family].filter(filterProgram(ipv4, sources, discriminators))
		} else {
			l.reopenAt = now.Add(reopenEach)
		}
		l.faults[family] = err
	}
	for _, s := range l.order {
		l.note(s, Unchanged, now)
	}
}

func (l *loop) closeReceivers() {
	for i, r := range l.receivers {
		if r != nil {
			r.close()
		}
		l.receivers[i] = nil
	}
}

// detach stops all but sending to these peers.
func (l *loop) detach(peers []string) []Handover {
	l.detached = true
	l.reopenAt = time.Time{}
	l.closeReceivers()
	var out []Handover
	l.order = slices.DeleteFunc(l.order, func(s *session) bool {
		if s.until.IsZero() && slices.Contains(peers, s.peer.Name) {
			out = append(out, Handover{
				Peer: s.peer.Name, SourcePort: s.port, Session: s.machine.Snapshot(), Since: s.since, Failures: int(s.shown.failures.Load()),
			})
			s.machine.Leave()
			return false
		}
		l.shut(s)
		return true
	})
	return out
}
