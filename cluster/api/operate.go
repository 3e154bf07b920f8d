package api

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/pharos-lb/pharos/cluster/api/pharosv1"
	"github.com/pharos-lb/pharos/cluster/fsm"
	"github.com/pharos-lb/pharos/cluster/registry"
)

// The words for an operator's state.
const (
	StateReady       = "READY"
	StateDraining    = "DRAINING"
	StateMaintenance = "MAINTENANCE"
)

// idlePoll is how often servers are asked for what is in flight to them.
const idlePoll = 200 * time.Millisecond

func stateWord(s fsm.ServerState) string {
	switch s {
	case fsm.ServerReady:
		return StateReady
	case fsm.ServerDraining:
		return StateDraining
	case fsm.ServerMaintenance:
		return StateMaintenance
	}
	return string(s) // of a newer version
}

// operation makes the command of a request.
func operation(request *pharosv1.OperateServersRequest) (*fsm.OperateServers, error) {
	o := &fsm.OperateServers{Servers: request.GetServers(), ResetWeight: request.GetResetWeight()}
	switch request.GetState() {
	case "":
	case StateReady:
		o.State = pointer(fsm.ServerReady)
	case StateDraining:
		o.State = pointer(fsm.ServerDraining)
	case StateMaintenance:
		o.State = pointer(fsm.ServerMaintenance)
	default:
		return nil, status.Errorf(codes.InvalidArgument, "the state %q: %s, %s and %s are known", request.GetState(), StateReady, StateDraining, StateMaintenance)
	}
	if request.Weight != nil {
		o.Weight = pointer(int(request.GetWeight()))
	}
	return o, nil
}

func pointer[T any](v T) *T { return &v }

// OperateServers implements pharosv1.ControlServer.
func (s *Server) OperateServers(ctx context.Context, request *pharosv1.OperateServersRequest) (response *pharosv1.OperateServersResponse, err error) {
	defer func() {
		attrs := []any{"servers", request.GetServers(), "revision", response.GetRevision()}
		if request.GetState() != "" {
			attrs = append(attrs, "state", request.GetState())
		}
		if request.Weight != nil {
			attrs = append(attrs, "weight", request.GetWeight())
		}
		if request.GetResetWeight() {
			attrs = append(attrs, "reset_weight", true)
		}
		s.audit(ctx, "operate_servers", err, attrs...)
	}()
	timeout, err := waitTimeout(request.GetWaitTimeout())
	if err != nil {
		return nil, err
	}
	if request.GetUntilIdle() && !request.GetWait() {
		return nil, status.Error(codes.InvalidArgument, "until_idle goes with wait")
	}
	o, err := operation(request)
	if err != nil {
		return nil, err
	}
	result, err := s.submit(ctx, fsm.Command{By: caller(ctx), OperateServers: o})
	if err != nil {
		return nil, err
	}
	if err := result.Err(); err != nil {
		return nil, refused(err)
	}
	response = &pharosv1.OperateServersResponse{Revision: result.Revision}
	deadline := time.Now().Add(timeout)
	if request.GetWait() {
		response.Nodes = s.waitApplied(ctx, result.Revision, timeout)
	}
	if request.GetUntilIdle() {
		response.InFlight, response.Unasked = s.waitIdle(ctx, request.GetServers(), deadline)
	}
	for _, server := range configured(s.cluster.State()) {
		if slices.Contains(request.GetServers(), fsm.ServerName(server.GetPool(), server.GetName())) {
			response.Servers = append(response.Servers, server)
		}
	}
	return response, nil
}

