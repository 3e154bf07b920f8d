package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/pharos-lb/pharos/lab/netns"
	"github.com/pharos-lb/pharos/lab/netns/userns"
)

func newLabExecCommand(name *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:                   "exec NODE -- COMMAND [ARGUMENT...]",
		Short:                 "Run a command on a machine of the lab",
		Example:               "  pharos lab exec tor1 -- vtysh -c 'show bgp summary'\n  pharos lab exec n1 -- pharos status",
		Args:                  labArguments(2, math.MaxInt, "NODE and a COMMAND"),
		DisableFlagsInUseLine: true,
	}
	cmd.RunE = inLabNamespace(false, func(cmd *cobra.Command, args []string) error {
		node, argv := args[0], args[1:]
		if argv[0] == "--" {
			argv = argv[1:]
		}
		if len(argv) == 0 {
			return labUsage(cmd, "there is no command to run after --")
		}
		return becomeLabCommand(cmd.Context(), *name, node, argv)
	})
	// What follows NODE is the command's own, also without "--".
	cmd.Flags().SetInterspersed(false)
	return cmd
}

func newLabShellCommand(name *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "shell NODE",
		Short:   "Open a shell on a machine of the lab",
		Example: "  pharos lab shell client",
		Args:    labArguments(1, 1, "a NODE"),
	}
	cmd.RunE = inLabNamespace(false, func(cmd *cobra.Command, args []string) error {
		shell := os.Getenv("SHELL")
		if _, err := exec.LookPath(shell); shell == "" || err != nil {
			shell = "sh"
		}
		return becomeLabCommand(cmd.Context(), *name, args[0], []string{shell})
	})
	return cmd
}

// becomeLabCommand replaces this program by a command on a machine of the lab,
// so that its terminal, its signals and its exit code are the command's own.
func becomeLabCommand(ctx context.Context, lab, node string, argv []string) error {
	l, err := netns.Open(lab)
	if err != nil {
		return err
	}
	cmd := l.Command(ctx, node, argv...)
	if cmd.Err != nil {
		var names []string
		for _, n := range l.Nodes() {
			names = append(names, n.Name)
		}
		return fmt.Errorf("%w: it has %s", cmd.Err, strings.Join(names, ", "))
	}
	return fmt.Errorf("run %s: %w", cmd.Path, syscall.Exec(cmd.Path, cmd.Args, cmd.Environ()))
}

// inLabNamespace makes a command's RunE run where this user's labs are: here
// for root, and otherwise in their user namespace, in which the whole program
// runs again. create makes that namespace if there is none; without it, a user
// who has none has no labs, which is netns.ErrNotUp.
func inLabNamespace(create bool, run func(*cobra.Command, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if !userns.Needed() {
			return run(cmd, args)
		}
		binary, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find this program: %w", err)
		}
		code, err := userns.Enter(cmd.Context(), userns.Config{
			Executable: binary, Args: os.Args[1:], HoldArgs: []string{"lab", "hold", "--namespace"}, Create: create,
		})
		if err != nil {
			return err
		}
		if code != 0 {
			return &labError{code: code} // the program inside has said why
		}
		return nil
	}
}

// labError ends the program with an exit code of its own.
type labError struct {
	code int
	text string // empty: all is said
}

// Error implements error.
func (e *labError) Error() string { return e.text }

// ExitCode is the process's.
func (e *labError) ExitCode() int { return e.code }

// labUsage is wrong usage: exit code 2.
func labUsage(cmd *cobra.Command, format string, args ...any) error {
	return &labError{code: 2, text: fmt.Sprintf(format, args...) + fmt.Sprintf(": see \"%s --help\"", cmd.CommandPath())}
}

// labArguments checks how many arguments a command was given, and says which
// it wants.
func labArguments(least, most int, names string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= least && len(args) <= most {
			return nil
		}
		return labUsage(cmd, "%q takes %s, and was given %d argument(s)", cmd.CommandPath(), names, len(args))
	}
}
