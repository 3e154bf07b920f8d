package api

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/pharos-lb/pharos/cluster/api/pharosv1"
	"github.com/pharos-lb/pharos/cluster/fsm"
	"github.com/pharos-lb/pharos/cluster/registry"
)

const (
	defaultWait   = 10 * time.Second
	maxWait       = 10 * time.Minute
	livenessCheck = 200 * time.Millisecond
	// deadFor is how long a member must be without heartbeats before nobody
	// waits for it: on a busy machine one may be suspected for a moment.
	deadFor = 2 * time.Second
)

// Apply implements pharosv1.ControlServer. The document is parsed and compared
// on the asked node; the changes that it reports are against the newest version
// that this node knows. The last writer wins, unless the request has a base.
func (s *Server) Apply(ctx context.Context, request *pharosv1.ApplyRequest) (response *pharosv1.ApplyResponse, err error) {
	if !request.GetDryRun() {
		defer func() {
			s.audit(ctx, "apply", err, "file", request.GetFile(), "version", response.GetVersion(), "changes", len(response.GetChanges()))
		}()
	}
	if n := len(request.GetDocument()); n > maxDocument {
		return nil, status.Errorf(codes.InvalidArgument, "the document has %d bytes: at most %d are allowed", n, maxDocument)
	}
	timeout, err := waitTimeout(request.GetWaitTimeout())
	if err != nil {
		return nil, err
	}
	config, err := s.parse(ctx, request.GetFile(), request.GetDocument())
	if err != nil {
		return nil, err
	}
	present := s.cluster.State().Snapshot
	response = &pharosv1.ApplyResponse{Version: present.Version, Changes: changes(present.Config, config)}
	if request.GetDryRun() {
		if base := request.Base; base != nil && *base != present.Version {
			return nil, refused(fsm.ErrConflict)
		}
		return response, nil
	}
	result, err := s.submit(ctx, fsm.Command{
		By:          caller(ctx),
		ApplyConfig: &fsm.ApplyConfig{Config: config, Base: request.Base},
	})
	if err != nil {
		return nil, err
	}
	if err := result.Err(); err != nil {
		return nil, refused(err)
	}
	response.Version = result.Version
	if request.GetWait() && result.Version > 0 { // version 0 is what every node begins with
		response.Nodes = s.waitApplied(ctx, result.Revision, timeout)
	}
	return response, nil
}

// waitTimeout is how long a request that has the nodes waited for may take.
func waitTimeout(asked *durationpb.Duration) (time.Duration, error) {
	if asked == nil {
		return defaultWait, nil
	}
	timeout := asked.AsDuration()
	if timeout <= 0 || timeout > maxWait {
		return 0, status.Errorf(codes.InvalidArgument, "wait timeout %v: more than 0 and at most %v are allowed", timeout, maxWait)
	}
	return timeout, nil
}

// largeDocument is from what size on documents are read one at a time: 16 MiB
// take 300 MiB of memory for 2 s.
const largeDocument = 1 << 20

// parse reads a document, and seals the secrets in it: from here on, none
// is in clear. Its errors are statuses.
func (s *Server) parse(ctx context.Context, file string, document []byte) (registry.Config, error) {
	if len(document) > largeDocument {
		select {
		case s.parsing <- struct{}{}:
			defer func() { <-s.parsing }()
		case <-ctx.Done():
			return registry.Config{}, status.FromContextError(ctx.Err()).Err()
		}
	}
	config, err := registry.ParseWith(s.identity.OpenSecret, file, document)
	var faults registry.Faults
	switch {
	case errors.As(err, &faults):
		return registry.Config{}, invalid(faults)
	case err != nil:
		return registry.Config{}, status.Error(codes.InvalidArgument, err.Error())
	}
	return s.identity.SealConfig(config), nil
}

func changes(from, to registry.Config) []*pharosv1.Change {
	var list []*pharosv1.Change
	for _, c := range registry.Diff(from, to) {
		list = append(list, &pharosv1.Change{Kind: c.Kind, Name: c.Name, Action: c.Action, Fields: c.Fields})
	}
	return list
}

// waitApplied asks all live members at once to say when they run a revision.
func (s *Server) waitApplied(ctx context.Context, revision uint64, timeout time.Duration) []*pharosv1.NodeApplied {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	members := s.live()
	answers := make([]*pharosv1.NodeApplied, len(members))
	var asked sync.WaitGroup
	for i, member := range members {
		asked.Go(func() {
			start := time.Now()
			answer := &pharosv1.NodeApplied{Node: member.Name}
			if reason := s.waitOne(ctx, member, revision); reason != nil {
				answer.Reason = reason.Error()
			} else {
				answer.Applied = true
			}
			answer.Took = durationpb.New(time.Since(start))
			answers[i] = answer
		})
	}
	asked.Wait()
	return answers
}

// waitOne waits for one member, as long as it is alive.
func (s *Server) waitOne(ctx context.Context, member LiveMember, revision uint64) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := make(chan struct{})
	go func() {
		defer close(watch)
		s.watchAlive(ctx, member.Name, cancel)
	}()
	defer func() { cancel(nil); <-watch }()

	applied, applyError, err := s.askApplied(ctx, member, revision)
	switch {
	case err != nil && errors.Is(context.Cause(ctx), errDied):
		return errDied
	case err != nil && (ctx.Err() != nil || late(err)):
		return errors.New("it did not say so in time")
	case err != nil:
		return errors.New(status.Convert(err).Message())
	case applied >= revision:
		return nil
	case applyError != "":
		return errors.New(applyError)
	default:
		return errors.New("it runs an older one")
	}
}

// late says whether a call ended for want of time. The other node may see the
// deadline a moment before our own clock does.
func late(err error) bool {
	code := status.Code(err)
	return code == codes.Canceled || code == codes.DeadlineExceeded
}

func (s *Server) askApplied(ctx context.Context, member LiveMember, revision uint64) (uint64, string, error) {
	if member.Name == s.identity.Name() {
		return s.node.WaitApplied(ctx, revision)
	}
	conn, err := s.peers.conn(member.Name, member.Control)
	if err != nil {
		return 0, "", err
	}
	answer, err := pharosv1.NewPeerClient(conn).WaitApplied(ctx, &pharosv1.WaitAppliedRequest{Revision: revision}, grpc.WaitForReady(true))
	return answer.GetAppliedRevision(), answer.GetApplyError(), err
}

var errDied = errors.New("it is no longer alive")

// watchAlive cancels once the heartbeats of a member have ended.
func (s *Server) watchAlive(ctx context.Context, name string, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(livenessCheck)
	defer tick.Stop()
	seen := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if slices.ContainsFunc(s.live(), func(m LiveMember) bool { return m.Name == name }) {
			seen = time.Now()
		} else if time.Since(seen) > deadFor {
			cancel(errDied)
			return
		}
	}
}

// live are the cluster's members that heartbeats show alive, this node always,
// in the order of their names.
func (s *Server) live() []LiveMember {
	self := s.identity.Name()
	members := s.cluster.State().Members
	list := []LiveMember{{Name: self, Alive: true}}
	for _, m := range s.liveness.Members() {
		member, ok := members[m.Name]
		if !ok || !m.Alive || m.Name == self {
			continue
		}
		if m.Control == "" {
			m.Control = member.Address
		}
		list = append(list, m)
	}
	slices.SortFunc(list, func(a, b LiveMember) int { return compareNames(a.Name, b.Name) })
	return list
}
