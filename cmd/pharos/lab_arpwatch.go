package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/pharos-lb/pharos/lab/arpwatch"
)

// newLabArpwatchCommand makes "pharos lab arpwatch", which drills run at a
// switch, and people on any machine of a segment.
func newLabArpwatchCommand() *cobra.Command {
	var (
		config     arpwatch.Config
		addresses  []string
		mac        string
		ipv4, ipv6 string
		stop       bool
	)
	cmd := &cobra.Command{
		Use:   "arpwatch --port INTERFACE --address VIP",
		Short: "Ask a segment all the time who has an address, and record who says so",
		Long: `Arpwatch asks by ARP and neighbor discovery who has an address, again and again, and writes each answer and each
announcement as a line of JSON, with the time at which the kernel had it. It asks as the machine that it runs on, or,
at the ports of a switch, as --self-mac with --self-ipv4 and --self-ipv6, which must be nobody else's.`,
		Example: "  pharos lab exec client -- pharos lab arpwatch --port eth1 --address 10.0.50.100",
		Args:    labArguments(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, text := range addresses {
				a, err := netip.ParseAddr(text)
				if err != nil {
					return labUsage(cmd, "--address: %v", err)
				}
				config.Addresses = append(config.Addresses, a)
			}
			self, err := arpwatchSelf(mac, ipv4, ipv6)
			if err != nil {
				return labUsage(cmd, "%v", err)
			}
			config.Self = self
			if err := config.Validate(); err != nil {
				return labUsage(cmd, "%v", err)
			}
			ctx, cancel := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer cancel()
			if stop {
				go func() {
					defer cancel()
					_, _ = io.Copy(io.Discard, cmd.InOrStdin())
				}()
			}
			return writeArpwatch(ctx, config, cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&config.Ports, "port", nil, "interface to ask at; several of a switch, each by itself")
	f.StringArrayVar(&addresses, "address", nil, "address to ask for; may be given several times")
	f.DurationVar(&config.Interval, "interval", 5*time.Millisecond, "time between two questions for an address at a port")
	f.StringVar(&mac, "self-mac", "", "hardware address to ask from (default the interface's, as the machine itself)")
	f.StringVar(&ipv4, "self-ipv4", "", "with --self-mac: IPv4 address to ask from")
	f.StringVar(&ipv6, "self-ipv6", "", "with --self-mac: IPv6 address to ask from")
	f.BoolVar(&stop, "stop-with-stdin", false, "end when the standard input does")
	return cmd
}

// arpwatchSelf is who asks; nil: the machine itself.
func arpwatchSelf(mac, ipv4, ipv6 string) (*arpwatch.Identity, error) {
	if mac == "" {
		if ipv4 != "" || ipv6 != "" {
			return nil, fmt.Errorf("--self-ipv4 and --self-ipv6 go with --self-mac")
		}
		return nil, nil
	}
	var i arpwatch.Identity
	var err error
	if i.MAC, err = arpwatch.ParseMAC(mac); err != nil {
		return nil, fmt.Errorf("--self-mac: %w", err)
	}
	for _, f := range []struct {
		name, text string
		to         *netip.Addr
	}{{"--self-ipv4", ipv4, &i.IPv4}, {"--self-ipv6", ipv6, &i.IPv6}} {
		if f.text == "" {
			continue
		}
		if *f.to, err = netip.ParseAddr(f.text); err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return &i, nil
}

// writeArpwatch writes the record as it comes.
func writeArpwatch(ctx context.Context, config arpwatch.Config, out io.Writer) error {
	w := bufio.NewWriterSize(out, 1<<16)
	var line []byte
	err := arpwatch.Watch(ctx, config, func(l arpwatch.Line) (err error) {
		if line, err = arpwatch.Append(line[:0], l); err != nil {
			return err
		}
		if _, err := w.Write(line); err != nil {
			return err
		}
		// Who reads along must not wait for a full buffer.
		return w.Flush()
	})
	if err != nil {
		return fmt.Errorf("watch the segment: %w", err)
	}
	return nil
}
