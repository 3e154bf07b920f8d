package api

import (
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"

	"github.com/pharos-lb/pharos/cluster/api/pharosv1"
	"github.com/pharos-lb/pharos/cluster/fsm"
	"github.com/pharos-lb/pharos/cluster/registry"
)

// The errors of a Cluster that this package decides on. Any other error of
// Cluster.Submit means that nothing was done, and is told as it is.
var (
	// ErrNotLeader: nothing was done, since another node leads, or none.
	ErrNotLeader = errors.New("this node is not the leader")
	// ErrUncertain: the command may or may not have been carried out, or may
	// be yet, such as when the leader fell in the middle of it.
	ErrUncertain = errors.New("it is not known whether the change was made")
)

// errLeaderLost is why the outcome of a change stays unknown where its leader is
// gone and no other comes.
var errLeaderLost = errors.New("the leader was lost in the middle of it, and for another a majority of the members must be up; `pharos get` then shows what became of it")

// maxFaults bounds the faults that one answer carries.
const maxFaults = 500

// noLeader is the answer to a write without a leader, whose cause may be this
// node's own fault.
func noLeader(version uint64, fault error) error {
	if fault != nil {
		return withDetail(codes.Unavailable, &pharosv1.NotLeader{}, "no leader: on this node: %v (serving version %d)", fault, version)
	}
	return withDetail(codes.Unavailable, &pharosv1.NotLeader{},
		"no leader: a majority of the members must be up; nothing was changed, and serving goes on with version %d", version)
}

func notLeader(address string) error {
	return withDetail(codes.FailedPrecondition, &pharosv1.NotLeader{LeaderAddress: address}, "%v", ErrNotLeader)
}

func uncertain(cause error) error {
	return withDetail(codes.Unknown, &pharosv1.Uncertain{}, "%v: %v", ErrUncertain, cause)
}

func withDetail(code codes.Code, detail protoadapt.MessageV1, format string, args ...any) error {
	st := status.Newf(code, format, args...)
	if with, err := st.WithDetails(detail); err == nil {
		st = with
	}
	return st.Err()
}

// invalid is the answer to a document with faults.
func invalid(faults registry.Faults) error {
	detail := &pharosv1.Faults{}
	for _, f := range faults[:min(len(faults), maxFaults)] {
		detail.Faults = append(detail.Faults, &pharosv1.Fault{
			File: f.File, Line: int32(f.Line), Column: int32(f.Column), Path: f.Path, Message: f.Message,
		})
	}
	return withDetail(codes.InvalidArgument, detail, "the configuration has %d fault(s); nothing was changed", len(faults))
}

// refused maps the state machine's refusals to statuses.
func refused(err error) error {
	code := codes.FailedPrecondition
	switch {
	case errors.Is(err, fsm.ErrMemberUnknown), errors.Is(err, fsm.ErrServerUnknown), errors.Is(err, fsm.ErrTokenUnknown):
		code = codes.NotFound
	case errors.Is(err, fsm.ErrNameTaken):
		code = codes.AlreadyExists
	case errors.Is(err, fsm.ErrInvalid), errors.Is(err, fsm.ErrUnknownCommand):
		code = codes.InvalidArgument
	}
	return status.Error(code, err.Error())
}

// detailOf finds a detail of one kind in a status.
func detailOf[T any](err error) (T, bool) {
	for _, detail := range status.Convert(err).Details() {
		if found, ok := detail.(T); ok {
			return found, true
		}
	}
	var none T
	return none, false
}

// Error is what a node answered, or why it could not be asked, in the words
// for a person.
type Error struct {
	Code    codes.Code
	Message string
	Faults  registry.Faults // of the document, if that was the reason
	// Unreached: no answer came. Whether a write was made is not known, unless
	// the connection could not even be opened.
	Unreached bool
}

// Error implements error.
func (e *Error) Error() string { return e.Message }

// explain turns the error of a call to the node at an address into an *Error.
func explain(err error, address string) error {
	if err == nil {
		return nil
	}
	st := status.Convert(err)
	e := &Error{Code: st.Code(), Message: st.Message()}
	if faults, ok := detailOf[*pharosv1.Faults](err); ok {
		for _, f := range faults.GetFaults() {
			e.Faults = append(e.Faults, registry.Fault{
				File: f.GetFile(), Line: int(f.GetLine()), Column: int(f.GetColumn()), Path: f.GetPath(), Message: f.GetMessage(),
			})
		}
	}
	_, leader := detailOf[*pharosv1.NotLeader](err)
	switch {
	case st.Code() == codes.Unavailable && !leader:
		e.Unreached = true
		e.Message = fmt.Sprintf("cannot reach the node at %s: %s: check the address, that \"pharos serve\" runs there, and that this node is a member still", address, st.Message())
	case st.Code() == codes.DeadlineExceeded:
		e.Unreached = true
		e.Message = fmt.Sprintf("the node at %s did not answer in time: %s: see its log, or allow more with --timeout", address, st.Message())
	case st.Code() == codes.Unimplemented:
		e.Message = fmt.Sprintf("the node at %s runs another version of pharos: %s", address, st.Message())
	}
	return e
}
