// Package userns lets a user without root run labs: in a user namespace of
// their own, where they are root over networks and mounts that nobody else
// sees. One process, the holder, keeps the namespaces of all of a user's labs;
// each command runs itself again inside.
package userns

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pharos-lb/pharos/lab/netns/procfs"
)

// ErrNone says that this user has no labs' namespace, and so no labs.
var ErrNone = errors.New("this user has no lab up: start it with `pharos lab up`")

// RefusedError says that the machine gives this user no user namespace, or none
// that is of use.
type RefusedError struct{ Err error }

// Error says in one line what is missing and what to do.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("a lab needs root, or a kernel that gives users their own namespaces, which this one refused (%v): "+
		"run the command as root, or let root set user.max_user_namespaces above 0 (and kernel.unprivileged_userns_clone=1 or "+
		"kernel.apparmor_restrict_unprivileged_userns=0 where these exist)", e.Err)
}

// Unwrap is the kernel's own word.
func (e *RefusedError) Unwrap() error { return e.Err }

// Needed reports whether this process must enter a user namespace to run labs.
func Needed() bool { return os.Geteuid() != 0 }

// Config says what to run inside.
type Config struct {
	Executable string   // this program
	Args       []string // its arguments, without the program
	HoldArgs   []string // arguments with which it calls Hold
	Create     bool     // make the namespace if there is none; otherwise ErrNone
}

// Enter runs the program again inside the user's namespace, with this
// process's input, output and folder, and returns its exit code. When no lab
// is left after that, the namespace goes too.
func Enter(ctx context.Context, c Config) (exitCode int, err error) {
	dir, err := runtimeDir()
	if err != nil {
		return 0, err
	}
	r, err := open(ctx, dir, c)
	if err != nil {
		return 0, err
	}
	defer r.close()
	code, err := r.run(ctx, c)
	if e := r.endIfUnused(); e != nil && err == nil {
		err = e
	}
	return code, err
}

// runtimeDir is where this user's holder is written down: a folder of theirs
// alone.
func runtimeDir() (string, error) {
	dir := filepath.Join(os.TempDir(), "pharos-lab-"+strconv.Itoa(os.Getuid()))
	if base := os.Getenv("XDG_RUNTIME_DIR"); base != "" {
		dir = filepath.Join(base, "pharos-lab")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make the folder of this user's labs: %w", err)
	}
	var st syscall.Stat_t
	if err := syscall.Lstat(dir, &st); err != nil {
		return "", fmt.Errorf("look at %s: %w", dir, err)
	}
	if st.Mode&syscall.S_IFMT != syscall.S_IFDIR || int(st.Uid) != os.Getuid() || st.Mode&0o077 != 0 {
		return "", fmt.Errorf("%s is not a folder of this user alone: remove it, or set XDG_RUNTIME_DIR", dir)
	}
	return dir, nil
}

// holder is the record of the process that keeps the namespaces.
type holder struct {
	Pid     int    `json:"pid"`
	Started uint64 `json:"started"` // see procfs.StartTime
}

func (h holder) alive() bool {
	started, err := procfs.StartTime(h.Pid)
	return err == nil && started == h.Started
}

// endTimeout bounds the wait for processes to end that were killed.
const endTimeout = 5 * time.Second

// end kills the holder, and with it, as the first process of its namespace, all
// others there. It returns when they are gone.
func (h holder) end() error {
	fd, err := unix.PidfdOpen(h.Pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if !h.alive() {
		return nil // the number was another process's by then
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	deadline := time.Now().Add(endTimeout)
	for {
		// Readable means ended (pidfd_open(2)).
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(time.Until(deadline).Milliseconds()))
		if n > 0 {
			return nil
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("process %d does not end", h.Pid)
		}
	}
}

// room is the user's folder, with a lock on it that is shared by all commands
// that run inside.
type room struct {
	dir    string
	lock   *os.File
	holder holder
}

func open(ctx context.Context, dir string, c Config) (*room, error) {
	for {
		lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
		if errors.Is(err, os.ErrNotExist) {
			// The last lab's end has just removed the folder.
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("lock this user's labs: %w", err)
		}
		r := &room{dir: dir, lock: lock}
		if err := r.enter(ctx, c); err != nil {
			if e := r.endIfUnused(); e != nil {
				err = errors.Join(err, e)
			}
			r.close()
			return nil, err
		}
		// Held on the file that others find, not on one just removed?
		held, err1 := lock.Stat()
		present, err2 := os.Stat(lock.Name())
		if err1 == nil && err2 == nil && os.SameFile(held, present) && r.holder.alive() {
			return r, nil
		}
		r.close()
	}
}

// enter finds the holder, or starts it, and leaves with the lock shared.
func (r *room) enter(ctx context.Context, c Config) error {
	if err := r.flock(syscall.LOCK_SH); err != nil {
		return err
	}
	if r.read() && r.holder.alive() {
		return nil
	}
	if !c.Create {
		return ErrNone
	}
	if err := r.flock(syscall.LOCK_EX); err != nil {
		return err
	}
	if !r.read() || !r.holder.alive() {
		if err := r.start(ctx, c); err != nil {
			return err
		}
	}
	return r.flock(syscall.LOCK_SH)
}

func (r *room) flock(how int) error {
	for {
		err := syscall.Flock(int(r.lock.Fd()), how)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("lock this user's labs: %w", err)
		}
		return nil
	}
}

