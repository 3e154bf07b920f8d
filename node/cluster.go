package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/pharos-lb/pharos/cluster/api"
	"github.com/pharos-lb/pharos/cluster/api/pharosv1"
	"github.com/pharos-lb/pharos/cluster/fsm"
	"github.com/pharos-lb/pharos/cluster/store"
)

// Bootstrap makes a new cluster in dir, whose first member is the node that
// the node file there names, and stores a first join token.
func Bootstrap(ctx context.Context, dir string, token fsm.Token) error {
	c, err := LoadConfig(dir)
	if err != nil {
		return err
	}
	cfg := store.Config{Dir: dir, Name: c.Name, Address: c.Address, Logger: slog.New(slog.DiscardHandler)}
	return store.Bootstrap(ctx, cfg,
		fsm.Command{By: c.Name, PutMember: &fsm.PutMember{Name: c.Name, Address: c.Address}},
		fsm.Command{By: c.Name, CreateToken: &fsm.CreateToken{Token: token}},
	)
}

// clusterAPI gives package api the store in its own words.
type clusterAPI struct{ n *Node }

func (c clusterAPI) Submit(ctx context.Context, command fsm.Command) (fsm.Result, error) {
	result, err := c.n.store.Submit(ctx, command)
	return result, apiError(err)
}

func (c clusterAPI) Leader() (name, address string) { return c.n.store.Leader() }

func (c clusterAPI) Fault() error { return c.n.store.DiskFault() }

// State has what runs here, if that is newer: after a restart
// without a leader the log is not known to be committed, but what a node has
// run was.
func (c clusterAPI) State() fsm.State {
	state := c.n.store.State()
	if v := c.n.reconciler.View(); v.Revision > state.Revision {
		state.Desired = v.Desired
	}
	return state
}

func (c clusterAPI) Voters() []string {
	var names []string
	for _, v := range c.n.store.Voters() {
		names = append(names, v.Name)
	}
	return names
}

func (c clusterAPI) AddVoter(ctx context.Context, name, address string) error {
	return apiError(c.n.store.AddVoter(ctx, name, address))
}

func (c clusterAPI) RemoveVoter(ctx context.Context, name string) error {
	return apiError(c.n.store.RemoveVoter(ctx, name))
}

// apiError adds api's word for an outcome to the store's.
func apiError(err error) error {
	var notLeader *store.NotLeaderError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &notLeader), errors.Is(err, store.ErrNoLeader), errors.Is(err, store.ErrClosed):
		return fmt.Errorf("%w: %w", api.ErrNotLeader, err)
	case errors.Is(err, store.ErrAmbiguous):
		return fmt.Errorf("%w: %w", api.ErrUncertain, err)
	default:
		return err
	}
}

// nodeAPI gives package api this node.
type nodeAPI struct{ n *Node }

func (a nodeAPI) Status(context.Context) *pharosv1.NodeStatusResponse { return a.n.status() }

func (a nodeAPI) Routing(context.Context) *pharosv1.NodeRoutingResponse {
	view := a.n.reconciler.View()
	out := describeRouting(view, a.n.config, a.n.speaker.Status())
	out.Announcements = append(out.Announcements, answered(view.Gates, a.n.holder.Status())...)
	return out
}

func (a nodeAPI) WaitApplied(ctx context.Context, revision uint64) (applied uint64, applyError string, err error) {
	applied, failure, err := a.n.reconciler.WaitApplied(ctx, revision)
	if failure != nil {
		applyError = failure.Error()
	}
	return applied, applyError, err
}

func (a nodeAPI) Drain(ctx context.Context, deadline time.Duration) (*pharosv1.DrainResponse, error) {
	// The drain goes on when the one who asked for it goes away.
	drainCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deadline)
	defer cancel()
	result, err := a.n.reconciler.Drain(drainCtx, false)
	if err != nil {
		return nil, err
	}
	return &pharosv1.DrainResponse{
		Finished: int32(result.Report.Finished), Cut: int32(result.Report.Cut),
		InFlight: int32(result.InFlight), LingerTook: durationpb.New(result.Lingered), ShutTook: durationpb.New(result.Shut),
		WithdrawTook: durationpb.New(result.Converged), Took: durationpb.New(result.Took),
	}, nil
}

func (a nodeAPI) Undrain(ctx context.Context) error { return a.n.reconciler.Undrain(ctx) }

// status is this node's word on itself.
func (n *Node) status() *pharosv1.NodeStatusResponse {
	out := withARP(describe(n.reconciler.View(), n.proxy.Status(), n.speaker.Status()), n.holder.Status())
	out.Name, out.SoftwareVersion, out.Started = n.config.Name, n.opts.Version, timestamppb.New(n.started)
	leader, _ := n.store.Leader()
	out.HasLeader = leader != ""
	if !out.HasLeader {
		out.Warnings = append(out.Warnings, "no leader is known: a majority of the members must be up and reach each other for changes; serving goes on")
	}
	if err := n.store.Failure(); err != nil {
		out.Warnings = append(out.Warnings, "raft has stopped on this node: "+err.Error())
	}
	if err := n.store.DiskFault(); err != nil {
		out.Warnings = append(out.Warnings, err.Error())
	}
	n.failuresMu.Lock()
	out.Warnings = append(out.Warnings, n.failures...)
	n.failuresMu.Unlock()
	out.Warnings = append(out.Warnings, n.clockWarnings()...)
	return out
}
