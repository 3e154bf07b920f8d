package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/pharos-lb/pharos/node/handover"
)

// upgradeSlack is what the steps after the start may take, at most, beside the
// time that the start was given.
const upgradeSlack = time.Minute

// upgradeView is what came of an upgrade.
type upgradeView struct {
	Pid     int    `json:"pid"`
	Version string `json:"version"`
	Took    string `json:"took"`
}

// newUpgradeCommand has the node on this machine hand over to a new process.
func newUpgradeCommand(o *options) *cobra.Command {
	var request handover.Request
	cmd := &cobra.Command{
		Use:   "upgrade",
		Short: "Have this machine's node go on in a new process, without an interruption",
		Long: `Have the node on this machine go on in a new process: after its binary was
replaced, or after a change of its node file.

The running process starts the new one with its own arguments, hands it the
listening sockets and the BGP sessions, and ends with the last connection that
it has itself accepted, or after the node file's upgrade_timeout. No connection
is refused, and the routers see no change. If the new process cannot start, or
is not ready in time, it is ended, and the running one carries on: this command
then says why, with exit code 1.

The same is started by SIGUSR2, which says in the log alone what came of it.`,
		Args: arguments(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.address != "" {
				return usage(cmd, "--address %s: only the node on this machine can be upgraded, and it is found by --dir", o.address)
			}
			if request.StartTimeout <= 0 {
				return usage(cmd, "--start-timeout %v: must be more than 0", request.StartTimeout)
			}
			if request.Binary != "" {
				path, err := filepath.Abs(request.Binary)
				if err != nil {
					return err
				}
				request.Binary = path
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), request.StartTimeout+upgradeSlack)
			defer cancel()
			answer, err := handover.Ask(ctx, o.dir, request)
			if failed := new(handover.Failure); errors.As(err, &failed) {
				return fmt.Errorf("the node was not upgraded and runs as before: %w", err)
			}
			if err != nil {
				return err
			}
			view := upgradeView{answer.Pid, answer.Version, answer.Took.Round(time.Millisecond).String()}
			return o.show(cmd, view, func(w io.Writer) {
				fmt.Fprintf(w, "process %d runs the node now, version %s; it took %s\n", view.Pid, view.Version, view.Took)
			})
		},
	}
	cmd.Flags().StringVar(&request.Binary, "binary", "", "program to start (default: the path that the node was started with)")
	cmd.Flags().DurationVar(&request.StartTimeout, "start-timeout", handover.DefaultStartTimeout, "how long the new process may take to be ready")
	return cmd
}
