package agent

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"time"

	"github.com/pharos-lb/pharos/cluster/lease"
)

// maxFrame bounds what one batch of messages may take.
const maxFrame = 1 << 20

// peer is the session by which this node asks one member.
type peer struct {
	name, address string
	out           chan lease.Message
	open          bool            // under Agent.mu
	ctx           context.Context // ends when it is no member any more
	stop          context.CancelFunc
}

func newPeer(m Peer) *peer {
	p := &peer{name: m.Name, address: m.Address, out: make(chan lease.Message, queued)}
	p.ctx, p.stop = context.WithCancel(context.Background())
	return p
}

// send queues a message. Without a session it is lost, as it would be on a wire.
func (p *peer) send(m lease.Message) {
	if !p.open {
		return
	}
	select {
	case p.out <- m:
	default:
	}
}

// attend keeps a session to a member. The caller holds mu.
func (a *Agent) attend(p *peer) {
	g := a.group
	if g == nil {
		return
	}
	g.Go(func() {
		ctx, cancel := context.WithCancel(g.ctx)
		defer cancel()
		defer context.AfterFunc(p.ctx, cancel)()
		failure := ""
		for ctx.Err() == nil {
			err := a.ask(ctx, p)
			if ctx.Err() == nil && err.Error() != failure {
				failure = err.Error()
				a.logger.Info("session for leases ended", "member", p.name, "error", err)
			}
			select {
			case <-time.After(retryMost/4 + rand.N(retryMost)*3/4):
			case <-ctx.Done():
			}
		}
	})
}

// ask runs one session, from dial to close.
func (a *Agent) ask(ctx context.Context, p *peer) error {
	dialing, cancelDial := context.WithTimeout(ctx, dialLimit)
	conn, err := a.cfg.Dial(dialing, p.name, p.address)
	cancelDial()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ended := make(chan struct{})
	a.locked(func(now time.Duration) {
		p.open = true
		drain(p.out)
	})
	go func() {
		defer close(ended)
		cancel(a.read(conn, func(m lease.Message, now time.Duration) {
			if ctx.Err() == nil {
				a.machine.Receive(p.name, 0, m, now)
			}
		}))
	}()
	cancel(write(ctx, conn, p.out, beat, a.ourBids))
	// Our count of its grants ends before the member can see the session's end.
	a.locked(func(now time.Duration) {
		a.machine.PeerLost(p.name, now)
		p.open = false
	})
	_ = conn.Close()
	<-ended
	return context.Cause(ctx)
}

func drain(c <-chan lease.Message) {
	for {
		select {
		case <-c:
		default:
			return
		}
	}
}

// serve answers the asks of one member's session.
func (a *Agent) serve(ctx context.Context, conn net.Conn, from string) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	out := make(chan lease.Message, queued)
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		cancel(write(ctx, conn, out, silence*2/5, nil))
		_ = conn.Close() // frees the reader
	}()
	a.mu.Lock()
	a.sessions++
	session := a.sessions
	a.mu.Unlock()
	err := a.read(conn, func(m lease.Message, now time.Duration) {
		if m.Kind == lease.Bid {
			a.note(from, m, now)
			return
		}
		a.machine.Receive(from, session, m, now)
		a.settle(now, func(answer lease.Message) {
			select {
			case out <- answer:
			default:
			}
		})
	})
	// In-order ends alone are the claimant's own word: its process closed the
	// session, or has ended. A reset may come from a box between the two.
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		a.locked(func(now time.Duration) {
			a.machine.SessionEnded(session, now)
			for _, bids := range a.bids {
				delete(bids, from)
			}
		})
	}
	cancel(err)
	<-wrote
}

// read hands over each message under mu, until the connection ends.
func (a *Agent) read(conn net.Conn, take func(lease.Message, time.Duration)) error {
	var head [4]byte
	for {
		_ = conn.SetReadDeadline(time.Now().Add(silence))
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			return err
		}
		size := binary.BigEndian.Uint32(head[:])
		if size > maxFrame {
			return fmt.Errorf("%w: a frame of %d bytes", lease.ErrMessage, size)
		}
		body := make([]byte, size)
		if _, err := io.ReadFull(conn, body); err != nil {
			return err
		}
		messages, err := lease.Decode(body)
		if err != nil {
			return err
		}
		a.locked(func(now time.Duration) {
			for _, m := range messages {
				take(m, now)
			}
		})
	}
}

// write sends what is queued, as many messages together as there are, until ctx
// ends. Every pace it sends the bids or, if they are nil, a frame of nothing, unless
// it has sent something meanwhile: a claimant whose process is killed has no word
// from the member unread then, and the kernel ends its session by FIN, which the
// member believes, rather than by a reset.
func write(ctx context.Context, conn net.Conn, out <-chan lease.Message, pace time.Duration, bids func() []lease.Message) error {
	ticker := time.NewTicker(pace)
	defer ticker.Stop()
	for {
		if bids == nil {
			ticker.Reset(pace)
		}
		batch := []lease.Message{}
		select {
		case m := <-out:
			batch = append(batch, m)
			for len(out) > 0 {
				batch = append(batch, <-out)
			}
		case <-ticker.C:
			if bids != nil {
				batch = bids()
			}
		case <-ctx.Done():
			// What was queued before is the last word, such as a release.
			for len(out) > 0 {
				batch = append(batch, <-out)
			}
			_ = writeFrame(conn, batch)
			return context.Cause(ctx)
		}
		if err := writeFrame(conn, batch); err != nil {
			return err
		}
	}
}

func writeFrame(conn net.Conn, batch []lease.Message) error {
	body, err := lease.Encode(batch)
	if err != nil {
		return err
	}
	frame := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body)))
	_ = conn.SetWriteDeadline(time.Now().Add(writeTime))
	_, err = conn.Write(append(frame, body...))
	return err
}

// ourBids are the resources that this node would hold.
func (a *Agent) ourBids() []lease.Message {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]lease.Message, 0, len(a.ours))
	for resource, rank := range a.ours {
		out = append(out, lease.Message{Kind: lease.Bid, Resource: resource, Claim: lease.Claim{Node: a.cfg.Self}, Rank: rank})
	}
	return out
}

// note takes in another node's bid. The caller holds mu.
func (a *Agent) note(from string, m lease.Message, now time.Duration) {
	if _, ok := a.want[m.Resource]; !ok || a.peers[from] == nil {
		return // nothing here asks, and what is not asked for is not kept
	}
	if a.bids[m.Resource] == nil {
		a.bids[m.Resource] = make(map[string]bid)
	}
	a.bids[m.Resource][from] = bid{m.Rank, now}
}

// bidders lists who bids. The caller holds mu.
func (a *Agent) bidders(resource string, now time.Duration) []Bidder {
	var out []Bidder
	if rank, ok := a.ours[resource]; ok {
		out = append(out, Bidder{a.cfg.Self, rank})
	}
	for node, b := range a.bids[resource] {
		if now-b.at < bidLife && a.peers[node] != nil {
			out = append(out, Bidder{node, b.rank})
		}
	}
	slices.SortFunc(out, func(x, y Bidder) int {
		return cmp.Or(-cmp.Compare(x.Rank, y.Rank), cmp.Compare(x.Node, y.Node))
	})
	return out
}
