package api

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/pharos-lb/pharos/cluster/api/pharosv1"
	"github.com/pharos-lb/pharos/cluster/registry"
)

// Get implements pharosv1.ControlServer.
func (s *Server) Get(context.Context, *pharosv1.GetRequest) (*pharosv1.GetResponse, error) {
	snapshot := s.cluster.State().Snapshot
	// Every key is sealed already. That none leaves in clear does not rest on it.
	data, err := json.Marshal(s.identity.SealConfig(snapshot.Config))
	if err != nil {
		return nil, status.Errorf(codes.Internal, "encode the configuration: %v", err)
	}
	return &pharosv1.GetResponse{Version: snapshot.Version, ConfigJson: data}, nil
}

// Status implements pharosv1.ControlServer.
func (s *Server) Status(ctx context.Context, _ *pharosv1.StatusRequest) (*pharosv1.StatusResponse, error) {
	leader, _ := s.cluster.Leader()
	return &pharosv1.StatusResponse{
		Node: s.node.Status(ctx), Members: s.members(), Leader: leader, Version: s.cluster.State().Snapshot.Version,
	}, nil
}

// Members implements pharosv1.ControlServer.
func (s *Server) Members(context.Context, *pharosv1.MembersRequest) (*pharosv1.MembersResponse, error) {
	return &pharosv1.MembersResponse{Members: s.members()}, nil
}

// members joins what the log and the heartbeats say of the members.
func (s *Server) members() []*pharosv1.Member {
	leader, _ := s.cluster.Leader()
	voters := s.cluster.Voters()
	seen := make(map[string]LiveMember)
	for _, m := range s.liveness.Members() {
		seen[m.Name] = m
	}
	var list []*pharosv1.Member
	for name, member := range s.cluster.State().Members {
		m := seen[name]
		list = append(list, &pharosv1.Member{
			Name: name, ControlAddress: member.Address, Addresses: m.Addresses,
			Alive: m.Alive || name == s.identity.Name(), Ready: m.Alive && m.Ready, Draining: m.Draining,
			Voter: slices.Contains(voters, name), Leader: name == leader,
			AppliedVersion: m.AppliedVersion, Load: m.Load, ClockOffset: durationpb.New(m.ClockOffset),
		})
	}
	slices.SortFunc(list, func(a, b *pharosv1.Member) int { return compareNames(a.GetName(), b.GetName()) })
	return list
}

// Explain implements pharosv1.ControlServer.
func (s *Server) Explain(ctx context.Context, request *pharosv1.ExplainRequest) (*pharosv1.ExplainResponse, error) {
	known := s.cluster.State().Snapshot.Config.VIPs
	if !slices.ContainsFunc(known, func(v registry.VIP) bool { return v.Name == request.GetVip() }) {
		return nil, status.Errorf(codes.NotFound, "there is no VIP %q: \"pharos get vip\" lists them", request.GetVip())
	}
	live := make(map[string]LiveMember)
	for _, m := range s.live() {
		live[m.Name] = m
	}
	names := []string{s.identity.Name()} // it may be asked before it is a member
	for name := range s.cluster.State().Members {
		if name != s.identity.Name() {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, compareNames)
	response := &pharosv1.ExplainResponse{Nodes: make([]*pharosv1.NodeExplanation, len(names))}
	var asked sync.WaitGroup
	for i, name := range names {
		member, alive := live[name]
		if !alive {
			response.Nodes[i] = &pharosv1.NodeExplanation{Node: name, Error: "it is not alive: no heartbeats come from it"}
			continue
		}
		asked.Go(func() { response.Nodes[i] = s.explainOn(ctx, member, request.GetVip()) })
	}
	asked.Wait()
	return response, nil
}

// explainOn asks one node about a VIP.
func (s *Server) explainOn(ctx context.Context, member LiveMember, vip string) *pharosv1.NodeExplanation {
	explanation := &pharosv1.NodeExplanation{Node: member.Name}
	answer, err := s.nodeStatus(ctx, member)
	if err != nil {
		explanation.Error = "it could not be asked: " + status.Convert(err).Message()
		return explanation
	}
	explanation.Sessions = answer.GetSessions()
	i := slices.IndexFunc(answer.GetVips(), func(v *pharosv1.VIPStatus) bool { return v.GetName() == vip })
	if i < 0 {
		explanation.Vip = &pharosv1.VIPStatus{Name: vip, Reasons: []*pharosv1.Reason{{
			Code: "not_applied", Message: cmp.Or(answer.GetApplyError(), "the node does not run a version with this VIP yet"),
		}}}
		return explanation
	}
	explanation.Vip = answer.GetVips()[i]
	return explanation
}

// nodeStatus is a node's word on itself.
func (s *Server) nodeStatus(ctx context.Context, member LiveMember) (*pharosv1.NodeStatusResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if member.Name == s.identity.Name() {
		return s.node.Status(ctx), nil
	}
	conn, err := s.peers.conn(member.Name, member.Control)
	if err != nil {
		return nil, err
	}
	return pharosv1.NewPeerClient(conn).NodeStatus(ctx, &pharosv1.NodeStatusRequest{}, grpc.WaitForReady(true))
}

// compareNames puts n2 before n10: shorter names first, where they begin alike.
func compareNames(a, b string) int {
	prefixA, numberA := splitNumber(a)
	prefixB, numberB := splitNumber(b)
	if prefixA != prefixB {
		return cmp.Compare(a, b)
	}
	return cmp.Or(cmp.Compare(len(numberA), len(numberB)), cmp.Compare(numberA, numberB))
}

// splitNumber cuts the number off a name's end.
func splitNumber(name string) (prefix, number string) {
	i := len(name)
	for i > 0 && name[i-1] >= '0' && name[i-1] <= '9' {
		i--
	}
	return name[:i], name[i:]
}
