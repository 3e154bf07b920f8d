package node

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pharos-lb/pharos/cluster/api"
	"github.com/pharos-lb/pharos/cluster/member"
)

// clockTolerance is how far members' clocks may differ before status says so:
// tokens, certificates and logs are dated by them.
const clockTolerance = 5 * time.Second

// metaInterval is how often this node looks whether its heartbeats should say
// something else, when no event tells it to.
const metaInterval = time.Second

// describeToMembers keeps what this node's heartbeats carry up to date.
func (n *Node) describeToMembers(ctx context.Context) error {
	ticker := time.NewTicker(metaInterval)
	defer ticker.Stop()
	others := othersWell(n.members, n.config.Name)
	n.reconciler.others.Store(&others)
	defer n.reconciler.others.Store(nil)
	for {
		view := n.reconciler.View()
		if err := n.members.SetMeta(n.meta()); err != nil {
			n.logger.Warn("heartbeats carry old contents", "error", err)
		}
		select {
		case <-view.replaced:
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// loadPerCore is the 1-minute load average divided by the number of cores.
func loadPerCore() float64 {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(b), " ")
	load, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return 0
	}
	return load / float64(runtime.NumCPU())
}

func (n *Node) memberConfig() member.Config {
	bind, _ := parseHostPort(n.config.Gossip) // LoadConfig has validated it
	return member.Config{
		Name: n.config.Name, BindAddr: bind, SecretKey: n.identity.GossipKey(),
		Seeds: n.gossipSeeds, Logger: n.logger,
	}
}

// gossipPortFree finds a taken port before anything runs: the heartbeats bind
// it only when they start, and a node without them would look dead to the others.
func gossipPortFree(address string) error {
	const advice = "take the gossip port: %w: is another program using it? (gossip in the node file)"
	udp, err := net.ListenPacket("udp", address)
	if err != nil {
		return fmt.Errorf(advice, err)
	}
	_ = udp.Close()
	tcp, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf(advice, err)
	}
	return tcp.Close()
}

// meta is what this node's heartbeats say of it.
func (n *Node) meta() member.Meta {
	v := n.reconciler.View()
	held := n.holder.Status()
	unable := unable(held)
	status := withARP(describe(v, n.proxy.Status(), n.speaker.Status()), held)
	m := member.Meta{
		Control: n.config.Address, Addresses: texts(n.config.Addresses),
		Ready: ready(status), Draining: status.Draining, AppliedVersion: status.AppliedVersion, Load: loadPerCore(),
	}
	for _, vip := range v.Config.VIPs {
		if !v.Gates[vip.Name].Well() || unable(vip.Name) {
			m.Unwell = append(m.Unwell, member.VIPHash(vip.Name))
		}
	}
	slices.Sort(m.Unwell)
	return m
}

// clockWarnings names the members whose clocks are far from this node's.
func (n *Node) clockWarnings() []string {
	var out []string
	for _, m := range n.members.Members() {
		if m.ClockKnown && m.ClockOffset.Abs() > clockTolerance+m.ClockError {
			out = append(out, fmt.Sprintf("the clock of %s is %s from this node's: set both by NTP; join tokens and certificates are dated by them",
				m.Name, m.ClockOffset.Round(time.Second)))
		}
	}
	return out
}

// livenessAPI gives package api the heartbeats.
type livenessAPI struct{ n *Node }

func (l livenessAPI) Members() []api.LiveMember {
	var out []api.LiveMember
	for _, m := range l.n.members.Members() {
		out = append(out, api.LiveMember{
			Name: m.Name, Control: m.Control, Addresses: m.Addresses, Alive: m.Alive,
			Ready: m.Ready, Draining: m.Draining, AppliedVersion: m.AppliedVersion,
			Load: m.Load, ClockOffset: m.ClockOffset,
		})
	}
	return out
}
