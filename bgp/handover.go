package bgp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pharos-lb/pharos/bgp/bfd"
	"github.com/pharos-lb/pharos/bgp/guard"
)

// A session outlives an upgrade of this program: the relay owns the TCP
// connection to the router, so that one process can stop relaying between two
// messages and another go on. The router sees neither a reset nor a
// withdrawal. (Graceful restart, RFC 4724, would have it keep the routes of a
// node that died, too: see DESIGN.md.)
//
// GoBGP's own state cannot be handed over. The successor's GoBGP goes through
// the opening anew, with a relay in the router's place: it is given the OPEN
// that the router sent to the old one, and what it sends must be, octet by
// octet, the OPEN that the router has. Otherwise the two would disagree about
// what was negotiated, and the connection ends, as with any other change of a
// session's parameters.

// Established is a session with a router on its way from one process to the
// next.
type Established struct {
	Neighbor string
	FD       int    // of the TCP connection; owned by whoever holds the Established
	Ours     []byte // the OPEN that the router has of us
	Theirs   []byte // the OPEN that it sent
	Begun    []byte // the octets of a message of the router's that is not read to its end
	Told     []netip.Prefix
	Since    time.Time // when the session was established
	Flaps    int
	BFD      *bfd.Handover // of the same neighbor; nil: it has none
}

// Close gives a session up: the router sees the connection end.
func (e Established) Close() error { return unix.Close(e.FD) }

