// Package arp answers for IPv4 VIPs on one link, in place of the kernel, so that
// a process that has died is silent. It announces them, asks who else has them,
// and hears who claims them (RFC 826, RFC 5227).
package arp

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
)

// Config is what a Link needs.
type Config struct {
	Interface string
	// WhileHeld calls send if this node may answer for the address at this very
	// moment, and has it go on being so until send has returned.
	WhileHeld func(a netip.Addr, send func())
	// Rival is told of each packet by which another machine claims an address
	// that is looked after.
	Rival  func(a netip.Addr, other net.HardwareAddr)
	Logger *slog.Logger // nil: nothing is logged
}

// Link is the ARP of one interface. Its methods may be called from any
// goroutine.
type Link struct {
	cfg    Config
	client *arp.Client
	self   net.HardwareAddr

	mu      sync.Mutex
	watched map[netip.Addr]bool
	probing map[netip.Addr]bool // whether it was answered
}

// Probes are sent faster than RFC 5227 section 1.1 has it (three within 3 to 7 s),
// since a service waits for their result: 200 ms in all.
const (
	probeNum   = 3
	probePause = 50 * time.Millisecond
	probeWait  = 100 * time.Millisecond
)

// Open takes a packet socket on the interface, which needs CAP_NET_RAW, and an
// IPv4 address there.
func Open(c Config) (*Link, error) {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	ifi, err := net.InterfaceByName(c.Interface)
	if err != nil {
		return nil, fmt.Errorf("open ARP on %s: %w", c.Interface, err)
	}
	if len(ifi.HardwareAddr) != 6 {
		return nil, fmt.Errorf("open ARP on %s: it is no Ethernet interface", c.Interface)
	}
	client, err := arp.Dial(ifi)
	if err != nil {
		return nil, fmt.Errorf("open ARP on %s: %w", c.Interface, err)
	}
	return &Link{cfg: c, client: client, self: ifi.HardwareAddr, watched: make(map[netip.Addr]bool), probing: make(map[netip.Addr]bool)}, nil
}

// Close frees the socket of a Link that has not Run.
func (l *Link) Close() error { return l.client.Close() }

// Watch names the addresses to look after.
func (l *Link) Watch(addresses []netip.Addr) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.watched)
	for _, a := range addresses {
		l.watched[a] = a.Is4()
	}
	return nil
}

// Run hears and answers until ctx ends, and closes the socket.
func (l *Link) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = l.client.Close() })
	defer stop()
	for {
		p, _, err := l.client.Read()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			// A broken packet, or the link went down for a while: it may come back.
			l.cfg.Logger.Debug("ARP packet not read", "interface", l.cfg.Interface, "error", err)
			select {
			case <-time.After(time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		l.take(p)
	}
}

func (l *Link) take(p *arp.Packet) {
	v, a := judge(p, l.self, l.watches)
	if v == rivals || v == probes {
		l.mu.Lock()
		if _, ok := l.probing[a]; ok {
			l.probing[a] = true
		}
		l.mu.Unlock()
	}
	switch v {
	case rivals:
		l.cfg.Rival(a, p.SenderHardwareAddr)
	case asks, probes:
		l.cfg.WhileHeld(a, func() {
			if err := l.client.Reply(p, l.self, a); err != nil {
				l.cfg.Logger.Warn("ARP reply not sent", "interface", l.cfg.Interface, "address", a, "error", err)
			}
		})
	}
}

func (l *Link) watches(a netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.watched[a]
}

// Announce tells the link that the address is here (RFC 5227 section 3), if it is
// held.
func (l *Link) Announce(a netip.Addr) (err error) {
	l.cfg.WhileHeld(a, func() { err = l.ask(a, a) })
	if err != nil {
		return fmt.Errorf("announce %s on %s: %w", a, l.cfg.Interface, err)
	}
	return nil
}

// ask broadcasts a request; as a sender that is the target, it announces.
func (l *Link) ask(sender, target netip.Addr) error {
	p, err := arp.NewPacket(arp.OperationRequest, l.self, sender, make(net.HardwareAddr, 6), target)
	if err != nil {
		return err
	}
	return l.client.WriteTo(p, ethernet.Broadcast)
}

// Probe asks whether anybody has the address (RFC 5227 section 2.1.1). answered is
// also true where somebody probes for it at the same time.
func (l *Link) Probe(ctx context.Context, a netip.Addr) (answered bool, err error) {
	l.mu.Lock()
	l.probing[a] = false
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		answered = l.probing[a]
		delete(l.probing, a)
		l.mu.Unlock()
	}()
	for i := range probeNum {
		if err := l.ask(netip.IPv4Unspecified(), a); err != nil {
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
