package fault

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pipe makes a named pipe, and gives the command that writes to it.
func pipe(t *testing.T) (path string, tell []string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path, []string{"sh", "-c", "echo mended > " + path}
}

// told waits for a word in a named pipe.
func told(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path) // ends when the writer has
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func guarded(inner Injector, argv ...string) *Guarded {
	return &Guarded{Injector: inner, Mend: func(ctx context.Context) (*exec.Cmd, error) {
		return exec.CommandContext(ctx, argv[0], argv[1:]...), nil
	}}
}

const guardInChild = "PHAROS_TEST_GUARD"

func TestAFaultIsMendedThoughItsProgramIsKilled(t *testing.T) {
	if path := os.Getenv(guardInChild); path != "" {
		_, err := guarded(&fake{}, "sh", "-c", "echo mended > "+path).Inject(context.Background())
		fmt.Println("injected", err)
		select {}
	}
	path, _ := pipe(t)
	child := exec.Command(os.Args[0], "-test.run=^TestAFaultIsMendedThoughItsProgramIsKilled$")
	child.Env = append(os.Environ(), guardInChild+"="+path)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	_ = child.Process.Kill()
	_ = child.Wait()
	if err != nil || line != "injected <nil>\n" {
		t.Fatalf("%q, %v", line, err)
	}
	if got := told(t, path); got != "mended\n" {
		t.Errorf("the guard said %q", got)
	}
}

func TestAFaultIsMendedWhenItsTimeIsOver(t *testing.T) {
	path, argv := pipe(t)
	g := guarded(&fake{}, argv...)
	g.Limit = time.Millisecond
	if _, err := g.Inject(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := told(t, path); got != "mended\n" {
		t.Errorf("the guard said %q", got)
	}
	if _, err := g.Revert(t.Context()); err != nil {
		t.Errorf("after the guard has ended: %v", err)
	}
}

func TestAGuardThatIsDismissedDoesNothing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mended")
	inner := &fake{}
	g := guarded(inner, "touch", file)
	for range 2 { // it stands again for the next one
		if _, err := g.Inject(t.Context()); err != nil {
			t.Fatal(err)
		}
		if g.guard == nil {
			t.Fatal("nobody guards the fault")
		}
		if _, err := g.Revert(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the guard mended a fault that was mended: %v", err)
	}
	if inner.injected != 2 || inner.reverted != 2 {
		t.Errorf("%+v", inner)
	}
}

func TestAGuardStaysWhereTheRevertFails(t *testing.T) {
	path, argv := pipe(t)
	inner := &fake{revertErr: errors.New("no route to host")}
	g := guarded(inner, argv...)
	if _, err := g.Inject(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Revert(t.Context()); !errors.Is(err, inner.revertErr) {
		t.Fatal(err)
	}
	_ = g.guard.words.Close() // as the end of this program does
	if got := told(t, path); got != "mended\n" {
		t.Errorf("the guard said %q", got)
	}
	if err := g.guard.cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestNothingIsBrokenWithoutAGuard(t *testing.T) {
	inner, errMend := &fake{}, errors.New("no such node")
	for _, g := range []*Guarded{
		{Injector: inner, Mend: func(context.Context) (*exec.Cmd, error) { return nil, errMend }},
		{Injector: inner, Mend: func(context.Context) (*exec.Cmd, error) { return &exec.Cmd{Err: errMend}, nil }},
	} {
		if _, err := g.Inject(t.Context()); !errors.Is(err, errMend) || inner.injected != 0 {
			t.Errorf("injected %d times, err = %v", inner.injected, err)
		}
	}
}

// counting is a fake that counts.
type counting struct {
	fake
	met uint64
}

func (c *counting) Count(context.Context) (uint64, error) { return c.met, nil }

func TestSeveral(t *testing.T) {
	one, other := &counting{met: 7}, &counting{met: 3}
	s := Several{one, other}
	m, err := s.Inject(t.Context())
	if err != nil || !m.Began.Equal(time.Unix(1, 0)) {
		t.Errorf("%+v, %v", m, err)
	}
	if n, err := Count(t.Context(), s); n != 3 || err != nil {
		t.Errorf("it met %d, %v; want the least", n, err)
	}
	one.revertErr = errors.New("no route to host")
	if _, err := s.Revert(t.Context()); !errors.Is(err, one.revertErr) || other.reverted != 1 {
		t.Errorf("the other was reverted %d times, err = %v", other.reverted, err)
	}
	if _, err := Count(t.Context(), append(s, &fake{})); !errors.Is(err, ErrNoCount) {
		t.Errorf("one that does not count: %v", err)
	}
}
