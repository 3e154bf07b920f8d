package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/pharos-lb/pharos/cluster/fsm"
	"github.com/pharos-lb/pharos/cluster/store"
)

const (
	// keyCheck is how often the leader looks whether a key is due.
	keyCheck = time.Minute
	// keyRetry is the wait after that failed.
	keyRetry = 2 * time.Second
)

// keyCluster is what the keeper needs of the store.
type keyCluster interface {
	WatchLeader() (name, address string, changed <-chan struct{})
	Barrier(context.Context) error
	State() fsm.State
	Submit(context.Context, fsm.Command) (fsm.Result, error)
}

// keeper has the keys that all nodes share made and changed in time: TLS ticket
// keys and the keys of persistence cookies. The leader alone acts, by its own
// clock. They are made whether a configuration needs them or not, so that one
// that does finds them on every node.
type keeper struct {
	self    string
	cluster keyCluster
	secrets sealer
	now     func() time.Time
	logger  *slog.Logger
}

// Run ends with ctx.
func (k keeper) Run(ctx context.Context) error {
	failure := ""
	timer := time.NewTimer(keyCheck)
	defer timer.Stop()
	for {
		leader, _, changed := k.cluster.WatchLeader()
		wait := keyCheck
		if leader == k.self {
			err := k.turn(ctx)
			var notLeader *store.NotLeaderError
			switch {
			case err == nil:
				failure = ""
			case ctx.Err() != nil || errors.As(err, &notLeader) || errors.Is(err, store.ErrNoLeader) || errors.Is(err, store.ErrClosed):
				wait = keyRetry // another will see to it, or this node again
			default:
				if err.Error() != failure {
					k.logger.Error("shared keys could not be changed", "error", err)
				}
				failure, wait = err.Error(), keyRetry
			}
		}
		timer.Reset(wait)
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// turn makes the keys that are due.
func (k keeper) turn(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, keyCheck)
	defer cancel()
	if err := k.cluster.Barrier(ctx); err != nil { // a leader that is new has not read the whole log yet
		return err
	}
	d := k.cluster.State().Desired
	tickets, err := nextTicketKeys(d, k.secrets, k.now())
	if err != nil {
		return err
	}
	for kind, keys := range map[fsm.KeyKind][]fsm.Key{fsm.TicketKeys: tickets, fsm.CookieKeys: nextCookieKeys(d, k.secrets, k.now())} {
		if keys == nil {
			continue
		}
		result, err := k.cluster.Submit(ctx, fsm.Command{By: k.self, PutKeys: &fsm.PutKeys{Kind: kind, Base: d.Keys[kind].Version, Keys: keys}})
		if err == nil {
			err = result.Err()
		}
		switch {
		case errors.Is(err, fsm.ErrConflict): // another leader was quicker
		case err != nil:
			return fmt.Errorf("put the %s keys: %w", kind, err)
		default:
			k.logger.Info("shared keys changed", "kind", string(kind), "newest", keys[len(keys)-1].ID, "keys", len(keys))
		}
	}
	return nil
}
