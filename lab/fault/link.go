package fault

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
)

// Link sets an interface down, and up again with what the kernel forgets of it
// meanwhile: its IPv6 addresses and the routes through it.
type Link struct {
	Device string
	// Run prepares a command on the machine that has the interface.
	Run func(ctx context.Context, argv ...string) *exec.Cmd

	up string // the lines of ip-batch that bring it up as it was
}

// Guarded is the link's fault with a guard.
func (l *Link) Guarded() Injector {
	return &Guarded{Injector: l, Mend: func(ctx context.Context) (*exec.Cmd, error) {
		if err := l.remember(ctx); err != nil {
			return nil, err
		}
		return l.Run(ctx, "sh", "-c", "ip -force -batch - <<'END'\n"+l.up+"END\n"), nil
	}}
}

// remember notes how the link is while it is up.
func (l *Link) remember(ctx context.Context) error {
	var up strings.Builder
	fmt.Fprintf(&up, "link set %s up\n", l.Device)
	addresses, err := l.ask(ctx, "-6", "-o", "addr", "show", "dev", l.Device, "scope", "global")
	if err != nil {
		return err
	}
	for line := range strings.Lines(addresses) {
		if words := strings.Fields(line); len(words) > 3 && words[2] == "inet6" {
			fmt.Fprintf(&up, "addr replace %s dev %s nodad\n", words[3], l.Device)
		}
	}
	for _, family := range []string{"-4", "-6"} {
		routes, err := l.ask(ctx, family, "route", "show", "dev", l.Device)
		if err != nil {
			return err
		}
		for line := range strings.Lines(routes) {
			// What has a protocol, the kernel or a daemon puts there again.
			if strings.Contains(line, " via ") && !strings.Contains(line, " proto ") {
				fmt.Fprintf(&up, "route replace %s dev %s\n", strings.TrimSpace(line), l.Device)
			}
		}
	}
	l.up = up.String()
	return nil
}

func (l *Link) ask(ctx context.Context, args ...string) (string, error) {
	cmd := l.Run(ctx, append([]string{"ip"}, args...)...)
	cmd.WaitDelay = waitDelay
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("note how link %s is: %s: %w", l.Device, strings.Join(cmd.Args, " "), err)
	}
	return string(out), nil
}

// Inject implements Injector.
func (l *Link) Inject(ctx context.Context) (Moment, error) {
	if l.up == "" {
		if err := l.remember(ctx); err != nil {
			return Moment{}, err
		}
	}
	return runCommand(l.Run(ctx, "ip", "link", "set", l.Device, "down"))
}

// Revert implements Injector.
func (l *Link) Revert(ctx context.Context) (Moment, error) {
	if l.up == "" {
		return now(), nil
	}
	cmd := l.Run(ctx, "ip", "-force", "-batch", "-")
	cmd.Stdin = strings.NewReader(l.up)
	m, err := runCommand(cmd)
	if err == nil {
		l.up = ""
	}
	return m, err
}