// Detach ends the speaker without a word to the routers, and returns the
// sessions that are established, for Adopt of the speaker in another process.
// Routes stay announced on them. Run, whose context must not have ended, goes on
// telling their BFD sessions what was told last, so that no router misses this
// node before the other process speaks; it returns nil once its context ends.
func (s *Speaker) Detach() []Established {
	s.applying.Lock()
	defer s.applying.Unlock()
	if s.phase != running {
		return nil
	}
	s.phase = stopped
	var all sync.WaitGroup
	var mu sync.Mutex
	var out []Established
	for _, session := range s.list() {
		all.Go(func() {
			if e, ok := session.detach(); ok {
				mu.Lock()
				out = append(out, e)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	var names []string
	for _, e := range out {
		names = append(names, e.Neighbor)
	}
	for _, h := range s.bfd.Detach(names) {
		for i := range out {
			if out[i].Neighbor == h.Peer {
				out[i].BFD = &h
			}
		}
	}
	s.mu.Lock()
	s.sessions = nil
	s.mu.Unlock()
	s.notify()
	return out
}

// Adopt gives the speaker sessions of the process before it, to be called
// before Run; it owns them from here on. Run goes on with each whose neighbor
// is in the state that Reconcile gave it, unchanged in what makes a session;
// it withdraws on it what the state does not announce, and closes the others.
func (s *Speaker) Adopt(sessions []Established) error {
	s.applying.Lock()
	defer s.applying.Unlock()
	if s.phase != fresh {
		for _, e := range sessions {
			_ = e.Close()
		}
		return errors.New("a BGP speaker that has run adopts no sessions")
	}
	s.adopted = append(s.adopted, sessions...)
	for _, e := range sessions {
		if e.BFD != nil {
			s.adoptWatch(*e.BFD)
		}
	}
	return nil
}

// takeAdopted gives the session that was handed over for p, if it fits. The
// caller holds applying.
func (s *Speaker) takeAdopted(p params) (*inheritance, error) {
	i := slices.IndexFunc(s.adopted, func(e Established) bool { return e.Neighbor == p.name })
	if i < 0 {
		return nil, nil
	}
	e := s.adopted[i]
	s.adopted = slices.Delete(s.adopted, i, i+1)
	file := os.NewFile(uintptr(e.FD), "BGP session with "+p.name)
	conn, err := net.FileConn(file) // duplicates the descriptor
	_ = file.Close()
	if err != nil {
		return nil, fmt.Errorf("adopt the session with neighbor %s: %w", p.name, err)
	}
	router, ok := conn.(*net.TCPConn)
	if !ok {
		_ = conn.Close()
		return nil, fmt.Errorf("adopt the session with neighbor %s: what was handed over is a %T", p.name, conn)
	}
	if err := p.fits(router); err != nil {
		_ = router.Close()
		return nil, fmt.Errorf("adopt the session with neighbor %s: %w", p.name, err)
	}
	return &inheritance{Established: e, router: router}, nil
}

// fits says why a connection is none that the session could have made, or have
// been given by the router.
func (p params) fits(router *net.TCPConn) error {
	remote, local := router.RemoteAddr().(*net.TCPAddr).AddrPort(), router.LocalAddr().(*net.TCPAddr).AddrPort()
	switch {
	case remote.Addr().Unmap() != p.router.Addr(), remote.Port() != p.router.Port() && local.Port() != p.router.Port():
		return fmt.Errorf("it is with %s, and the router is at %s now", remote, p.router)
	case p.source.IsValid() && local.Addr().Unmap() != p.source:
		return fmt.Errorf("it is from %s, and the source is %s now", local.Addr(), p.source)
	}
	return nil
}

// dropAdopted closes what no neighbor has taken. The caller holds applying.
func (s *Speaker) dropAdopted() {
	for _, e := range s.adopted {
		s.log.Info("BGP session of before the upgrade ends: its neighbor is not configured any more", "neighbor", e.Neighbor)
		_ = e.Close()
	}
	s.adopted = nil
}

// inheritance is an established session that this process goes on with.
type inheritance struct {
	Established
	router *net.TCPConn
}

// detach stops the session's goroutine and engine, and returns the router's
// connection, if it was in a state to be handed over.
func (s *session) detach() (Established, bool) {
	s.mu.Lock()
	s.stopping = true
	l := s.link
	established := s.state == stateEstablished
	since, flaps := s.since, s.flaps
	s.mu.Unlock()
	var e Established
	ok := false
	if l != nil && established {
		e, ok = l.detach()
	}
	if s.cancel != nil {
		s.cancel()
		<-s.done
	}
	s.closeDoor()
	s.engine.stop()
	e.Neighbor, e.Since, e.Flaps = s.params.name, since, flaps
	return e, ok
}

// detach stops relaying between two messages and returns a further descriptor
// of the router's connection. The link ends as if that had been closed.
func (l *link) detach() (Established, bool) {
	l.detaching.Store(true)
	defer close(l.detached)
	past := time.Unix(1, 0)
	_ = l.engine.SetReadDeadline(past)
	_ = l.router.SetReadDeadline(past)
	<-l.stopped
	l.session.mu.Lock()
	defer l.session.mu.Unlock()
	o := l.observer
	if !l.whole || o.state != stateEstablished || o.reason != "" {
		return Established{}, false
	}
	raw, err := l.router.SyscallConn()
	if err != nil {
		return Established{}, false
	}
	fd := -1
	controlErr := raw.Control(func(from uintptr) {
		fd, err = unix.FcntlInt(from, unix.F_DUPFD_CLOEXEC, 0)
	})
	if errors.Join(controlErr, err) != nil {
		return Established{}, false
	}
	e := Established{FD: fd, Ours: o.ours, Theirs: o.theirs, Begun: l.begun}
	for p := range o.told {
		e.Told = append(e.Told, p)
	}
	slices.SortFunc(e.Told, comparePrefix)
	o.end("another process goes on with the session")
	return e, true
}

// replayTimeout bounds how long GoBGP may take to open a session that the
// relay answers.
const replayTimeout = 5 * time.Second

// replay brings GoBGP to the state that the router is in.
func (l *link) replay(in *inheritance) error {
	_ = l.engine.SetDeadline(time.Now().Add(replayTimeout))
	defer func() { _ = l.engine.SetDeadline(time.Time{}) }()
	buf := make([]byte, maxMessage)
	ours, err := readMessage(l.engine, buf)
	if err != nil {
		return fmt.Errorf("wait for the engine's OPEN: %w", err)
	}
	if !bytes.Equal(ours, in.Ours) {
		return errors.New("this version opens sessions in another way than the one before")
	}
	if n := len(in.Theirs); n < headerLen {
		return errTruncated
	} else if whole, err := guard.CheckHeader(in.Theirs[:headerLen]); err != nil || whole != n || typeOf(in.Theirs) != typeOpen {
		return errors.New("what was handed over as the router's OPEN is none")
	}
	l.session.observe(l, func(o *observer) { o.sent(ours) })
	heard, refusal := l.filter.Judge(in.Theirs, time.Now())
	if refusal != nil {
		return errors.New(refusal.Reason)
	}
	if _, err := l.engine.Write(heard); err != nil {
		return fmt.Errorf("answer the engine's OPEN: %w", err)
	}
	l.session.observe(l, func(o *observer) { o.received(in.Theirs) })
	// GoBGP's KEEPALIVE says that it takes the OPEN; the router has had one.
	msg, err := readMessage(l.engine, buf)
	if err != nil {
		return fmt.Errorf("wait for the engine's KEEPALIVE: %w", err)
	}
	if typeOf(msg) != typeKeepalive {
		return errors.New("the engine refuses what the router had opened with")
	}
	return nil
}

// goOn ends the replay: what the router knows and this speaker does not
// announce is withdrawn, and GoBGP hears that the session is up.
func (l *link) goOn(in *inheritance) error {
	s := l.session
	s.mu.Lock()
	var stale []netip.Prefix
	for _, p := range in.Told {
		l.observer.told[p] = true
		if _, ok := s.routes[p]; !ok {
			stale = append(stale, p)
		}
	}
	s.mu.Unlock()
	for _, p := range stale {
		msg := withdrawal(p)
		if _, err := l.router.Write(msg); err != nil {
			return fmt.Errorf("withdraw %s: %w", p, err)
		}
		s.observe(l, func(o *observer) { o.sent(msg) })
	}
	keepalive := appendMessage(nil, typeKeepalive)
	if _, refusal := l.filter.Judge(keepalive, time.Now()); refusal != nil {
		return errors.New(refusal.Reason)
	}
	if _, err := l.engine.Write(keepalive); err != nil {
		return err
	}
	s.observe(l, func(o *observer) { o.received(keepalive) })
	s.mu.Lock()
	s.since, s.flaps = in.Since, in.Flaps
	s.mu.Unlock()
	return nil
}

// runInherited is run for a session that another process has established.
func (l *link) runInherited(ctx context.Context, in *inheritance) {
	cut := context.AfterFunc(ctx, l.close)
	err := l.replay(in)
	if err == nil {
		err = l.goOn(in)
	}
	cut()
	if err != nil {
		l.end(fmt.Sprintf("the session of before the upgrade could not go on: %v", err))
		// A reset would be no better, and a CEASE costs FRR its retry timer.
		l.close()
		l.session.engine.detach(l.peer)
		return
	}
	l.begun = in.Begun
	l.run(ctx)
}

// withdrawal is an UPDATE that withdraws p (RFC 4271 4.3, RFC 4760 4).
func withdrawal(p netip.Prefix) []byte {
	nlri := append([]byte{byte(p.Bits())}, p.Addr().AsSlice()[:(p.Bits()+7)/8]...)
	if p.Addr().Is4() {
		body := append([]byte{0, byte(len(nlri))}, nlri...)
		return appendMessage(nil, typeUpdate, append(body, 0, 0)...)
	}
	const optional, mpUnreach = 0x80, 15
	attribute := append([]byte{optional, mpUnreach, byte(3 + len(nlri)), 0, 2, 1}, nlri...)
	return appendMessage(nil, typeUpdate, append([]byte{0, 0, 0, byte(len(attribute))}, attribute...)...)
}
