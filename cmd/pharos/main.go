// Command pharos is the whole product in one binary: the node, and the command
// line that makes, joins, configures and watches a cluster of them.
//
// Exit codes: 0 done; 1 refused or failed; 2 wrong usage.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/pharos-lb/pharos/cluster/api"
)

const (
	exitFailed = 1
	exitUsage  = 2
	defaultDir = "/var/lib/pharos"
)

func main() {
	root := newRoot()
	root.SetArgs(os.Args[1:])
	os.Exit(execute(context.Background(), root))
}

// options are the flags that all commands share.
type options struct {
	dir     string        // data directory of the node on this machine
	address string        // control address to ask; empty: that node's own
	output  string        // table, json or yaml
	timeout time.Duration // of one question to a node
	node    nodeHome
}

// newRoot builds the command tree. Each family has a constructor and a file of
// its own.
func newRoot() *cobra.Command { return newRootOn(nodeFiles()) }

func newRootOn(node nodeHome) *cobra.Command {
	o := &options{node: node}
	root := &cobra.Command{
		Use:   "pharos",
		Short: "A load balancer for nodes that share a virtual IP",
		Long: `Pharos balances load over your servers from three or more equal nodes that share
a virtual IP (VIP) and announce it to your routers by BGP.

Commands that ask a node use the identity in the data directory of the node on
this machine. Exit codes: 0 done, 1 refused or failed, 2 wrong usage.`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	group(root)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usage(cmd, "%v", err) })
	root.CompletionOptions.HiddenDefaultCmd = true

	dir := os.Getenv("PHAROS_DIR")
	if dir == "" {
		dir = defaultDir
	}
	flags := root.PersistentFlags()
	flags.StringVar(&o.dir, "dir", dir, "data directory of this machine's node (environment: PHAROS_DIR)")
	flags.Lookup("dir").DefValue = defaultDir // help must not depend on the environment
	flags.StringVar(&o.address, "address", "", "control address of the node to ask, HOST or HOST:PORT (default: this machine's node)")
	flags.StringVarP(&o.output, "output", "o", formatTable, "table, json or yaml")
	flags.DurationVar(&o.timeout, "timeout", 30*time.Second, "how long to wait for an answer")
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if o.timeout <= 0 {
			return usage(cmd, "--timeout %v: must be more than 0", o.timeout)
		}
		return validFormat(cmd, o.output)
	}

	root.AddCommand(
		newInitCommand(o), newJoinCommand(o), newMemberCommand(o), newTokenCommand(o),
		newApplyCommand(o), newDiffCommand(o), newGetCommand(o),
		newStatusCommand(o), newExplainCommand(o), newDrainCommand(o), newUndrainCommand(o),
		newServerCommand(o),
		newVersionCommand(o),
		newServeCommand(&o.dir), newUpgradeCommand(o), newLabCommand(), newDrillCommand(),
	)
	return root
}

// execute runs the command that root's arguments name, tells its error, and
// gives the exit code.
func execute(ctx context.Context, root *cobra.Command) int {
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	tell(root.ErrOrStderr(), err)
	var coded interface{ ExitCode() int }
	if errors.As(err, &coded) && coded.ExitCode() > 0 {
		return coded.ExitCode()
	}
	return exitFailed
}

// tell writes an error for a person: the faults of a document one a line, then
// what came of it.
func tell(w io.Writer, err error) {
	var answer *api.Error
	if errors.As(err, &answer) {
		for _, fault := range answer.Faults {
			fmt.Fprintln(w, fault.Error())
		}
	}
	if text := err.Error(); text != "" {
		fmt.Fprintf(w, "pharos: %s\n", text)
	}
}

// usageError is a command line that makes no sense: exit code 2.
type usageError struct{ text string }

// Error implements error.
func (e *usageError) Error() string { return e.text }

// ExitCode is the process's.
func (e *usageError) ExitCode() int { return exitUsage }

func usage(cmd *cobra.Command, format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...) + fmt.Sprintf(": see \"%s --help\"", cmd.CommandPath())}
}

// arguments checks how many arguments a command was given, and names those
// that it wants: "NODE", or "[KIND [NAME]]".
func arguments(least, most int, names string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= least && len(args) <= most {
			return nil
		}
		if names == "" {
			return usage(cmd, "%q takes no arguments, and was given %q", cmd.CommandPath(), args)
		}
		return usage(cmd, "%q takes %s, and was given %d argument(s)", cmd.CommandPath(), names, len(args))
	}
}

// group makes a command one that only holds others: alone it shows its help,
// and an unknown word after it is wrong usage.
func group(cmd *cobra.Command) {
	cmd.Args = cobra.ArbitraryArgs
	cmd.SuggestionsMinimumDistance = 2
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		hint := ""
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			hint = fmt.Sprintf(", did you mean %q?", near[0])
		}
		return usage(cmd, "there is no command \"%s %s\"%s", cmd.CommandPath(), args[0], hint)
	}
}
