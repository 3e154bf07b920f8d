package node

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pharos-lb/pharos/bgp"
	"github.com/pharos-lb/pharos/bgp/bfd"
	"github.com/pharos-lb/pharos/node/handover"
	"github.com/pharos-lb/pharos/proxy"
)

// An upgrade, as the old process does it. The successor's side is takeover.go.
//
//	old                                     successor
//	starts it
//	                                        reads its files, runs the first health checks
//	                                  ready
//	holds configuration and addresses still
//	take (listening sockets)
//	                                        accepts beside the old one, moves its gates
//	                              accepting
//	ends Raft, API, heartbeats
//	released
//	                                        runs them
//	                                leading
//	falls silent for ARP, gives its leases back
//	for the successor; stops speaking BGP; BFD's
//	packets go on
//	sessions (BGP connections, what it has granted)
//	                                        goes on with them, asks for the leases
//	                                   done
//	stops accepting; serves its connections
//	to their end
//
// Until "done" the old one takes back what it has let go of, whatever becomes
// of the successor: it has stopped neither accepting nor its health checks.

// How long a successor may take for its steps; the first one is the request's.
const (
	acceptLimit = 20 * time.Second // a configuration is applied, gates open
	leadLimit   = 20 * time.Second // Raft's files are checked and opened
	doneLimit   = 10 * time.Second // BGP sessions are taken up
)

// upgradeOrder is a request on its way to Run's goroutine.
type upgradeOrder struct {
	request handover.Request
	answer  chan handover.Answer
}

// Upgrade has another process take over, and returns when it has, or will not:
// then this one runs as before. Run then ends with its last connection. It
// waits for an upgrade that is under way.
func (n *Node) Upgrade(request handover.Request) handover.Answer {
	order := upgradeOrder{request, make(chan handover.Answer, 1)}
	select {
	case n.upgrades <- order:
		return <-order.answer
	case <-n.ended:
		return answerOf(handover.Failuref(handover.Busy, "the node is stopping, or another process has taken over"))
	}
}

func answerOf(err error) handover.Answer {
	return handover.Answer{Code: handover.CodeOf(err), Error: err.Error()}
}

// serveRequests tells who started the node that it serves, and has `pharos
// upgrade` heard, if it is not yet.
func (r *run) serveRequests() {
	if r.opts.Process == nil {
		return
	}
	if err := r.opts.Process.Serving(); err != nil {
		r.logger.Warn("who started the node does not know that it serves", "error", err)
	}
	if !r.heard {
		r.hearRequests()
	}
}

// hearRequests has `pharos upgrade` heard by this process, and no longer by the
// one before. Without it, SIGUSR2 still is.
func (r *run) hearRequests() {
	if r.opts.Process == nil {
		return
	}
	requests, err := handover.Listen(r.opts.Dir)
	if err != nil {
		r.logger.Warn("`pharos upgrade` will not be heard, SIGUSR2 is", "error", err)
		return
	}
	r.heard = true
	r.requestPart.group.Go(func() {
		if err := requests.Run(r.requestPart.ctx, r.Upgrade); err != nil {
			r.logger.Error("`pharos upgrade` is not heard any more, SIGUSR2 is", "error", err)
		}
	})
}

// upgrade does the old process's part up to "done".
func (r *run) upgrade(ctx context.Context, request handover.Request) handover.Answer {
	start := time.Now()
	if r.opts.Process == nil {
		return answerOf(handover.Failuref(handover.Internal, "this process was not started to be upgraded"))
	}
	if request.StartTimeout <= 0 {
		request.StartTimeout = handover.DefaultStartTimeout
	}
	child, err := r.opts.Process.Start(request.Binary)
	if err == nil {
		r.logger.Info("upgrade: a successor was started", "pid", child.Pid)
		var version string
		if version, err = r.succeed(ctx, child, request.StartTimeout); err == nil {
			_ = child.Close()
			if err := r.opts.Process.HandedOver(child); err != nil {
				r.logger.Error("the service manager does not know of the successor", "error", err)
			}
			answer := handover.Answer{Version: version, Pid: child.Pid, Took: time.Since(start)}
			r.logger.Info("upgrade: the successor is the node now", "pid", child.Pid, "version", version, "took", answer.Took)
			return answer
		}
		child.End()
	}
	r.logger.Error("upgrade: it did not happen, this process carries on", "reason", string(handover.CodeOf(err)), "error", err)
	return answerOf(err)
}