// waitIdle returns how much is in flight to servers, and the live nodes of which
// that is not known, once that is nothing and nobody or the deadline has passed.
func (s *Server) waitIdle(ctx context.Context, names []string, deadline time.Time) (int64, []*pharosv1.Unasked) {
	tick := time.NewTicker(idlePoll)
	defer tick.Stop()
	for {
		var inFlight int64
		answers, reasons := s.askAll(ctx, s.live())
		for _, answer := range answers {
			servers := byServer(answer)
			for _, name := range names {
				inFlight += servers[name].GetInFlight()
			}
		}
		if inFlight+int64(len(reasons)) == 0 || ctx.Err() != nil || !time.Now().Before(deadline) {
			return inFlight, unasked(reasons)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// askAll asks nodes for their status, all at once. The reasons are of those that
// gave no answer.
func (s *Server) askAll(ctx context.Context, members []LiveMember) (answers map[string]*pharosv1.NodeStatusResponse, reasons map[string]string) {
	answers, reasons = map[string]*pharosv1.NodeStatusResponse{}, map[string]string{}
	var mu sync.Mutex
	var asked sync.WaitGroup
	for _, m := range members {
		asked.Go(func() {
			answer, err := s.nodeStatus(ctx, m)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				reasons[m.Name] = "it could not be asked: " + status.Convert(err).Message()
				return
			}
			answers[m.Name] = answer
		})
	}
	asked.Wait()
	return answers, reasons
}

func unasked(reasons map[string]string) []*pharosv1.Unasked {
	var list []*pharosv1.Unasked
	for _, name := range slices.SortedFunc(maps.Keys(reasons), compareNames) {
		list = append(list, &pharosv1.Unasked{Node: name, Reason: reasons[name]})
	}
	return list
}

// ListServers implements pharosv1.ControlServer.
func (s *Server) ListServers(ctx context.Context, request *pharosv1.ListServersRequest) (*pharosv1.ListServersResponse, error) {
	state := s.cluster.State()
	if err := known("pool", request.GetPool(), namesOf(state.Snapshot.Config.Pools, func(p registry.Pool) string { return p.Name })); err != nil {
		return nil, err
	}
	members := slices.Collect(maps.Keys(state.Members))
	if self := s.identity.Name(); !slices.Contains(members, self) {
		members = append(members, self) // it may be asked before it is a member
	}
	slices.SortFunc(members, compareNames)
	if err := known("node", request.GetNode(), members); err != nil {
		return nil, err
	}
	response := &pharosv1.ListServersResponse{Revision: state.Revision}
	live := s.live()
	var ask []LiveMember
	for _, name := range members {
		if request.GetNode() != "" && request.GetNode() != name {
			continue
		}
		if i := slices.IndexFunc(live, func(m LiveMember) bool { return m.Name == name }); i >= 0 {
			ask = append(ask, live[i])
		} else {
			response.Unasked = append(response.Unasked, &pharosv1.Unasked{Node: name, Reason: "it is not alive: no heartbeats come from it"})
		}
	}
	answers, reasons := s.askAll(ctx, ask)
	seen := map[string]map[string]*pharosv1.ServerStatus{}
	for node, answer := range answers {
		seen[node] = byServer(answer)
	}
	for _, server := range configured(state) {
		if request.GetPool() != "" && request.GetPool() != server.GetPool() {
			continue
		}
		for _, m := range ask {
			if servers, ok := seen[m.Name]; ok {
				st := servers[fsm.ServerName(server.GetPool(), server.GetName())] // nil: not there yet
				server.Nodes = append(server.Nodes, &pharosv1.ServerOnNode{Node: m.Name, Status: st})
			}
		}
		response.Servers = append(response.Servers, server)
	}
	response.Unasked = append(response.Unasked, unasked(reasons)...)
	slices.SortFunc(response.Unasked, func(a, b *pharosv1.Unasked) int { return compareNames(a.GetNode(), b.GetNode()) })
	return response, nil
}

// configured are the servers of a state, in the order of the configuration.
func configured(state fsm.State) []*pharosv1.Server {
	var list []*pharosv1.Server
	for _, p := range state.Snapshot.Config.Pools {
		for _, server := range p.Servers {
			operated := state.Servers[fsm.ServerName(p.Name, server.Name)]
			weight := 1
			if server.Weight != nil {
				weight = *server.Weight
			}
			out := &pharosv1.Server{
				Id: operated.ID, Pool: p.Name, Name: server.Name,
				Address: server.Address.Addr().String(), Port: uint32(server.Address.Port()),
				Weight: int32(weight), ConfiguredWeight: int32(weight), Backup: server.Backup,
				OperatorState: stateWord(operated.State),
			}
			if operated.Weight != nil {
				out.Weight = int32(*operated.Weight)
			}
			if !operated.Created.IsZero() {
				out.Created = timestamppb.New(operated.Created)
			}
			list = append(list, out)
		}
	}
	return list
}

// byServer gives the servers of a node's answer by POOL/SERVER.
func byServer(answer *pharosv1.NodeStatusResponse) map[string]*pharosv1.ServerStatus {
	all := map[string]*pharosv1.ServerStatus{}
	for _, p := range answer.GetPools() {
		for _, st := range p.GetServers() {
			all[fsm.ServerName(p.GetName(), st.GetName())] = st
		}
	}
	return all
}

func namesOf[T any](list []T, nameOf func(T) string) []string {
	names := make([]string, 0, len(list))
	for _, v := range list {
		names = append(names, nameOf(v))
	}
	return names
}

// known is an error unless a name is one of those that there are, or empty.
func known(what, name string, names []string) error {
	if name == "" || slices.Contains(names, name) {
		return nil
	}
	hint := ""
	if near := registry.Nearest(name, names); near != "" {
		hint = fmt.Sprintf(", did you mean %q?", near)
	}
	return status.Errorf(codes.NotFound, "there is no %s %q%s", what, name, hint)
}
