package api

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/pharos-lb/pharos/cluster/fsm"
	"github.com/pharos-lb/pharos/cluster/security"
)

// Founded is what Found made, beside the files.
type Founded struct {
	ClusterID string
	JoinToken string    // the text for a user; a secret
	Token     fsm.Token // the same, for the first state
}

// Found makes the trust of a new cluster in dir, with its first node, and a
// join token that lives for ttl (1s to 24h) from now. Where dir belongs to a
// cluster already, nothing changes and the error wraps security.ErrExists.
func Found(dir, name string, ttl time.Duration) (Founded, error) {
	if ttl < time.Second || ttl > maxTokenLife {
		return Founded{}, fmt.Errorf("a token's life of %v: 1s to %v are allowed", ttl, maxTokenLife)
	}
	identity, err := security.Create(dir, name)
	if err != nil {
		return Founded{}, err
	}
	text, stored, err := MakeToken(identity, ttl, time.Now())
	if err != nil {
		return Founded{}, errors.Join(err, Forget(dir))
	}
	return Founded{ClusterID: identity.ClusterID(), JoinToken: text, Token: stored}, nil
}

// Joining says who joins what.
type Joining struct {
	Server  string // control address of any member, host:port
	Token   string // the text that Found or CreateToken gave
	Name    string // of the joining node
	Address string // its control address, host:port
	Dir     string // its data directory
}

// Joined is what a join gave, beside the files.
type Joined struct {
	ClusterID   string
	Members     map[string]string // control addresses of the members, by name
	ClockOffset time.Duration     // how far the asked member's clock is ahead
}

// Join makes a node a member, as security.Join does.
func Join(ctx context.Context, j Joining) (Joined, error) {
	token, err := security.ParseToken(j.Token)
	if err != nil {
		return Joined{}, err
	}
	joined, err := security.Join(ctx, security.JoinConfig{Server: j.Server, Token: token, Name: j.Name, Address: j.Address, Dir: j.Dir})
	if err != nil {
		return Joined{}, err
	}
	return Joined{ClusterID: joined.Identity.ClusterID(), Members: joined.Members, ClockOffset: joined.ClockOffset}, nil
}

// HasIdentity says whether dir belongs to a cluster.
func HasIdentity(dir string) (bool, error) { return security.Exists(dir) }

// Forget removes the trust that Found or Join put into dir, when what had to
// follow failed. The node's place in the cluster, if it had one, stays.
func Forget(dir string) error {
	if err := os.RemoveAll(security.Path(dir)); err != nil {
		return fmt.Errorf("remove the cluster identity again: %w", err)
	}
	return nil
}

// DialDir makes a client with the identity of the node in dir. It does not
// connect yet.
func DialDir(dir, address string) (*Client, error) {
	identity, err := security.Load(dir)
	if err != nil {
		return nil, err
	}
	return Dial(identity, address)
}