// succeed leads the successor through its steps. On an error this process has
// everything back, or will once the successor has ended.
func (r *run) succeed(ctx context.Context, child *handover.Child, startTimeout time.Duration) (version string, err error) {
	ready, err := child.Await(ctx, handover.Ready, startTimeout)
	if err != nil {
		return "", err
	}
	if err := r.reconciler.freeze(ctx); err != nil {
		return "", handover.Failuref(handover.Busy, "%w", err)
	}
	defer func() {
		if err != nil {
			r.reconciler.thaw(r.base)
		}
	}()
	if err := r.giveSockets(child); err != nil {
		return "", err
	}
	if _, err := child.Await(ctx, handover.Accepting, acceptLimit); err != nil {
		return "", err
	}

	r.controlPart.end()
	defer func() {
		if err != nil {
			child.End() // it may hold the files that the control plane needs
			r.restartControl()
		}
	}()
	if err := child.Send(handover.Message{Kind: handover.Released}); err != nil {
		return "", handover.Failuref(handover.Ended, "%w", err)
	}
	if _, err := child.Await(ctx, handover.Leading, leadLimit); err != nil {
		return "", err
	}

	if err := r.reconciler.setFrozen(r.base, silent); err != nil {
		return "", handover.Failuref(handover.Internal, "%w", err)
	}
	r.handOverLeases()
	sessions := r.speaker.Detach()
	defer func() {
		if err != nil {
			child.End() // else two would speak on the sessions
		}
		r.bgpPart.end() // up to here, it has kept BFD's packets coming
		if err != nil {
			r.restartBGP(sessions)
			r.hearRequests() // the successor may have begun to
			return
		}
		for _, s := range sessions {
			_ = s.Close()
		}
	}()
	if err := giveSessions(child, sessions, r.handed); err != nil {
		return "", handover.Failuref(handover.Ended, "%w", err)
	}
	if _, err := child.Await(ctx, handover.Done, doneLimit); err != nil {
		return "", err
	}
	return ready.Version, nil
}

// giveSockets passes on the sockets of the listeners and of the control port.
func (r *run) giveSockets(child *handover.Child) error {
	m := handover.Message{Kind: handover.Take}
	if v := r.reconciler.View(); v.Applied {
		m.Revision, m.Announced = v.Revision, v.announced()
	}
	for _, s := range r.addrs.HandOver() {
		m.Settings = append(m.Settings, handover.Setting{Key: s.Key, Before: s.Before})
	}
	sockets, err := r.proxy.Sockets()
	if err != nil {
		return handover.Failuref(handover.Internal, "%w", err)
	}
	var fds []int
	for _, s := range sockets {
		defer func() { _ = s.Close() }()
		m.Sockets = append(m.Sockets, handover.Socket{Use: handover.Traffic, Transport: string(s.Transport), Address: s.Address})
		fds = append(fds, s.FD)
	}
	port, err := r.port.File()
	if err != nil {
		return handover.Failuref(handover.Internal, "hand over the control port: %w", err)
	}
	defer func() { _ = port.Close() }()
	address, _ := netip.ParseAddrPort(r.config.Address) // LoadConfig has validated it
	m.Sockets = append(m.Sockets, handover.Socket{Use: handover.Control, Transport: string(proxy.TransportTCP), Address: address})
	fds = append(fds, int(port.Fd()))
	if err := child.Send(m, fds...); err != nil {
		return handover.Failuref(handover.Ended, "%w", err)
	}
	return nil
}

