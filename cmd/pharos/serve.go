package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/pharos-lb/pharos/node"
)

// newServeCommand runs a node in the foreground until SIGTERM or SIGINT.
func newServeCommand(dir *string) *cobra.Command {
	var level, format string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run this node",
		Long: `Run the node that "pharos init" or "pharos join" made, in the foreground.

SIGTERM or SIGINT withdraws the VIPs, lets what is in flight finish for up to
the node file's drain_timeout, and stops. A second one stops at once.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			logger, err := newLogger(level, format)
			if err != nil {
				return err
			}
			n, err := node.New(node.Options{Dir: *dir, Version: version, Logger: logger})
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, os.Interrupt)
			defer stop()
			// Once asked to stop, the signals have their usual effect again.
			context.AfterFunc(ctx, stop)
			return n.Run(ctx)
		},
	}
	cmd.Flags().StringVar(&level, "log-level", "info", "least level to log: debug, info, warn or error")
	cmd.Flags().StringVar(&format, "log-format", "text", "text or json")
	return cmd
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
