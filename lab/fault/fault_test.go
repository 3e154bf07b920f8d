package fault

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fake counts what was done to it.
type fake struct {
	injected, reverted    int
	injectErr, revertErr  error
	revertContextWasEnded bool
}

func (f *fake) Inject(context.Context) (Moment, error) {
	f.injected++
	return Moment{Began: time.Unix(1, 0)}, f.injectErr
}

func (f *fake) Revert(ctx context.Context) (Moment, error) {
	f.reverted++
	f.revertContextWasEnded = ctx.Err() != nil
	return Moment{Began: time.Unix(2, 0)}, f.revertErr
}

func TestWithAlwaysReverts(t *testing.T) {
	errBody := errors.New("the body failed")
	errInject := errors.New("inject failed")
	for _, tc := range []struct {
		name   string
		fake   fake
		cancel bool
		panics bool
		body   func(ctx context.Context, injected Moment, revert Revert) error
		err    error
	}{
		{name: "the body does not", body: func(context.Context, Moment, Revert) error { return nil }},
		{name: "the body did", body: func(ctx context.Context, _ Moment, revert Revert) error { _, err := revert(ctx); return err }},
		{name: "the body fails", body: func(context.Context, Moment, Revert) error { return errBody }, err: errBody},
		{name: "the body panics", panics: true, body: func(context.Context, Moment, Revert) error { panic("at the worst time") }},
		{name: "the context ends", cancel: true, body: func(ctx context.Context, _ Moment, _ Revert) error { <-ctx.Done(); return ctx.Err() }, err: context.Canceled},
		{name: "inject fails half-way", fake: fake{injectErr: errInject}, body: func(context.Context, Moment, Revert) error { t.Error("the body ran"); return nil }, err: errInject},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if tc.cancel {
				cancel()
			}
			panicked := true
			func() {
				defer func() {
					if r := recover(); (r != nil) != tc.panics {
						t.Errorf("recovered %v", r)
					}
				}()
				if err := With(ctx, &tc.fake, tc.body); !errors.Is(err, tc.err) {
					t.Errorf("err = %v, want %v", err, tc.err)
				}
				panicked = false
			}()
			if panicked != tc.panics {
				t.Errorf("panicked %v", panicked)
			}
			if tc.fake.injected != 1 || tc.fake.reverted != 1 || tc.fake.revertContextWasEnded {
				t.Errorf("%+v, want each once, the revert with a live context", tc.fake)
			}
		})
	}
}

func TestWithSaysWhenTheFaultStays(t *testing.T) {
	f := fake{revertErr: errors.New("no route to host")}
	err := With(t.Context(), &f, func(ctx context.Context, _ Moment, revert Revert) error {
		_, err := revert(ctx)
		return err
	})
	if !errors.Is(err, f.revertErr) || !strings.Contains(err.Error(), "NOT reverted") || f.reverted != 2 {
		t.Errorf("after %d tries: %v", f.reverted, err)
	}
}

var errStopped = errors.New("stopped")

// child runs a process and is what the lab is to Process.
type child struct {
	t    *testing.T
	cmd  *exec.Cmd
	argv []string
}

func (c *child) start(context.Context) error {
	c.cmd = exec.Command(c.argv[0], c.argv[1:]...)
	if err := c.cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	cmd := c.cmd
	go func() { defer close(ended); _ = cmd.Wait() }()
	c.t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
	return nil
}

func (c *child) pid() (int, error) {
	if c.cmd == nil || c.cmd.Process.Signal(unix.Signal(0)) != nil {
		return 0, errStopped
	}
	return c.cmd.Process.Pid, nil
}

func TestProcess(t *testing.T) {
	for _, signal := range []unix.Signal{unix.SIGKILL, unix.SIGTERM} {
		t.Run(unix.SignalName(signal), func(t *testing.T) {
			c := &child{t: t, argv: []string{"sleep", "600"}}
			if err := c.start(t.Context()); err != nil {
				t.Fatal(err)
			}
			first := c.cmd.Process.Pid
			p := &Process{
				Name: "sleep", Signal: signal, Pid: c.pid, Start: c.start, Await: true,
				Stopped: func(err error) bool { return errors.Is(err, errStopped) },
			}
			before := time.Now()
			m, err := p.Inject(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if m.Began.Before(before) || m.Done.Before(m.Began) {
				t.Errorf("moment %+v", m)
			}
			for c.cmd.Process.Signal(unix.Signal(0)) == nil && t.Context().Err() == nil { // until it is reaped
			}
			if _, err := p.Inject(t.Context()); !errors.Is(err, errStopped) {
				t.Errorf("a second inject gave %v, want errStopped", err)
			}
			for range 2 { // the second one does nothing
				if _, err := p.Revert(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if pid, err := c.pid(); err != nil || pid == first {
				t.Errorf("after the revert: process %d (was %d), %v", pid, first, err)
			}
		})
	}
}

func TestProcessThatDoesNotEnd(t *testing.T) {
	c := &child{t: t, argv: []string{"sleep", "600"}}
	if err := c.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p := &Process{Name: "sleep", Signal: unix.SIGCONT, Pid: c.pid, Start: c.start, Await: true}
	if _, err := p.Inject(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v, want context.Canceled", err)
	}
}

func TestCommand(t *testing.T) {
	file := filepath.Join(t.TempDir(), "done")
	sh := func(script string) func(context.Context) *exec.Cmd {
		return func(ctx context.Context) *exec.Cmd { return exec.CommandContext(ctx, "sh", "-c", script) }
	}
	c := &Command{InjectWith: sh("touch " + file), RevertWith: sh("rm " + file)}
	if _, err := c.Inject(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Revert(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err := c.Revert(t.Context())
	var exit *exec.ExitError
	if !errors.As(err, &exit) || !strings.Contains(err.Error(), "No such file") {
		t.Errorf("err = %v, want the command's last words", err)
	}
}
