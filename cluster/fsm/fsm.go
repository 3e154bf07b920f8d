// Package fsm is the replicated state machine of a cluster: commands in, state
// out. It is pure and deterministic: time, names and random values ride in the
// commands, so that every node that applies the same log has the same state.
package fsm

import (
	"errors"
	"time"

	"github.com/pharos-lb/pharos/cluster/registry"
)

// State is what the log has made so far. A State is never changed once it has
// been returned: Apply makes a new one, so readers need no lock.
type State struct {
	Desired
	Members map[string]Member `json:"members"` // by node name
	Tokens  map[string]Token  `json:"tokens"`  // by token id
}

// Desired is the part of a State that every node carries out.
type Desired struct {
	Snapshot registry.Snapshot `json:"snapshot"`
	// Revision counts the changes of all that is in a Desired. It is at least
	// the version of the Snapshot, and the same in states that no operator's
	// command and no shared key have reached.
	Revision uint64 `json:"revision"`
	// Servers is what stands beside the configuration of each of its servers,
	// by POOL/SERVER: exactly those that the Snapshot has.
	Servers map[string]Server `json:"servers,omitempty"`
	// Keys are those that all nodes use alike, sealed.
	Keys map[KeyKind]KeySet `json:"keys,omitempty"`
}

// Member is a node that joined and has not been removed.
type Member struct {
	Name    string    `json:"name"`
	Address string    `json:"address"` // control, host:port
	Joined  time.Time `json:"joined"`
}

// Token is a one-time permission to join.
type Token struct {
	ID      string    `json:"id"`
	Hash    []byte    `json:"hash"` // SHA-256 of the secret; the secret itself is never stored
	Expires time.Time `json:"expires"`
	UsedBy  string    `json:"used_by,omitempty"` // the node that joined with it
}

// Command is one entry of the log. Exactly one of the pointers is set. At is
// the leader's clock when it accepted the command.
type Command struct {
	At             time.Time       `json:"at"`
	By             string          `json:"by,omitempty"` // who asked, for the audit log
	ApplyConfig    *ApplyConfig    `json:"apply_config,omitempty"`
	CreateToken    *CreateToken    `json:"create_token,omitempty"`
	UseToken       *UseToken       `json:"use_token,omitempty"`
	PutMember      *PutMember      `json:"put_member,omitempty"`
	RemoveMember   *RemoveMember   `json:"remove_member,omitempty"`
	OperateServers *OperateServers `json:"operate_servers,omitempty"`
	PutKeys        *PutKeys        `json:"put_keys,omitempty"`
}

// ApplyConfig replaces the whole configuration. A Config equal to the present
// one changes nothing and keeps the version.
type ApplyConfig struct {
	Config registry.Config `json:"config"`
	// Base, if not nil, is the version that the Config was derived from: any
	// other present version is ErrConflict.
	Base *uint64 `json:"base,omitempty"`
	// Seed is random, made by the leader: the ids of servers that are new come
	// from it. Entries of the first versions have none; the ids are made of the
	// names then, and the time of creation is not known.
	Seed []byte `json:"seed,omitempty"`
}

// CreateToken adds a token, and drops those that expired a day ago.
type CreateToken struct {
	Token Token `json:"token"`
}

// UseToken spends a token for one node. A second use by the same node name is
// refused as well: ErrTokenUsed.
type UseToken struct {
	ID   string `json:"id"`
	Hash []byte `json:"hash"`
	Node string `json:"node"`
}

// PutMember adds a member or changes its address.
type PutMember struct {
	Name    string `json:"name"`
	Address string `json:"address"`
}

// RemoveMember removes a member.
type RemoveMember struct {
	Name string `json:"name"`
}

// Result is what a command gave.
type Result struct {
	Version uint64 `json:"version"` // of the configuration, after the command
	// Revision is that of State.Desired, after the command.
	Revision uint64 `json:"revision,omitempty"`
	// Error is one of the sentinels' texts, or empty: a refused command is in
	// the log, and is refused by every node alike. See Err.
	Error string `json:"error,omitempty"`
	// Detail says more of Error, such as the faults of an invalid
	// configuration. It may be empty.
	Detail string `json:"detail,omitempty"`
}

// The refusals. Result.Err returns these values.
var (
	ErrConflict       = errors.New("the configuration has changed since the version that this change was made from")
	ErrTokenUnknown   = errors.New("unknown join token")
	ErrTokenUsed      = errors.New("join token was already used")
	ErrTokenExpired   = errors.New("join token has expired")
	ErrNameTaken      = errors.New("a member of that name exists already")
	ErrMemberUnknown  = errors.New("no member of that name")
	ErrServerUnknown  = errors.New("no server of that name")
	ErrUnknownCommand = errors.New("unknown command: a newer version wrote it")
	ErrInvalid        = errors.New("invalid command")
)
