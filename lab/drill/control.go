package drill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"time"

	"github.com/pharos-lb/pharos/lab/drill/oracle"
)

// Controller is a Site on whose nodes an operator's commands run.
type Controller interface {
	// Control runs the product's CLI on a node.
	Control(ctx context.Context, node string, args ...string) *exec.Cmd
}

// controlOf is a site's Controller. The error wraps ErrNoControl.
func controlOf(site Site) (Controller, error) {
	c, ok := site.(Controller)
	if !ok {
		return nil, fmt.Errorf("%w on %s", ErrNoControl, site.Name())
	}
	return c, nil
}

// leaderLimit bounds the wait for a leader: an election takes a second.
const leaderLimit = 15 * time.Second

// leader asks the nodes in turn who leads them, until one says so.
func leader(ctx context.Context, site Site) (name string, err error) {
	control, err := controlOf(site)
	if err != nil {
		return "", fmt.Errorf("find the leader: %w: name a node by --node", err)
	}
	err = within(ctx, leaderLimit, func(ctx context.Context) error {
		for turn := 0; ; turn++ {
			node := site.Nodes()[turn%len(site.Nodes())]
			out, err := output(control.Control(ctx, node, "member", "list", "-o", "json"))
			if err == nil {
				if name, err = leaderOf(out); err == nil {
					return nil
				}
			}
			if e := pause(ctx, 50*time.Millisecond); e != nil {
				return fmt.Errorf("find the leader: %w (%w)", e, err)
			}
		}
	})
	return name, err
}

// leaderOf reads "pharos member list -o json".
func leaderOf(list []byte) (string, error) {
	var members []struct {
		Name          string
		Leader, Alive bool
	}
	if err := json.Unmarshal(list, &members); err != nil {
		return "", fmt.Errorf("read the list of members: %w", err)
	}
	for _, m := range members {
		if m.Leader && m.Alive {
			return m.Name, nil
		}
	}
	return "", errors.New("nobody leads")
}

// check is something that is tried on a node, and what is found.
func check(what string, try func() error) oracle.Check {
	c := oracle.Check{What: what, At: time.Now()}
	if err := try(); err != nil {
		c.Wrong = err.Error()
	}
	return c
}
