package node

import (
	"net/netip"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/pharos-lb/pharos/bgp"
	"github.com/pharos-lb/pharos/cluster/api/pharosv1"
	"github.com/pharos-lb/pharos/cluster/registry"
	"github.com/pharos-lb/pharos/node/holder"
	"github.com/pharos-lb/pharos/proxy"
	"github.com/pharos-lb/pharos/vip/owner"
)

// describe puts what the parts say of themselves into the API's words. It is
// pure; the caller adds what is the process's own (name, version, warnings).
func describe(v *View, ps proxy.Status, sessions []bgp.SessionStatus) *pharosv1.NodeStatusResponse {
	out := &pharosv1.NodeStatusResponse{
		AppliedVersion: v.Version,
		Revision:       v.Revision,
		Draining:       v.Draining,
		Engine:         ps.Engine,
		Connections:    int64(ps.Connections),
		InFlight:       int64(ps.InFlight),
		Warnings:       slices.Concat(v.Warnings, ps.Warnings),
	}
	if v.Failure != nil {
		out.ApplyError = v.Failure.Error()
	}
	for _, s := range sessions {
		out.Sessions = append(out.Sessions, describeSession(s, v.Config.Neighbors))
	}
	for _, vip := range v.Config.VIPs {
		out.Vips = append(out.Vips, describeVIP(vip, v.Gates[vip.Name], sessions))
	}
	for _, l := range ps.Listeners {
		out.Listeners = append(out.Listeners, &pharosv1.ListenerStatus{
			Name: l.Name, Protocol: string(l.Protocol), Addresses: texts(l.Addresses), Accepting: l.Accepting,
			Connections: int64(l.Connections), Accepted: l.Accepted, Requests: l.Requests, Failed: l.Failed,
		})
	}
	for _, p := range ps.Pools {
		out.Pools = append(out.Pools, describePool(p))
		if p.Warning != "" {
			out.Warnings = append(out.Warnings, "pool "+p.Name+": "+p.Warning)
		}
	}
	return out
}

func describeSession(s bgp.SessionStatus, neighbors []registry.Neighbor) *pharosv1.SessionStatus {
	out := &pharosv1.SessionStatus{
		Neighbor: s.Neighbor, State: s.State, Since: stamp(s.Since), Announced: texts(s.Announced),
		LastError: s.LastError, Flaps: int32(s.Flaps),
	}
	if b := s.BFD; b != nil {
		out.Bfd = &pharosv1.BFDStatus{
			State: b.State.String(), Since: stamp(b.Since), RemoteState: b.RemoteState.String(),
			Transmit: durationpb.New(b.Transmit), Detection: durationpb.New(b.Detection),
			Diagnostic: b.Diag.String(), RemoteDiagnostic: b.RemoteDiag.String(), Failures: int32(b.Failures), Reason: b.Reason,
			Discriminator: b.Discriminator, RemoteDiscriminator: b.RemoteDiscriminator,
		}
	}
	for _, n := range neighbors {
		if n.Name == s.Neighbor {
			out.Address, out.Asn = n.Address.String(), n.ASN
		}
	}
	return out
}

func describeVIP(vip registry.VIP, g Gate, sessions []bgp.SessionStatus) *pharosv1.VIPStatus {
	out := &pharosv1.VIPStatus{Name: vip.Name, Addresses: texts(vip.Addresses), Announcing: g.Open, Since: stamp(g.Since)}
	out.Reasons = append(describeReasons(g.Reasons), describeReasons(g.Overruled)...)
	for _, s := range sessions {
		carries := slices.ContainsFunc(s.Announced, func(p netip.Prefix) bool { return slices.Contains(vip.Addresses, p.Addr()) })
		if s.Established && carries {
			out.Neighbors = append(out.Neighbors, s.Neighbor)
		}
	}
	return out
}

func describeReasons(reasons []Reason) []*pharosv1.Reason {
	var out []*pharosv1.Reason
	for _, r := range reasons {
		out = append(out, &pharosv1.Reason{Code: string(r.Code), Message: r.Message, Since: stamp(r.Since)})
	}
	return out
}

func describePool(p proxy.PoolStatus) *pharosv1.PoolStatus {
	out := &pharosv1.PoolStatus{Name: p.Name, Healthy: int32(p.Healthy)}
	for _, s := range p.Servers {
		out.Servers = append(out.Servers, &pharosv1.ServerStatus{
			Name: s.Name, Address: s.Address.String(), Weight: int32(s.Weight), Backup: s.Backup, Healthy: s.Healthy,
			Failures: int32(s.Failures), LastCheck: stamp(s.LastCheck), LastReason: s.LastReason,
			InFlight: int64(s.InFlight), Connections: s.Connections,
			Id: s.ID, State: s.State, Created: stamp(s.Created), EffectiveWeight: s.EffectiveWeight, EjectedUntil: stamp(s.EjectedUntil),
		})
	}
	return out
}

// withARP adds how it is with the ARP-mode VIPs.
func withARP(out *pharosv1.NodeStatusResponse, statuses []holder.Status) *pharosv1.NodeStatusResponse {
	for _, v := range out.Vips {
		i := slices.IndexFunc(statuses, func(s holder.Status) bool { return s.VIP == v.Name })
		if i < 0 {
			continue
		}
		s := statuses[i]
		v.Arp = &pharosv1.ARPStatus{
			Held: s.Held, Holder: s.Holder, Code: string(s.Code), Message: s.Message, Since: stamp(s.Since), Epoch: s.Epoch,
			Conflicts: s.Conflicts, Transitions: s.Transitions,
		}
		for _, a := range s.Addresses {
			v.Arp.Addresses = append(v.Arp.Addresses, &pharosv1.ARPAddress{
				Address: a.Address.String(), Interface: a.Interface, Carrier: a.Carrier, Trouble: a.Trouble,
			})
		}
	}
	return out
}

// unable holds of VIPs that this node could not answer for, whatever its gate and
// the lease.
func unable(statuses []holder.Status) func(vip string) bool {
	return func(vip string) bool {
		i := slices.IndexFunc(statuses, func(s holder.Status) bool { return s.VIP == vip })
		return i >= 0 && !statuses[i].Able()
	}
}

// ready says that the node does all that the configuration asks of it: it runs
// the newest it knows of, and every VIP that selects it is announced on at
// least one session, or could be answered for.
func ready(s *pharosv1.NodeStatusResponse) bool {
	if s.Draining || s.ApplyError != "" || s.AppliedVersion == 0 {
		return false
	}
	return !slices.ContainsFunc(s.Vips, func(v *pharosv1.VIPStatus) bool {
		elsewhere := slices.ContainsFunc(v.Reasons, func(r *pharosv1.Reason) bool { return r.Code == string(ReasonNotSelected) })
		if v.Arp != nil {
			return !v.Announcing || !holder.Status{Code: owner.Code(v.Arp.Code)}.Able()
		}
		return !elsewhere && (!v.Announcing || len(v.Neighbors) == 0)
	})
}

func texts[T interface{ String() string }](values []T) []string {
	out := make([]string, 0, len(values))
	for _, v := range values {
		out = append(out, v.String())
	}
	return out
}

// stamp is nil for the zero time: never, rather than the year 1.
func stamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}