// handOverLeases has the VIPs that are held here by lease kept for the process that
// comes next. Nothing is answered for by them when it returns.
func (r *run) handOverLeases() {
	if r.handed == nil {
		r.handed = r.leases.HandOver()
		r.holder.UseLeases(nil)
	}
}

func giveSessions(child *handover.Child, sessions []bgp.Established, leases json.RawMessage) error {
	m := handover.Message{Kind: handover.Sessions, Leases: leases}
	var fds []int
	for _, s := range sessions {
		m.Sessions = append(m.Sessions, handover.Session{
			Neighbor: s.Neighbor, Ours: s.Ours, Theirs: s.Theirs, Begun: s.Begun, Told: s.Told, Since: s.Since, Flaps: s.Flaps,
			BFD: watchOf(s.BFD),
		})
		fds = append(fds, s.FD)
	}
	return child.Send(m, fds...)
}

// watchOf gives the state of a BFD session as it is handed over.
func watchOf(h *bfd.Handover) json.RawMessage {
	if h == nil {
		return nil
	}
	b, _ := json.Marshal(h) // numbers and text
	return b
}

// watchFrom reads what watchOf gave. A state that cannot be read is none: the
// session begins anew.
func watchFrom(b json.RawMessage) *bfd.Handover {
	var h bfd.Handover
	if len(b) == 0 || json.Unmarshal(b, &h) != nil {
		return nil
	}
	return &h
}

// retire serves to their end the connections that this process had accepted
// when another one took over. Addresses, announcements and the files on disk
// are that one's.
func (r *run) retire(ctx context.Context) {
	r.requestPart.end()
	r.leasePart.end()
	r.reconcilerPart.end()
	_ = r.port.Close()
	limit, cancel := context.WithTimeout(r.base, r.config.UpgradeTimeout)
	defer cancel()
	// A node that is told to stop meanwhile has a drain's time for it.
	hurry := context.AfterFunc(ctx, func() { time.AfterFunc(r.config.DrainTimeout, cancel) })
	defer hurry()
	report := r.proxy.Retire(limit)
	r.endAll()
	if report.Cut > 0 {
		r.logger.Warn("process ends after the upgrade, connections were cut", "cut", report.Cut, "finished", report.Finished)
		return
	}
	r.logger.Info("process ends after the upgrade, all its connections have ended", "finished", report.Finished)
}

// sessionsOf takes up what giveSessions gave.
func sessionsOf(m handover.Message, fds []int) []bgp.Established {
	var out []bgp.Established
	for i, s := range m.Sessions {
		out = append(out, bgp.Established{
			Neighbor: s.Neighbor, FD: fds[i], Ours: s.Ours, Theirs: s.Theirs, Begun: s.Begun, Told: s.Told, Since: s.Since, Flaps: s.Flaps,
			BFD: watchFrom(s.BFD),
		})
	}
	return out
}

// socketsOf takes up what giveSockets gave: the sockets of the listeners, and
// the descriptor of the control port; -1 for none.
func socketsOf(m handover.Message, fds []int) (traffic []proxy.ListeningSocket, control int) {
	control = -1
	for i, s := range m.Sockets {
		switch {
		case s.Use == handover.Traffic:
			traffic = append(traffic, proxy.ListeningSocket{Transport: proxy.Transport(s.Transport), Address: s.Address, FD: fds[i]})
		case s.Use == handover.Control && control < 0:
			control = fds[i]
		default:
			_ = unix.Close(fds[i]) // a later version's: it can do without
		}
	}
	return traffic, control
}

var errNotOnDisk = func(want, have uint64) error {
	return fmt.Errorf("revision %d runs, and the copy on disk is %d: the disk may be full (see `pharos status`)", want, have)
}
