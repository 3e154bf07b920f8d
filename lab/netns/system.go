package netns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// MissingError says which programs a lab needs and did not find.
type MissingError struct {
	Programs []string
	Packages []string // of Debian, that have them
}

// Error names the programs and what to install.
func (e *MissingError) Error() string {
	return fmt.Sprintf("the lab needs %s: apt-get install %s", strings.Join(e.Programs, ", "), strings.Join(e.Packages, " "))
}

// requirement is a program and the Debian package that has it.
type requirement struct{ program, debian string }

// checkTools returns a *MissingError when a required program is not found.
func checkTools(required []requirement, look func(string) (string, error)) error {
	var missing MissingError
	seen := map[string]bool{}
	for _, r := range required {
		if _, err := look(r.program); err == nil {
			continue
		}
		missing.Programs = append(missing.Programs, r.program)
		if !seen[r.debian] {
			seen[r.debian] = true
			missing.Packages = append(missing.Packages, r.debian)
		}
	}
	if len(missing.Programs) > 0 {
		return &missing
	}
	return nil
}

// requirements are the programs that any lab needs.
func requirements() []requirement {
	return []requirement{
		{"ip", "iproute2"},
		{"nft", "nftables"},
		{"nsenter", "util-linux"},
		{"unshare", "util-linux"},
		{"setsid", "util-linux"},
		{"mount", "mount"},
	}
}

// lookTool finds a program in PATH, or where an unprivileged user's PATH often
// does not look.
func lookTool(name string) (string, error) {
	if filepath.IsAbs(name) {
		info, err := os.Stat(name)
		if err == nil && (info.IsDir() || info.Mode()&0o111 == 0) {
			err = errors.New("not a program")
		}
		return name, err
	}
	file, err := exec.LookPath(name)
	if err == nil {
		return file, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/bin", "/bin"} {
		if file, e := exec.LookPath(filepath.Join(dir, name)); e == nil {
			return file, nil
		}
	}
	return "", err
}

// permanent is an error that poll does not try again after.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

const (
	pollInterval = 5 * time.Millisecond
	pollTimeout  = 30 * time.Second
)

// poll calls check until it succeeds, for things of the kernel and of FRR that
// tell nobody when they happen. It returns the last failure when ctx ends or
// after pollTimeout.
func poll(ctx context.Context, check func() error) error {
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		err := check()
		var final permanent
		if err == nil || errors.As(err, &final) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", err, context.Cause(ctx))
		case <-ticker.C:
		}
	}
}
