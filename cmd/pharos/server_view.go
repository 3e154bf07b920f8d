package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pharos-lb/pharos/cluster/api"
	"github.com/pharos-lb/pharos/cluster/api/pharosv1"
)

// unknownState is that of a server that a node does not have yet.
const unknownState = "UNKNOWN"

// serverOnNodeView is a server as one node sees it.
type serverOnNodeView struct {
	Node            string     `json:"node"`
	State           string     `json:"state"`
	Weight          int32      `json:"weight"`
	EffectiveWeight float64    `json:"effective_weight"`
	Failures        int32      `json:"failures"`
	LastCheck       *time.Time `json:"last_check,omitempty"`
	LastReason      string     `json:"last_reason,omitempty"`
	EjectedUntil    *time.Time `json:"ejected_until,omitempty"`
	InFlight        int64      `json:"in_flight"`
	Connections     uint64     `json:"connections"`
}

// listedServerView is a server in the whole cluster. State, failures, last check
// and last reason sum the nodes up; see sum.
type listedServerView struct {
	ID               string             `json:"id"`
	Pool             string             `json:"pool"`
	Name             string             `json:"name"`
	Address          string             `json:"address"`
	Port             uint32             `json:"port"`
	Weight           int32              `json:"weight"`
	ConfiguredWeight int32              `json:"configured_weight"`
	Backup           bool               `json:"backup"`
	OperatorState    string             `json:"operator_state"`
	State            string             `json:"state"`
	Failures         int32              `json:"failures"`
	LastCheck        *time.Time         `json:"last_check,omitempty"`
	LastReason       string             `json:"last_reason,omitempty"`
	Created          *time.Time         `json:"created,omitempty"`
	InFlight         int64              `json:"in_flight"`
	Nodes            []serverOnNodeView `json:"nodes"`
}

type unaskedView struct {
	Node   string `json:"node"`
	Reason string `json:"reason"`
}

type serverListView struct {
	Revision uint64             `json:"revision"`
	Servers  []listedServerView `json:"servers"`
	Unasked  []unaskedView      `json:"unasked,omitempty"` // nodes that gave no answer
}

func serverListOf(answer *pharosv1.ListServersResponse) serverListView {
	view := serverListView{Revision: answer.GetRevision(), Servers: []listedServerView{}}
	for _, s := range answer.GetServers() {
		server := listedServerOf(s)
		for _, n := range s.GetNodes() {
			st := n.GetStatus()
			server.Nodes = append(server.Nodes, serverOnNodeView{
				Node: n.GetNode(), State: cmp.Or(st.GetState(), unknownState), Weight: st.GetWeight(), EffectiveWeight: st.GetEffectiveWeight(),
				Failures: st.GetFailures(), LastCheck: stamp(st.GetLastCheck()), LastReason: st.GetLastReason(),
				EjectedUntil: stamp(st.GetEjectedUntil()), InFlight: st.GetInFlight(), Connections: st.GetConnections(),
			})
		}
		server.sum()
		view.Servers = append(view.Servers, server)
	}
	for _, u := range answer.GetUnasked() {
		view.Unasked = append(view.Unasked, unaskedView{Node: u.GetNode(), Reason: u.GetReason()})
	}
	return view
}

func listedServerOf(s *pharosv1.Server) listedServerView {
	return listedServerView{
		ID: s.GetId(), Pool: s.GetPool(), Name: s.GetName(), Address: s.GetAddress(), Port: s.GetPort(),
		Weight: s.GetWeight(), ConfiguredWeight: s.GetConfiguredWeight(), Backup: s.GetBackup(),
		OperatorState: s.GetOperatorState(), Created: stamp(s.GetCreated()), Nodes: []serverOnNodeView{},
	}
}

// sum makes one word of the nodes': the state that most have, with their number
// where they differ, and what the node with the most failures says of checks.
func (s *listedServerView) sum() {
	counts := map[string]int{}
	var worst *serverOnNodeView
	for i := range s.Nodes {
		n := &s.Nodes[i]
		counts[n.State]++
		s.InFlight += n.InFlight
		if worst == nil || n.Failures > worst.Failures {
			worst = n
		}
	}
	if worst != nil {
		s.Failures, s.LastCheck, s.LastReason = worst.Failures, worst.LastCheck, worst.LastReason
	}
	states := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
	switch len(states) {
	case 0:
		s.State = unknownState
	case 1:
		s.State = states[0]
	default:
		s.State = fmt.Sprintf("%d/%d %s", counts[states[0]], len(s.Nodes), states[0])
	}
}

// weight shows the weight, and the configured one if it is another.
func (s listedServerView) weight() string {
	if s.Weight == s.ConfiguredWeight {
		return fmt.Sprint(s.Weight)
	}
	return fmt.Sprintf("%d (configured %d)", s.Weight, s.ConfiguredWeight)
}