func (r *room) close() { r.lock.Close() }

func (r *room) file() string { return filepath.Join(r.dir, "holder.json") }

func (r *room) read() bool {
	data, err := os.ReadFile(r.file())
	return err == nil && json.Unmarshal(data, &r.holder) == nil
}

// start starts the holder in new namespaces, and waits until it has set them up.
func (r *room) start(ctx context.Context, c Config) error {
	ready, report, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	cmd := exec.Command(c.Executable, c.HoldArgs...)
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{report} // reportFd
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid:      true,
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	err = cmd.Start()
	report.Close()
	if err != nil {
		return &RefusedError{Err: err}
	}
	stop := context.AfterFunc(ctx, func() { cmd.Process.Kill() })
	words, err := io.ReadAll(ready)
	stop()
	if text := strings.TrimSpace(string(words)); err == nil && text != "ready" {
		err = &RefusedError{Err: errors.New(text)}
		if text == "" {
			err = fmt.Errorf("the holder of this user's labs ended without a word (%w)", errors.Join(ctx.Err(), errors.New("killed")))
		}
	}
	if err == nil {
		r.holder.Pid = cmd.Process.Pid
		if r.holder.Started, err = procfs.StartTime(r.holder.Pid); err == nil {
			var data []byte
			if data, err = json.Marshal(r.holder); err == nil {
				err = os.WriteFile(r.file(), data, 0o600)
			}
		}
	}
	if err != nil {
		cmd.Process.Kill()
		cmd.Wait()
		return err
	}
	return cmd.Process.Release() // it outlives this process
}

// run runs the program inside and waits for it.
func (r *room) run(ctx context.Context, c Config) (int, error) {
	folder, err := os.Getwd()
	if err != nil {
		return 0, err
	}
	args := []string{
		"--target", strconv.Itoa(r.holder.Pid), "--user", "--mount", "--pid", "--net", "--preserve-credentials", "--",
		"env", "--chdir=" + folder, c.Executable,
	}
	cmd := exec.Command("nsenter", append(args, c.Args...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	// A terminal's interrupt reaches the child by itself; this process must
	// only outlive it. What a supervisor sends is passed on.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("enter this user's labs: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	stop := ctx.Done()
	for {
		select {
		case s := <-signals:
			if s != syscall.SIGINT {
				passOn(cmd.Process.Pid, s.(syscall.Signal))
			}
		case <-stop:
			stop = nil
			passOn(cmd.Process.Pid, syscall.SIGTERM)
		case err := <-ended:
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
					return 128 + int(status.Signal()), nil
				}
				return exit.ExitCode(), nil
			}
			return 0, err
		}
	}
}

// passOn sends a signal to the program inside: nsenter's only child, since
// entering a process namespace takes a fork.
func passOn(nsenter int, s syscall.Signal) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", nsenter, nsenter))
	if err != nil {
		return
	}
	for _, text := range strings.Fields(string(data)) {
		if pid, err := strconv.Atoi(text); err == nil {
			syscall.Kill(pid, s)
		}
	}
}

// endIfUnused ends the holder when no lab is left and no other command runs
// inside, and removes its traces.
func (r *room) endIfUnused() error {
	if err := syscall.Flock(int(r.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil // another command is inside
	}
	if r.read() && r.holder.alive() {
		labs, err := os.ReadDir(fmt.Sprintf("/proc/%d/root/run/pharos-lab", r.holder.Pid))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("look for this user's labs: %w", err)
		}
		if len(labs) > 0 {
			return nil
		}
		if err := r.holder.end(); err != nil {
			return fmt.Errorf("end the holder of this user's labs: %w", err)
		}
	}
	for _, name := range []string{r.file(), r.lock.Name(), r.dir} {
		if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}
