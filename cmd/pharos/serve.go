package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/pharos-lb/pharos/node"
	"github.com/pharos-lb/pharos/node/handover"
)

// secondSignal is how long after the first one a signal to stop counts as a
// second one: a service manager may send one to every process of the node, and
// the first process passes its own on.
const secondSignal = time.Second

// newServeCommand runs a node in the foreground until SIGTERM or SIGINT.
func newServeCommand(dir *string) *cobra.Command {
	var level, format string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run this node",
		Long: `Run the node that "pharos init" or "pharos join" made, in the foreground.

SIGTERM or SIGINT withdraws the VIPs, lets what is in flight finish for up to
the node file's drain_timeout, and stops. A second one, a second later or more,
stops at once.

SIGUSR2 has a new process take over, as "pharos upgrade" does: it starts this
binary again, as it is by then, with the same arguments. Under systemd, with
Type=notify, the new process becomes the main one. Anywhere else the first
process stays, as their parent: it passes signals on, ends with the last one
and with its exit code, and the others end if it is killed. So its process id
stands for the node, also in a container.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			process, err := handover.This()
			if err != nil {
				return err
			}
			logger, err := newLogger(level, format)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithCancel(cmd.Context())
			defer cancel()
			s := &serving{process: process, logger: logger, cancel: cancel}
			// Before anything else: SIGUSR2 would end a process that does not
			// expect it.
			signals := make(chan os.Signal, 8)
			signal.Notify(signals, syscall.SIGTERM, os.Interrupt, syscall.SIGUSR2)
			n, err := node.New(node.Options{Dir: *dir, Version: version, Logger: logger, Process: process})
			if err != nil {
				return err
			}
			s.node = n
			go s.obey(signals) // for as long as the process lives
			go s.stayWithParent()
			if err := n.Run(ctx); err != nil {
				return err
			}
			// A process that stays as a parent needs next to nothing from here on.
			debug.FreeOSMemory()
			if code := process.Wait(); code != 0 {
				return exitCodeError(code)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&level, "log-level", "info", "least level to log: debug, info, warn or error")
	cmd.Flags().StringVar(&format, "log-format", "text", "text or json")
	return cmd
}

// exitCodeError is a successor's exit code, to be this process's. It has said
// why itself.
type exitCodeError int

// Error implements error.
func (e exitCodeError) Error() string {
	return fmt.Sprintf("the process that ran the node ended with exit code %d", int(e))
}

// ExitCode is the process's.
func (e exitCodeError) ExitCode() int { return int(e) }

// serving is a process that runs a node.
type serving struct {
	process *handover.Process
	node    *node.Node
	logger  *slog.Logger
	cancel  context.CancelFunc
}

// obey carries out signals.
func (s *serving) obey(signals chan os.Signal) {
	var asked time.Time
	for received := range signals {
		if received == syscall.SIGUSR2 {
			if s.process.Forward(received, false) {
				continue
			}
			go s.node.Upgrade(handover.Request{}) // the node logs what came of it
			continue
		}
		s.process.Forward(received, true)
		s.cancel()
		if asked.IsZero() {
			asked = time.Now()
		} else if time.Since(asked) >= secondSignal {
			s.logger.Warn("told to stop a second time: connections are cut")
			os.Exit(exitFailed)
		}
	}
}

// stayWithParent ends the process with the one that stays as its parent, whose
// id stands for the node: that was killed.
func (s *serving) stayWithParent() {
	s.process.StayWithParent()
	s.logger.Error("the process that stands for the node has ended, this one ends with it")
	os.Exit(exitFailed)
}

func newLogger(level, format string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level %q: debug, info, warn and error are known", level)
	}
	opts := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(os.Stderr, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(os.Stderr, opts)), nil
	default:
		return nil, fmt.Errorf("--log-format %q: text and json are known", format)
	}
}
