package fsm

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"maps"
	"net"
	"time"

	"github.com/pharos-lb/pharos/cluster/registry"
)

// tokenGrace is how long an expired token is kept, so that whoever tries it
// still learns that it has expired or was used, and not that it is unknown.
const tokenGrace = 24 * time.Hour

// New returns the state of a cluster before its first command.
func New() State {
	return State{Members: map[string]Member{}, Tokens: map[string]Token{}}
}

// Apply carries a command out. It returns the state after it and what became
// of the command; a refused command changes nothing. It is a pure function of
// its arguments, never panics, and neither changes s nor keeps hold of memory
// that c refers to.
func (s State) Apply(c Command) (State, Result) {
	next, err := s.apply(c)
	if err != nil {
		return s, s.refusal(err)
	}
	return next, Result{Version: next.Snapshot.Version, Revision: next.Revision}
}

func (s State) apply(c Command) (State, error) {
	if c.count() != 1 {
		return s, ErrUnknownCommand
	}
	at := normal(c.At)
	switch {
	case c.ApplyConfig != nil:
		return s.applyConfig(*c.ApplyConfig, at)
	case c.CreateToken != nil:
		return s.createToken(*c.CreateToken, at)
	case c.UseToken != nil:
		return s.useToken(*c.UseToken, at)
	case c.PutMember != nil:
		return s.putMember(*c.PutMember, at)
	case c.OperateServers != nil:
		return s.operateServers(*c.OperateServers)
	case c.PutKeys != nil:
		return s.putKeys(*c.PutKeys)
	default:
		return s.removeMember(*c.RemoveMember)
	}
}

// count is how many of the pointers are set.
func (c Command) count() int {
	n := 0
	for _, set := range []bool{
		c.ApplyConfig != nil, c.CreateToken != nil, c.UseToken != nil, c.PutMember != nil, c.RemoveMember != nil,
		c.OperateServers != nil, c.PutKeys != nil,
	} {
		if set {
			n++
		}
	}
	return n
}

func (s State) applyConfig(c ApplyConfig, at time.Time) (State, error) {
	if c.Base != nil && *c.Base != s.Snapshot.Version {
		return s, fmt.Errorf("%w: the change is for version %d, the present one is %d", ErrConflict, *c.Base, s.Snapshot.Version)
	}
	// Whether it is valid is for the leader to say, before it proposes: what a
	// certificate or a pattern must be is decided by libraries too, and nodes
	// of different builds need not agree about it.
	if c.Config.Equal(s.Snapshot.Config) {
		return s, nil
	}
	s.Snapshot = registry.Snapshot{Version: s.Snapshot.Version + 1, Config: c.Config.Clone()}
	s.Servers = serversOf(s.Snapshot.Config, s.Servers, c.Seed, at)
	s.Revision++
	return s, nil
}

func (s State) createToken(c CreateToken, at time.Time) (State, error) {
	t := c.Token
	switch {
	case t.ID == "":
		return s, invalid("join token without an id")
	case len(t.Hash) != sha256.Size:
		// An empty hash would be equal to that of a caller who has none.
		return s, invalid("join token %q: the hash has %d bytes, not %d", t.ID, len(t.Hash), sha256.Size)
	case t.UsedBy != "":
		return s, invalid("join token %q is used before it is created", t.ID)
	case !t.Expires.After(at):
		return s, invalid("join token %q expires at %s, before it is created", t.ID, t.Expires.Format(time.RFC3339))
	}
	if _, ok := s.Tokens[t.ID]; ok {
		return s, invalid("join token %q exists already", t.ID)
	}
	tokens := make(map[string]Token, len(s.Tokens)+1)
	for id, old := range s.Tokens {
		if !old.Expires.Before(at.Add(-tokenGrace)) {
			tokens[id] = old
		}
	}
	tokens[t.ID] = Token{ID: t.ID, Hash: bytes.Clone(t.Hash), Expires: normal(t.Expires)}
	s.Tokens = tokens
	return s, nil
}

func (s State) useToken(c UseToken, at time.Time) (State, error) {
	t, ok := s.Tokens[c.ID]
	// A wrong secret for a token that exists is told nothing more than a token
	// that does not, and learns nothing from the time that the answer takes.
	if !ok || subtle.ConstantTimeCompare(t.Hash, c.Hash) != 1 {
		return s, ErrTokenUnknown
	}
	if t.UsedBy != "" {
		return s, ErrTokenUsed
	}
	if !at.Before(t.Expires) {
		return s, ErrTokenExpired
	}
	if err := registry.CheckName(c.Node); err != nil {
		return s, invalid("node name %w", err)
	}
	if _, ok := s.Members[c.Node]; ok {
		return s, ErrNameTaken
	}
	t.UsedBy = c.Node
	s.Tokens = with(s.Tokens, c.ID, t)
	return s, nil
}

func (s State) putMember(c PutMember, at time.Time) (State, error) {
	if err := registry.CheckName(c.Name); err != nil {
		return s, invalid("node name %w", err)
	}
	if host, port, err := net.SplitHostPort(c.Address); err != nil || host == "" || port == "" {
		return s, invalid("address of node %s is %q, must be host:port", c.Name, c.Address)
	}
	m := Member{Name: c.Name, Address: c.Address, Joined: at}
	if old, ok := s.Members[c.Name]; ok {
		m.Joined = old.Joined
	}
	s.Members = with(s.Members, c.Name, m)
	return s, nil
}

func (s State) removeMember(c RemoveMember) (State, error) {
	if _, ok := s.Members[c.Name]; !ok {
		return s, ErrMemberUnknown
	}
	members := maps.Clone(s.Members)
	delete(members, c.Name)
	s.Members = members
	return s, nil
}

// with returns a copy of a map with one value set: states that were returned
// earlier share the old one.
func with[V any](m map[string]V, key string, value V) map[string]V {
	c := make(map[string]V, len(m)+1)
	maps.Copy(c, m)
	c[key] = value
	return c
}

// normal strips a time of what does not survive the log: the monotonic clock
// and the zone.
func normal(t time.Time) time.Time { return t.Round(0).UTC() }

// invalid makes an error that is ErrInvalid, with a reason.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrInvalid, fmt.Errorf(format, args...))
}

// sentinels are the refusals that a Result can carry.
func sentinels() []error {
	return []error{
		ErrConflict, ErrTokenUnknown, ErrTokenUsed, ErrTokenExpired, ErrNameTaken, ErrMemberUnknown,
		ErrServerUnknown, ErrUnknownCommand, ErrInvalid,
	}
}

// refusal is the result of a refused command.
func (s State) refusal(err error) Result {
	r := Result{Version: s.Snapshot.Version, Revision: s.Revision, Error: err.Error()}
	for _, sentinel := range sentinels() {
		if errors.Is(err, sentinel) && err != sentinel {
			r.Error, r.Detail = sentinel.Error(), err.Error()[len(sentinel.Error())+len(": "):]
		}
	}
	return r
}

// Err returns nil for a command that was carried out, and else an error that
// is one of the sentinels, with the detail in its text.
func (r Result) Err() error {
	if r.Error == "" {
		return nil
	}
	for _, sentinel := range sentinels() {
		if r.Error != sentinel.Error() {
			continue
		}
		if r.Detail == "" {
			return sentinel
		}
		return fmt.Errorf("%w: %s", sentinel, r.Detail)
	}
	// A newer leader may refuse for a reason that this version does not know.
	return fmt.Errorf("the cluster refused the command: %s", r.Error)
}
