package main

import (
	"time"

	"github.com/pharos-lb/pharos/cluster/api/pharosv1"
)

// The views are what -o json and -o yaml print: their field names are a
// contract with scripts. Times are RFC 3339, durations Go's.

type reasonView struct {
	Code    string     `json:"code"`
	Message string     `json:"message"`
	Since   *time.Time `json:"since,omitempty"`
}

type vipView struct {
	Name       string       `json:"name"`
	Addresses  []string     `json:"addresses"`
	Announcing bool         `json:"announcing"`
	Since      *time.Time   `json:"since,omitempty"`
	Reasons    []reasonView `json:"reasons,omitempty"`
	Neighbors  []string     `json:"neighbors,omitempty"`
	ARP        *arpView     `json:"arp,omitempty"` // of a VIP in mode arp
}

type sessionView struct {
	Neighbor  string     `json:"neighbor"`
	Address   string     `json:"address"`
	ASN       uint32     `json:"asn"`
	State     string     `json:"state"`
	Since     *time.Time `json:"since,omitempty"`
	Announced []string   `json:"announced,omitempty"`
	Flaps     int32      `json:"flaps"`
	LastError string     `json:"last_error,omitempty"`
}

type listenerView struct {
	Name        string   `json:"name"`
	Protocol    string   `json:"protocol"`
	Addresses   []string `json:"addresses"`
	Accepting   bool     `json:"accepting"`
	Connections int64    `json:"connections"`
	Accepted    uint64   `json:"accepted"`
	Requests    uint64   `json:"requests"`
	Failed      uint64   `json:"failed"`
}

type serverView struct {
	ID          string     `json:"id"`
	Name        string     `json:"name"`
	Address     string     `json:"address"`
	Weight      int32      `json:"weight"`
	Backup      bool       `json:"backup"`
	State       string     `json:"state"`
	Healthy     bool       `json:"healthy"`
	Failures    int32      `json:"failures"`
	LastCheck   *time.Time `json:"last_check,omitempty"`
	LastReason  string     `json:"last_reason,omitempty"`
	InFlight    int64      `json:"in_flight"`
	Connections uint64     `json:"connections"`
}

type poolView struct {
	Name    string       `json:"name"`
	Healthy int32        `json:"healthy"`
	Servers []serverView `json:"servers"`
}

type statusView struct {
	Node            string         `json:"node"`
	SoftwareVersion string         `json:"software_version"`
	Engine          string         `json:"engine"`
	Started         *time.Time     `json:"started,omitempty"`
	Leader          string         `json:"leader"`
	Version         uint64         `json:"version"`
	AppliedVersion  uint64         `json:"applied_version"`
	ApplyError      string         `json:"apply_error,omitempty"`
	Draining        bool           `json:"draining"`
	Connections     int64          `json:"connections"`
	InFlight        int64          `json:"in_flight"`
	Warnings        []string       `json:"warnings,omitempty"`
	VIPs            []vipView      `json:"vips"`
	Sessions        []sessionView  `json:"sessions"`
	Listeners       []listenerView `json:"listeners"`
	Pools           []poolView     `json:"pools"`
	Members         []memberView   `json:"members"`
}

func statusViewOf(s *pharosv1.StatusResponse) statusView {
	n := s.GetNode()
	view := statusView{
		Node: n.GetName(), SoftwareVersion: n.GetSoftwareVersion(), Engine: n.GetEngine(), Started: stamp(n.GetStarted()),
		Leader: s.GetLeader(), Version: s.GetVersion(), AppliedVersion: n.GetAppliedVersion(), ApplyError: n.GetApplyError(),
		Draining: n.GetDraining(), Connections: n.GetConnections(), InFlight: n.GetInFlight(), Warnings: n.GetWarnings(),
		VIPs: []vipView{}, Listeners: []listenerView{}, Pools: []poolView{},
		Sessions: sessionsOf(n.GetSessions()), Members: membersOf(s.GetMembers()),
	}
	for _, v := range n.GetVips() {
		view.VIPs = append(view.VIPs, vipOf(v))
	}
	for _, l := range n.GetListeners() {
		view.Listeners = append(view.Listeners, listenerView{
			Name: l.GetName(), Protocol: l.GetProtocol(), Addresses: l.GetAddresses(), Accepting: l.GetAccepting(),
			Connections: l.GetConnections(), Accepted: l.GetAccepted(), Requests: l.GetRequests(), Failed: l.GetFailed(),
		})
	}
	for _, p := range n.GetPools() {
		view.Pools = append(view.Pools, poolOf(p))
	}
	return view
}

func vipOf(v *pharosv1.VIPStatus) vipView {
	view := vipView{
		Name: v.GetName(), Addresses: v.GetAddresses(), Announcing: v.GetAnnouncing(),
		Since: stamp(v.GetSince()), Neighbors: v.GetNeighbors(),
	}
	view.Reasons, view.ARP = reasonsOf(v.GetReasons()), arpOf(v.GetArp())
	return view
}

func reasonsOf(list []*pharosv1.Reason) []reasonView {
	var views []reasonView
	for _, r := range list {
		views = append(views, reasonView{Code: r.GetCode(), Message: r.GetMessage(), Since: stamp(r.GetSince())})
	}
	return views
}

func sessionsOf(list []*pharosv1.SessionStatus) []sessionView {
	views := []sessionView{}
	for _, s := range list {
		views = append(views, sessionView{
			Neighbor: s.GetNeighbor(), Address: s.GetAddress(), ASN: s.GetAsn(), State: s.GetState(), Since: stamp(s.GetSince()),
			Announced: s.GetAnnounced(), Flaps: s.GetFlaps(), LastError: s.GetLastError(),
		})
	}
	return views
}

func poolOf(p *pharosv1.PoolStatus) poolView {
	view := poolView{Name: p.GetName(), Healthy: p.GetHealthy(), Servers: []serverView{}}
	for _, s := range p.GetServers() {
		view.Servers = append(view.Servers, serverView{
			ID: s.GetId(), Name: s.GetName(), Address: s.GetAddress(), Weight: s.GetWeight(), Backup: s.GetBackup(),
			State: s.GetState(), Healthy: s.GetHealthy(),
			Failures: s.GetFailures(), LastCheck: stamp(s.GetLastCheck()), LastReason: s.GetLastReason(),
			InFlight: s.GetInFlight(), Connections: s.GetConnections(),
		})
	}
	return view
}
