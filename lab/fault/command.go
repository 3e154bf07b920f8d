package fault

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// Command breaks and mends by running commands: the product's own CLI, or what
// an operator gives. A command that fails makes the step fail.
type Command struct {
	InjectWith func(ctx context.Context) *exec.Cmd
	RevertWith func(ctx context.Context) *exec.Cmd
}

// Inject implements Injector.
func (c *Command) Inject(ctx context.Context) (Moment, error) { return runCommand(c.InjectWith(ctx)) }

// Revert implements Injector.
func (c *Command) Revert(ctx context.Context) (Moment, error) { return runCommand(c.RevertWith(ctx)) }

// waitDelay bounds the wait for the output of a command that was cut off, and
// that left children which hold it open.
const waitDelay = 2 * time.Second

func runCommand(cmd *exec.Cmd) (Moment, error) {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &out, waitDelay
	m := Moment{Began: time.Now()}
	err := cmd.Run()
	m.Done = time.Now()
	if err != nil {
		return m, fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, lastLine(out.String()))
	}
	return m, nil
}

func lastLine(out string) string {
	out = strings.TrimSpace(out)
	if out == "" {
		return "(no output)"
	}
	return out[strings.LastIndexByte(out, '\n')+1:]
}
