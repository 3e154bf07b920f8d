package bench

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// box is where a benchmark runs: a folder, a network, and what runs in it.
type box struct {
	o     Options
	dir   string
	files int // that a process may open
	tls   pki
	rate  float64 // requests a second to send; 0: as many as can be
	stop  []func()
}

func newBox(o Options) (*box, error) {
	if err := settle(); err != nil {
		return nil, err
	}
	for _, program := range []string{"haproxy", "nginx", "wrk", "h2load", "ip", "taskset"} {
		if _, err := exec.LookPath(program); err != nil {
			return nil, fmt.Errorf("%s is missing: as root, apt-get install haproxy nginx-light wrk nghttp2-client iproute2 util-linux", program)
		}
	}
	dir, err := os.MkdirTemp("", "pharos-bench-")
	if err != nil {
		return nil, err
	}
	b := &box{o: o, dir: dir}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return nil, err
	}
	b.files = int(min(limit.Cur, 1<<20))
	if err := b.makeTLS(); err != nil {
		b.close()
		return nil, err
	}
	// The VIP, which Pharos would add itself: the others need it as well.
	if out, err := exec.Command("ip", "addr", "add", vip+"/32", "dev", "lo").CombinedOutput(); err != nil {
		b.close()
		return nil, fmt.Errorf("add the VIP: %w: %s", err, out)
	}
	return b, nil
}

func (b *box) close() {
	for i := len(b.stop) - 1; i >= 0; i-- {
		b.stop[i]()
	}
	_ = os.RemoveAll(b.dir)
}

// file writes a file of the box's and returns its path.
func (b *box) file(name, text string) (string, error) {
	path := filepath.Join(b.dir, name)
	return path, os.WriteFile(path, []byte(text), 0o600)
}

// process is a program that runs until it is ended.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{}
}

// start runs a program on the given cores, its output in a file.
func (b *box) start(name, cores, program string, args ...string) (*process, error) {
	log, err := os.Create(filepath.Join(b.dir, name+".log"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command("taskset", append([]string{"-c", cores, program}, args...)...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, b.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &process{cmd: cmd, log: log.Name(), done: make(chan struct{})}
	go func() {
		_ = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// end ends the program and all that it started, and waits for it.
func (p *process) end() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.done
}

// listening waits until something accepts on an address.
func (p *process) listening(ctx context.Context, address string) error {
	deadline := time.Now().Add(20 * time.Second)
	for {
		c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", address)
		if err == nil {
			return c.Close()
		}
		select {
		case <-p.done:
			return fmt.Errorf("it ended: %s", p.said())
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("nothing listens on %s: %w: %s", address, err, p.said())
		}
	}
}

// said is the end of what the program printed.
func (p *process) said() string {
	out, _ := os.ReadFile(p.log)
	out = bytes.TrimSpace(out)
	return string(out[max(0, len(out)-600):])
}

// cpu is the CPU time that the program's process group has taken so far.
func (p *process) cpu() (time.Duration, error) {
	var sum time.Duration
	for _, pid := range p.pids() {
		t, err := cpuOf(pid)
		if err != nil {
			continue // it ended meanwhile
		}
		sum += t
	}
	if sum == 0 {
		return 0, fmt.Errorf("no process of %s is there: %s", p.cmd.Path, p.said())
	}
	return sum, nil
}

// pids are the processes of the group.
func (p *process) pids() []int {
	entries, _ := os.ReadDir("/proc")
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if group, err := syscall.Getpgid(pid); err == nil && group == p.cmd.Process.Pid {
			pids = append(pids, pid)
		}
	}
	return pids
}

// cpuOf reads a process's CPU time, to the nanosecond: all of its threads, those
// that ended included.
func cpuOf(pid int) (time.Duration, error) {
	var ts unix.Timespec
	// The clock of another process (clock_getcpuclockid(3)): ~pid<<3 | CPUCLOCK_SCHED.
	if err := unix.ClockGettime(int32(^pid<<3|2), &ts); err != nil {
		return 0, err
	}
	return time.Duration(ts.Nano()), nil
}
