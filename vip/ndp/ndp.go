// Package ndp answers for IPv6 VIPs on one link, in place of the kernel, so that
// a process that has died is silent. It announces them by unsolicited neighbor
// advertisements, asks who else has them, and hears who claims them (RFC 4861,
// RFC 4862).
package ndp

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/mdlayher/ndp"
	"golang.org/x/net/ipv6"
)

// Config is what a Link needs.
type Config struct {
	Interface string
	// WhileHeld calls send if this node may answer for the address at this very
	// moment, and has it go on being so until send has returned.
	WhileHeld func(a netip.Addr, send func())
	// Rival is told of each message by which another machine claims an address
	// that is looked after. other may be nil: it did not say.
	Rival  func(a netip.Addr, other net.HardwareAddr)
	Logger *slog.Logger // nil: nothing is logged
}

// Link is the neighbor discovery of VIPs on one interface. Its methods may be
// called from any goroutine.
type Link struct {
	cfg  Config
	conn *ndp.Conn
	ifi  *net.Interface
	own  netip.Addr // link-local, that we send from

	mu      sync.Mutex
	watched map[netip.Addr]bool
	probing map[netip.Addr]bool // whether it was answered
}

// As package arp's, which see.
const (
	probeNum   = 3
	probePause = 50 * time.Millisecond
	probeWait  = 100 * time.Millisecond
)

var allNodes = netip.MustParseAddr("ff02::1")

// Open takes a raw socket, which needs CAP_NET_RAW, and a link-local address on
// the interface.
func Open(c Config) (_ *Link, err error) {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("open neighbor discovery on %s: %w", c.Interface, err)
		}
	}()
	ifi, err := net.InterfaceByName(c.Interface)
	if err != nil {
		return nil, err
	}
	if len(ifi.HardwareAddr) != 6 {
		return nil, fmt.Errorf("it is no Ethernet interface")
	}
	own, err := linkLocal(ifi)
	if err != nil {
		return nil, err
	}
	// On a socket bound to an address of the interface, what hosts send to a VIP
	// itself, to see whether it is still there, would not arrive.
	conn, _, err := ndp.Listen(ifi, ndp.Unspecified)
	if err != nil {
		return nil, err
	}
	var filter ipv6.ICMPFilter
	filter.SetAll(true)
	filter.Accept(ipv6.ICMPTypeNeighborSolicitation)
	filter.Accept(ipv6.ICMPTypeNeighborAdvertisement)
	if err := conn.SetICMPFilter(&filter); err != nil {
		_ = conn.Close()
		return nil, err
	}
	if err := conn.SetControlMessage(ipv6.FlagInterface|ipv6.FlagHopLimit, true); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return &Link{cfg: c, conn: conn, ifi: ifi, own: own, watched: make(map[netip.Addr]bool), probing: make(map[netip.Addr]bool)}, nil
}

func linkLocal(ifi *net.Interface) (netip.Addr, error) {
	addresses, err := ifi.Addrs()
	if err != nil {
		return netip.Addr{}, err
	}
	for _, a := range addresses {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() {
			return p.Addr(), nil
		}
	}
	return netip.Addr{}, fmt.Errorf("it has no link-local address")
}

// Close frees the socket of a Link that has not Run.
func (l *Link) Close() error { return l.conn.Close() }

// Watch names the addresses to look after. It joins the groups that hosts ask
// for them in, whether they are held or not.
func (l *Link) Watch(addresses []netip.Addr) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for a := range l.watched {
		if group, err := ndp.SolicitedNodeMulticast(a); err == nil {
			_ = l.conn.LeaveGroup(group) // another address may have had it, too
		}
	}
	clear(l.watched)
	joined := make(map[netip.Addr]bool)
	for _, a := range addresses {
		group, err := ndp.SolicitedNodeMulticast(a)
		if err != nil {
			continue // an IPv4 address is package arp's
		}
		l.watched[a] = true
		if joined[group] {
			continue
		}
		joined[group] = true
		if err := l.conn.JoinGroup(group); err != nil {
			return fmt.Errorf("join %s on %s: %w", group, l.cfg.Interface, err)
		}
	}
	return nil
}

// Run hears and answers until ctx ends, and closes the socket.
func (l *Link) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = l.conn.Close() })
	defer stop()
	for {
		m, cm, from, err := l.conn.ReadFrom()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			// A broken message, or the link went down for a while: it may come back.
			l.cfg.Logger.Debug("neighbor discovery message not read", "interface", l.cfg.Interface, "error", err)
			select {
			case <-time.After(time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		// RFC 4861 section 7.1: a hop limit below 255 came from another link.
		if cm != nil && cm.IfIndex == l.ifi.Index && cm.HopLimit == ndp.HopLimit {
			l.take(m, from)
		}
	}
}

func (l *Link) take(m ndp.Message, from netip.Addr) {
	v, a, other := judge(m, from, l.ifi.HardwareAddr, l.watches)
	if v == rivals || v == probes {
		l.mu.Lock()
		if _, ok := l.probing[a]; ok {
			l.probing[a] = true
		}
		l.mu.Unlock()
	}
	switch v {
	case rivals:
		l.cfg.Rival(a, other)
	case asks, probes:
		to, solicited := from, true
		if v == probes {
			to, solicited = allNodes, false
		}
		l.cfg.WhileHeld(a, func() {
			if err := l.advertise(a, to, solicited); err != nil {
				l.cfg.Logger.Warn("neighbor advertisement not sent", "interface", l.cfg.Interface, "address", a, "error", err)
			}
		})
	}
}

func (l *Link) watches(a netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.watched[a]
}

// Announce tells the link that the address is here, and that it was elsewhere
// before (RFC 4861 section 7.2.6), if it is held.
func (l *Link) Announce(a netip.Addr) (err error) {
	l.cfg.WhileHeld(a, func() { err = l.advertise(a, allNodes, false) })
	if err != nil {
		return fmt.Errorf("announce %s on %s: %w", a, l.cfg.Interface, err)
	}
	return nil
}

func (l *Link) advertise(a, to netip.Addr, solicited bool) error {
	return l.conn.WriteTo(&ndp.NeighborAdvertisement{
		Solicited: solicited, Override: true, TargetAddress: a,
		Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: l.ifi.HardwareAddr}},
	}, l.control(), to)
}

func (l *Link) control() *ipv6.ControlMessage {
	return &ipv6.ControlMessage{HopLimit: ndp.HopLimit, IfIndex: l.ifi.Index, Src: l.own.AsSlice()}
}

// Probe asks whether anybody has the address. answered is also true where
// somebody probes for it at the same time as RFC 4862 has it. We ask as any host
// would, since the kernel lets no one send from the unspecified address.
func (l *Link) Probe(ctx context.Context, a netip.Addr) (answered bool, err error) {
	group, err := ndp.SolicitedNodeMulticast(a)
	if err != nil {
		return false, err
	}
	l.mu.Lock()
	l.probing[a] = false
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		answered = l.probing[a]
		delete(l.probing, a)
		l.mu.Unlock()
	}()
	ask := &ndp.NeighborSolicitation{
		TargetAddress: a,
		Options:       []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: l.ifi.HardwareAddr}},
	}
	for i := range probeNum {
		if err := l.conn.WriteTo(ask, l.control(), group); err != nil {
			return false, fmt.Errorf("probe for %s on %s: %w", a, l.cfg.Interface, err)
		}
		wait := probePause
		if i == probeNum-1 {
			wait = probeWait
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
	return false, nil
}
