package netns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/pharos-lb/pharos/lab/netns/procfs"
	"github.com/pharos-lb/pharos/lab/topo"
)

// mainProcess is the name of the process that a node's cmd describes.
const mainProcess = "main"

// spawnScript starts its command in a session of its own, with its output
// appended to the file $0, and prints the process's id. The shell ends at
// once: the process belongs to no one who could leave it a zombie.
const spawnScript = `setsid "$@" </dev/null >>"$0" 2>&1 & echo $!`

// Process is one process that the lab started.
type Process struct {
	Node  string `json:"node"`
	Name  string `json:"name"` // main, or an FRR daemon's
	Pid   int    `json:"pid"`
	Alive bool   `json:"alive"`
}

// Pid is the process id of a node's main process: pharos serve of a node,
// the backend of a backend. ErrStopped: it is not running.
func (l *Lab) Pid(node string) (int, error) {
	if _, ok := l.topology.Node(node); !ok {
		return 0, fmt.Errorf("lab %s: %s: %w", l.state.Name, node, ErrNoNode)
	}
	p, err := l.readProcess(node, mainProcess)
	if err != nil {
		return 0, fmt.Errorf("lab %s: main process of %s: %w", l.state.Name, node, err)
	}
	return p.Pid, nil
}

// Start starts a node's main process again, detached from the caller, with
// its output appended to LogFile. ErrRunning: it runs.
func (l *Lab) Start(ctx context.Context, node string) error {
	n, ok := l.topology.Node(node)
	if !ok {
		return fmt.Errorf("lab %s: %s: %w", l.state.Name, node, ErrNoNode)
	}
	if _, err := l.readProcess(node, mainProcess); err == nil {
		return fmt.Errorf("lab %s: start the main process of %s: %w", l.state.Name, node, ErrRunning)
	}
	programs, err := programsOf(n)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(programs, func(p program) bool { return p.name == mainProcess })
	if i < 0 {
		return fmt.Errorf("lab %s: %s has no main process: its topology gives it no cmd", l.state.Name, node)
	}
	return l.spawn(ctx, node, programs[i])
}

// Processes are all processes that the lab started, by node and name.
func (l *Lab) Processes() ([]Process, error) {
	entries, err := os.ReadDir(filepath.Join(l.Dir(), "pids"))
	if err != nil {
		return nil, fmt.Errorf("list the processes of lab %s: %w", l.state.Name, err)
	}
	var processes []Process
	for _, e := range entries {
		node, name, ok := strings.Cut(e.Name(), ".")
		if !ok {
			continue
		}
		p, err := l.readProcess(node, name)
		if err != nil && !errors.Is(err, ErrStopped) {
			return nil, err
		}
		p.Alive = err == nil
		processes = append(processes, p)
	}
	return processes, nil
}

func (l *Lab) spawn(ctx context.Context, node string, p program) error {
	fail := func(err error) error {
		return fmt.Errorf("lab %s: start %s of %s: %w", l.state.Name, p.name, node, err)
	}
	cmd := l.Command(ctx, node, p.argv...)
	if cmd.Err != nil {
		return fail(cmd.Err)
	}
	shell, err := lookTool("sh")
	if err != nil {
		return fail(err)
	}
	cmd.Args = append([]string{"sh", "-c", spawnScript, l.LogFile(node, p.name)}, cmd.Args...)
	cmd.Path = shell
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return fail(fmt.Errorf("%w: %s", err, bytes.TrimSpace(stderr.Bytes())))
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		return fail(fmt.Errorf("the shell gave no process id: %w", err))
	}
	started, err := procfs.StartTime(pid)
	if err != nil {
		return fail(fmt.Errorf("it ended at once; its last words: %s", l.LastWords(node, p.name)))
	}
	file := filepath.Join(l.Dir(), "pids", node+"."+p.name)
	if err := os.WriteFile(file, fmt.Appendf(nil, "%d %d\n", pid, started), 0o644); err != nil {
		return fail(err)
	}
	if err := l.awaitInside(ctx, node, pid); err != nil {
		return fail(fmt.Errorf("%w; its last words: %s", err, l.LastWords(node, p.name)))
	}
	return nil
}

// awaitInside waits until a new process has entered its node's network
// namespace. Before that, Down would not find it.
func (l *Lab) awaitInside(ctx context.Context, node string, pid int) error {
	want, err := identify(l.NetnsPath(node))
	if err != nil {
		return err
	}
	return poll(ctx, func() error {
		got, err := identify(fmt.Sprintf("/proc/%d/ns/net", pid))
		if err != nil {
			return permanent{errors.New("it ended at once")}
		}
		if got != want {
			return errors.New("it has not entered its network namespace")
		}
		return nil
	})
}

// readProcess finds a process that the lab started. ErrStopped: it ended.
func (l *Lab) readProcess(node, name string) (Process, error) {
	p := Process{Node: node, Name: name}
	data, err := os.ReadFile(filepath.Join(l.Dir(), "pids", node+"."+name))
	if errors.Is(err, fs.ErrNotExist) {
		return p, ErrStopped
	}
	if err != nil {
		return p, err
	}
	var started uint64
	if _, err := fmt.Sscanf(string(data), "%d %d", &p.Pid, &started); err != nil {
		return p, fmt.Errorf("process id of %s: %w", name, err)
	}
	// The start time tells the process from a later one with its number.
	if now, err := procfs.StartTime(p.Pid); err != nil || now != started {
		return p, ErrStopped
	}
	return p, nil
}

// LastWords is the last line that a process logged, for an error.
func (l *Lab) LastWords(node, name string) string {
	data, err := os.ReadFile(l.LogFile(node, name))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	if last := lines[len(lines)-1]; last != "" {
		return last
	}
	return "(none)"
}

// program is what a node runs.
type program struct {
	name string
	argv []string
}

// programsOf maps a node's image to what runs in it.
func programsOf(n topo.Node) ([]program, error) {
	if n.Kind == topo.KindBridge {
		return nil, nil
	}
	switch imageName(n.Image) {
	case "pharos":
		// A client's command only keeps a container alive; a namespace needs none.
		if len(n.Cmd) == 0 || n.Role == topo.RoleClient {
			return nil, nil
		}
		return []program{{name: mainProcess, argv: append([]string{"pharos"}, n.Cmd...)}}, nil
	case "frr":
		return frrPrograms(n)
	default:
		return nil, fmt.Errorf("node %s: image %q: only images named pharos and frr are known without a container engine", n.Name, n.Image)
	}
}

// imageName is an image reference's last part, without its tag or digest.
func imageName(image string) string {
	name := image[strings.LastIndexByte(image, '/')+1:]
	name, _, _ = strings.Cut(name, "@")
	name, _, _ = strings.Cut(name, ":")
	return name
}
