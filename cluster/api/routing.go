package api

import (
	"context"
	"maps"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/pharos-lb/pharos/cluster/api/pharosv1"
	"github.com/pharos-lb/pharos/cluster/registry"
)

// Routing implements pharosv1.ControlServer.
func (s *Server) Routing(ctx context.Context, request *pharosv1.RoutingRequest) (*pharosv1.RoutingResponse, error) {
	state := s.cluster.State()
	members := slices.Collect(maps.Keys(state.Members))
	if self := s.identity.Name(); !slices.Contains(members, self) {
		members = append(members, self) // it may be asked before it is a member
	}
	slices.SortFunc(members, compareNames)
	config := state.Snapshot.Config
	for _, one := range []struct {
		kind, name string
		all        []string
	}{
		{"node", request.GetNode(), members},
		{"neighbor", request.GetNeighbor(), namesOf(config.Neighbors, func(n registry.Neighbor) string { return n.Name })},
		{"VIP", request.GetVip(), namesOf(config.VIPs, func(v registry.VIP) string { return v.Name })},
	} {
		if err := known(one.kind, one.name, one.all); err != nil {
			return nil, err
		}
	}
	if request.GetNode() != "" {
		members = []string{request.GetNode()}
	}
	live := map[string]LiveMember{}
	for _, m := range s.live() {
		live[m.Name] = m
	}
	response := &pharosv1.RoutingResponse{Nodes: make([]*pharosv1.NodeRoutingResponse, len(members))}
	var asked sync.WaitGroup
	for i, name := range members {
		m, alive := live[name]
		if !alive {
			response.Nodes[i] = &pharosv1.NodeRoutingResponse{Node: name, Error: "it is not alive: no heartbeats come from it"}
			continue
		}
		asked.Go(func() {
			answer, err := s.nodeRouting(ctx, m, request)
			if err != nil {
				answer = &pharosv1.NodeRoutingResponse{Node: name, Error: "it could not be asked: " + status.Convert(err).Message()}
			}
			response.Nodes[i] = answer
		})
	}
	asked.Wait()
	return response, nil
}

// nodeRouting asks one node.
func (s *Server) nodeRouting(ctx context.Context, member LiveMember, request *pharosv1.RoutingRequest) (*pharosv1.NodeRoutingResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if member.Name == s.identity.Name() {
		return s.NodeRouting(ctx, request)
	}
	conn, err := s.peers.conn(member.Name, member.Control)
	if err != nil {
		return nil, err
	}
	return pharosv1.NewPeerClient(conn).NodeRouting(ctx, request, grpc.WaitForReady(true))
}

// NodeRouting implements pharosv1.PeerServer.
func (s *Server) NodeRouting(ctx context.Context, request *pharosv1.RoutingRequest) (*pharosv1.NodeRoutingResponse, error) {
	whole := s.node.Routing(ctx)
	answer := &pharosv1.NodeRoutingResponse{Node: s.identity.Name()}
	asked := func(want, name string) bool { return want == "" || want == name }
	for _, session := range whole.GetSessions() {
		if asked(request.GetNeighbor(), session.GetNeighbor()) {
			answer.Sessions = append(answer.Sessions, session)
		}
	}
	for _, a := range whole.GetAnnouncements() {
		if asked(request.GetNeighbor(), a.GetNeighbor()) && asked(request.GetVip(), a.GetVip()) {
			answer.Announcements = append(answer.Announcements, a)
		}
	}
	return answer, nil
}
