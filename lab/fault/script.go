package fault

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// Script is a fault in the words of a shell.
type Script struct {
	Break string
	Mend  string // does no harm where nothing is broken
	Count string // prints how much has met the fault; empty: it does not count
}

// Shell runs a script where the fault is to be: on a node, on the router.
type Shell func(ctx context.Context, script string) *exec.Cmd

// Injector injects the script's fault, guarded.
func (s Script) Injector(shell Shell) Injector {
	return &Guarded{
		Injector: &counted{
			Command: Command{
				InjectWith: func(ctx context.Context) *exec.Cmd { return shell(ctx, s.Break) },
				RevertWith: func(ctx context.Context) *exec.Cmd { return shell(ctx, s.Mend) },
			},
			script: s.Count, shell: shell,
		},
		Mend: func(ctx context.Context) (*exec.Cmd, error) { return shell(ctx, s.Mend), nil },
	}
}

type counted struct {
	Command
	script string
	shell  Shell
}

// Count implements Counter.
func (c *counted) Count(ctx context.Context) (uint64, error) {
	if c.script == "" {
		return 0, ErrNoCount
	}
	cmd := c.shell(ctx, c.script)
	cmd.WaitDelay = waitDelay
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, lastLine(string(exit.Stderr)))
		}
		return 0, fmt.Errorf("count what has met the fault: %w", err)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(out)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("count what has met the fault: %w", err)
	}
	return n, nil
}
