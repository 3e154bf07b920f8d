package node

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"

	"github.com/pharos-lb/pharos/cluster/lease/agent"
	"github.com/pharos-lb/pharos/cluster/registry"
	"github.com/pharos-lb/pharos/cluster/security"
	"github.com/pharos-lb/pharos/node/holder"
	"github.com/pharos-lb/pharos/vip/link"
)

// answerer is what the reconciler needs of node/holder.
type answerer interface {
	// Set says what there is to be dealt with. When it returns, nothing is answered
	// for that may not be.
	Set([]holder.VIP)
}

// answer has the ARP-mode VIPs of a configuration answered for whose gates are
// open.
func (r *reconciler) answer(c registry.Config, open func(vip string) bool) {
	if r.answers == nil {
		return
	}
	var members []string
	if known := r.members.Load(); known != nil {
		members = *known
	}
	r.answers.Set(arpVIPs(c, r.self, members, open, r.leaving))
}

func (n *Node) newHolder() *holder.Holder {
	return holder.New(holder.Config{
		Self: n.config.Name, Interfaces: link.List, Open: holder.Opener(n.logger), Logger: n.logger,
		Watch: func(ctx context.Context, changed func()) error { return link.Watch(ctx, changed, n.logger) },
	})
}

// newLeases makes this node's part in the leases, over the control port.
func (n *Node) newLeases() *agent.Agent {
	return agent.New(agent.Config{
		Self: n.config.Name, Listener: n.mux.Lease(), Logger: n.logger,
		Peer: func(conn net.Conn) (string, error) {
			c, ok := conn.(*tls.Conn)
			if !ok {
				return "", fmt.Errorf("a session for leases is a %T", conn)
			}
			return security.PeerName(c.ConnectionState())
		},
		Dial: n.identity.DialLease,
	})
}

// runLeases has VIPs held by lease until ctx ends.
func (n *Node) runLeases(ctx context.Context) error {
	n.holder.UseLeases(n.leases)
	defer n.holder.UseLeases(nil)
	return n.leases.Run(ctx)
}

// followMembers has those who have a voice known: the voting members of Raft.
func (n *Node) followMembers(ctx context.Context) error {
	ticker := time.NewTicker(metaInterval)
	defer ticker.Stop()
	for {
		_, next := n.store.Watch()
		var peers []agent.Peer
		var names []string
		for _, v := range n.store.Voters() {
			if v.Voting {
				peers = append(peers, agent.Peer{Name: v.Name, Address: v.Address})
				names = append(names, v.Name)
			}
		}
		if len(peers) > 0 { // before Raft runs it knows of none
			n.leases.SetMembers(peers)
			n.reconciler.members.Store(&names)
		}
		select {
		case <-next:
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}