func (v serverListView) table(w io.Writer) {
	row(w, "ID", "POOL", "NAME", "ADDRESS", "PORT", "WEIGHT", "BACKUP", "STATE", "FAILURES", "LAST CHECK", "LAST REASON", "IN FLIGHT", "CREATED")
	for _, s := range v.Servers {
		row(w, s.ID, s.Pool, s.Name, s.Address, s.Port, s.weight(), yesNo(s.Backup), s.State, s.Failures, clock(s.LastCheck), s.LastReason, s.InFlight, clock(s.Created))
	}
	for _, u := range v.Unasked {
		fmt.Fprintf(w, "%s is not counted: %s\n", u.Node, u.Reason)
	}
}

// operationView is what came of a change of servers.
type operationView struct {
	Revision uint64         `json:"revision"`
	Servers  []operatedView `json:"servers"`
	Nodes    []appliedView  `json:"nodes,omitempty"`
	InFlight int64          `json:"in_flight,omitempty"` // what was waited for, and did not end
	Unasked  []unaskedView  `json:"unasked,omitempty"`   // nodes whose part in that is not known
}

type operatedView struct {
	ID               string `json:"id"`
	Pool             string `json:"pool"`
	Name             string `json:"name"`
	OperatorState    string `json:"operator_state"`
	Weight           int32  `json:"weight"`
	ConfiguredWeight int32  `json:"configured_weight"`
}

func operationOf(answer *pharosv1.OperateServersResponse) operationView {
	view := operationView{Revision: answer.GetRevision(), Servers: []operatedView{}, InFlight: answer.GetInFlight()}
	for _, s := range answer.GetServers() {
		view.Servers = append(view.Servers, operatedView{
			ID: s.GetId(), Pool: s.GetPool(), Name: s.GetName(), OperatorState: s.GetOperatorState(),
			Weight: s.GetWeight(), ConfiguredWeight: s.GetConfiguredWeight(),
		})
	}
	for _, u := range answer.GetUnasked() {
		view.Unasked = append(view.Unasked, unaskedView{Node: u.GetNode(), Reason: u.GetReason()})
	}
	for _, n := range answer.GetNodes() {
		view.Nodes = append(view.Nodes, appliedView{Node: n.GetNode(), Applied: n.GetApplied(), Reason: n.GetReason(), Took: short(n.GetTook().AsDuration())})
	}
	return view
}

func (v operationView) table(w io.Writer) {
	row(w, "SERVER", "OPERATOR", "WEIGHT")
	for _, s := range v.Servers {
		row(w, s.Pool+"/"+s.Name, s.OperatorState, listedServerView{Weight: s.Weight, ConfiguredWeight: s.ConfiguredWeight}.weight())
	}
	if len(v.Nodes) == 0 {
		return
	}
	fmt.Fprintln(w)
	row(w, "NODE", "APPLIED", "TOOK", "REASON")
	for _, n := range v.Nodes {
		row(w, n.Node, yesNo(n.Applied), n.Took, n.Reason)
	}
}

// unfinished is an error if a node that was waited for does not do it, or if
// something is in flight still.
func (v operationView) unfinished() error {
	var names []string
	for _, n := range v.Nodes {
		if !n.Applied {
			names = append(names, n.Node)
		}
	}
	switch {
	case len(names) > 0:
		return fmt.Errorf("it is said to the cluster, but is not so on %s yet: see the reason shown", strings.Join(names, ", "))
	case v.InFlight > 0:
		return fmt.Errorf("the servers take no new work, but %d request(s) or connection(s) are in flight still: wait longer with --timeout", v.InFlight)
	case len(v.Unasked) > 0:
		return fmt.Errorf("the servers take no new work, but what is in flight on %s is not known: %s", v.Unasked[0].Node, v.Unasked[0].Reason)
	}
	return nil
}

// serverCounts are a node's servers by state, in words: "5: 3 healthy, 2 draining".
func serverCounts(pools []poolView) string {
	counts := map[string]int{}
	total := 0
	for _, p := range pools {
		for _, s := range p.Servers {
			counts[s.State]++
			total++
		}
	}
	words := []string{}
	for _, c := range []struct{ state, word string }{
		{"HEALTHY", "healthy"}, {"UNHEALTHY", "unhealthy"}, {api.StateDraining, "draining"}, {api.StateMaintenance, "in maintenance"},
	} {
		if n := counts[c.state]; n > 0 {
			words = append(words, fmt.Sprintf("%d %s", n, c.word))
		}
	}
	if len(words) == 0 {
		return fmt.Sprint(total)
	}
	return fmt.Sprintf("%d: %s", total, strings.Join(words, ", "))
}
