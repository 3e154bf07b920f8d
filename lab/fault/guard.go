package fault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"syscall"
	"time"
)

// Guarded is an Injector whose fault is mended also when this program is killed
// before it could do so, or hangs: by a process of its own, which waits for this
// one's end.
type Guarded struct {
	Injector
	// Mend gives the command that mends the fault from outside this program, and
	// does no harm where nothing is broken. It is asked before each injection.
	Mend func(ctx context.Context) (*exec.Cmd, error)
	// Limit is how long a fault may last at most. 0: GuardLimit.
	Limit time.Duration

	guard *guard
}

// GuardLimit is above all that a drill's own deadlines add up to.
const GuardLimit = 15 * time.Minute

// Inject implements Injector. Nothing is broken unless the guard stands.
func (g *Guarded) Inject(ctx context.Context) (Moment, error) {
	if g.guard == nil {
		mend, err := g.Mend(ctx)
		if err == nil {
			g.guard, err = startGuard(mend, g.Limit)
		}
		if err != nil {
			return Moment{}, fmt.Errorf("see to it that the fault cannot outlive this program: %w", err)
		}
	}
	return g.Injector.Inject(ctx)
}

// Revert implements Injector. Where it fails, the guard stays.
func (g *Guarded) Revert(ctx context.Context) (Moment, error) {
	m, err := g.Injector.Revert(ctx)
	if err != nil || g.guard == nil {
		return m, err
	}
	if err := g.guard.dismiss(); err != nil {
		return m, fmt.Errorf("dismiss the guard of the fault: %w", err)
	}
	g.guard = nil
	return m, nil
}

// Count implements Counter where the guarded one does.
func (g *Guarded) Count(ctx context.Context) (uint64, error) { return Count(ctx, g.Injector) }

// guardScript waits for a word, the end of its input, or the limit $0, and becomes
// the command that mends unless the word was to leave it.
const guardScript = `word=$(timeout "$0" head -n 1); [ "$word" = mended ] || exec "$@" </dev/null`

// guard is a process in a session of its own, so that what ends this program's
// does not end it.
type guard struct {
	cmd   *exec.Cmd
	words io.WriteCloser
}

func startGuard(mend *exec.Cmd, limit time.Duration) (*guard, error) {
	if mend.Err != nil {
		return nil, mend.Err
	}
	if limit == 0 {
		limit = GuardLimit
	}
	seconds := fmt.Sprintf("%.3f", limit.Seconds())
	cmd := exec.Command("sh", append([]string{"-c", guardScript, seconds, mend.Path}, mend.Args[1:]...)...)
	cmd.Env, cmd.Dir = mend.Env, mend.Dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	words, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &guard{cmd: cmd, words: words}, nil
}

// dismiss tells the guard that the fault is mended. One that has mended it
// already, its limit being over, has ended.
func (g *guard) dismiss() error {
	_, err := io.WriteString(g.words, "mended\n")
	if errors.Is(err, syscall.EPIPE) {
		err = nil
	}
	return errors.Join(err, g.words.Close(), g.cmd.Wait())
}
