package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"github.com/pharos-lb/pharos/lab/traffic"
	"github.com/pharos-lb/pharos/lab/traffic/record"
)

// newDrillProbeCommand is what drills run at the clients' place: it writes the
// record of its probes, a JSON object a line.
func newDrillProbeCommand() *cobra.Command {
	var (
		config        traffic.Config
		target        string
		held          traffic.HeldConfig
		echo          traffic.HeldConfig
		echoTarget    string
		stopWithStdin bool
	)
	cmd := &cobra.Command{
		Use:    "probe",
		Short:  "Send probes and write a record of them (used by drills)",
		Hidden: true,
		Args:   drillArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			usage := func(err error) error { return &drillError{code: drillUsage, err: err} }
			var err error
			if config.Target, err = netip.ParseAddrPort(target); err != nil {
				return usage(fmt.Errorf("--target: %w", err))
			}
			if held.Count > 0 {
				held.Protocol = traffic.HeldHTTP
				config.Held = append(config.Held, held)
			}
			if echo.Count > 0 {
				if echo.Target, err = netip.ParseAddrPort(echoTarget); err != nil {
					return usage(fmt.Errorf("--echo-target: %w", err))
				}
				echo.Protocol, echo.Timeout = traffic.HeldEcho, held.Timeout
				config.Held = append(config.Held, echo)
			}
			prober, err := traffic.New(config, drillLog(cmd.ErrOrStderr()))
			if err != nil {
				return usage(err)
			}
			ctx, cancel := drillContext(cmd)
			defer cancel()
			if stopWithStdin {
				// It ends with the process: nothing can interrupt a read of
				// standard input.
				go func() {
					_, _ = io.Copy(io.Discard, cmd.InOrStdin())
					cancel()
				}()
			}
			stayOnSchedule()
			return writeRecord(ctx, prober, cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&target, "target", "", "ADDRESS:PORT to connect to")
	f.DurationVar(&config.Interval, "interval", 2*time.Millisecond, "time between two connections")
	f.DurationVar(&config.Timeout, "timeout", time.Second, "time after which a connection counts as timed out")
	f.DurationVar(&config.Duration, "duration", 10*time.Second, "how long to send")
	f.IntVar(&config.Count, "count", 0, "connections to make at most (0: as many as fit the duration)")
	f.IntVar(&config.MaxInFlight, "max-in-flight", 4096, "connections open at once at most")
	f.StringVar(&config.Path, "path", "/", "path to request")
	f.StringVar(&config.Host, "host", "", "Host header (default the target)")
	f.IntVar(&config.ExpectStatus, "expect-status", 200, "status of a right answer")
	f.StringVar(&config.NodeHeader, "node-header", "", "header of the answer that names the carrying node")
	f.BoolVar(&config.RequirePeer, "require-peer", false, "an answer that does not say which node carried it is a wrong one")
	f.IntVar(&held.Count, "held", 0, "HTTP connections to hold open")
	f.StringVar(&held.Path, "held-path", "/slow?ms=200", "path of their requests")
	f.DurationVar(&held.Every, "held-every", 0, "pause between two requests on a held connection")
	f.DurationVar(&held.Timeout, "held-timeout", 10*time.Second, "time after which an exchange on a held connection counts as timed out")
	f.IntVar(&echo.Count, "echo", 0, "TCP echo connections to hold open")
	f.StringVar(&echoTarget, "echo-target", "", "ADDRESS:PORT of the echo service")
	f.DurationVar(&echo.Every, "echo-every", 50*time.Millisecond, "pause between two lines on an echo connection")
	f.BoolVar(&stopWithStdin, "stop-with-stdin", false, "end when standard input does")
	return cmd
}

// stayOnSchedule keeps the Go runtime from holding the prober's thread up on a
// busy machine: a processor is always free for it, and there is no collection
// of garbage, of which a probe makes about 1 KiB, before it matters.
func stayOnSchedule() {
	runtime.GOMAXPROCS(max(8, runtime.NumCPU()))
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(256 << 20)
}

// recordBacklog is how many lines may wait for a slow reader before the prober
// itself waits, and is then seen to be late.
const recordBacklog = 1 << 16

// flushEvery bounds how long a line stays in the buffer.
const flushEvery = 20 * time.Millisecond

// writeRecord runs the prober and writes its record, apart from the thread
// that keeps the schedule.
func writeRecord(ctx context.Context, prober *traffic.Prober, w io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lines := make(chan record.Line, recordBacklog)
	written := make(chan error, 1)
	go func() {
		err := drainRecord(lines, w)
		if err != nil {
			cancel() // nobody reads: stop sending
			for range lines {
			}
		}
		written <- err
	}()
	err := prober.Run(ctx, func(l record.Line) { lines <- l })
	close(lines)
	if err := errors.Join(err, <-written); err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	return nil
}

func drainRecord(lines <-chan record.Line, w io.Writer) error {
	out := bufio.NewWriterSize(w, 1<<16)
	flush := time.NewTicker(flushEvery)
	defer flush.Stop()
	var buf []byte
	for {
		select {
		case l, more := <-lines:
			if !more {
				return out.Flush()
			}
			var err error
			if buf, err = record.Append(buf[:0], l); err != nil {
				return err
			}
			if _, err := out.Write(buf); err != nil {
				return fmt.Errorf("write the record: %w", err)
			}
		case <-flush.C:
			if err := out.Flush(); err != nil {
				return fmt.Errorf("write the record: %w", err)
			}
		}
	}
}
