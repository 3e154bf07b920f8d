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
	due, err := k.due()
	if err != nil || len(due) == 0 {
		return err
	}
	// A leader that is new has not read the whole log yet. Only now: the barrier
	// is an entry of the log itself.
	if err := k.cluster.Barrier(ctx); err != nil {
		return err
	}
	if due, err = k.due(); err != nil {
		return err
	}
	for _, put := range due {
		result, err := k.cluster.Submit(ctx, fsm.Command{By: k.self, PutKeys: put})
		if err == nil {
			err = result.Err()
		}
		switch {
		case errors.Is(err, fsm.ErrConflict): // another leader was quicker
		case err != nil:
			return fmt.Errorf("put the %s keys: %w", put.Kind, err)
		default:
			k.logger.Info("shared keys changed", "kind", string(put.Kind), "newest", put.Keys[len(put.Keys)-1].ID, "keys", len(put.Keys))
		}
	}
	return nil
}

// due gives the changes of keys for which it is time.
func (k keeper) due() ([]*fsm.PutKeys, error) {
	d, now := k.cluster.State().Desired, k.now()
	tickets, err := nextTicketKeys(d, k.secrets, now)
	if err != nil {
		return nil, err
	}
	var due []*fsm.PutKeys
	for _, put := range []*fsm.PutKeys{
		{Kind: fsm.TicketKeys, Keys: tickets},
		{Kind: fsm.CookieKeys, Keys: nextCookieKeys(d, k.secrets, now)},
	} {
		if put.Keys != nil {
			put.Base = d.Keys[put.Kind].Version
			due = append(due, put)
		}
	}
	return due, nil
}
