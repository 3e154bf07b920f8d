package userns

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestMain lets this binary be the program that enters, the holder, and the
// program inside.
func TestMain(m *testing.M) {
	if len(os.Args) < 2 {
		os.Exit(m.Run())
	}
	switch os.Args[1] {
	case "enter", "create":
		self, err := os.Executable()
		if err != nil {
			panic(err)
		}
		code, err := Enter(context.Background(), Config{
			Executable: self, Args: os.Args[2:], HoldArgs: []string{"hold"}, Create: os.Args[1] == "create",
		})
		if err != nil {
			fmt.Println(err)
			os.Exit(99)
		}
		os.Exit(code)
	case "hold":
		if err := Hold(context.Background()); err != nil {
			os.Exit(1)
		}
	case "inside":
		os.Exit(inside(os.Args[2]))
	default:
		os.Exit(m.Run())
	}
}

func inside(what string) int {
	switch what {
	case "begin": // a lab
		if err := os.MkdirAll("/run/pharos-lab/x", 0o755); err != nil {
			fmt.Println(err)
			return 1
		}
	case "end":
		if err := os.RemoveAll("/run/pharos-lab"); err != nil {
			fmt.Println(err)
			return 1
		}
	case "look":
		folder, err := os.Getwd()
		_, err2 := os.Stat("/run/pharos-lab/x")
		out, err3 := exec.Command("ip", "netns", "add", "t").CombinedOutput()
		fmt.Printf("uid %d, folder %s %v, lab %v, ip netns %v%s\n", os.Geteuid(), folder, err, err2, err3, out)
		exec.Command("ip", "netns", "delete", "t").Run()
	case "wait":
		fmt.Println("waits")
		io.Copy(io.Discard, os.Stdin)
	case "die":
		syscall.Kill(os.Getpid(), syscall.SIGTERM)
	case "fail":
		return 42
	}
	return 0
}

// user runs this binary as an unprivileged user with a folder of its own.
type user struct {
	binary, runtime, home string
	credential            *syscall.Credential
}

func newUser(t *testing.T) *user {
	t.Helper()
	// Not t.TempDir: the folders above that are root's alone.
	base, err := os.MkdirTemp("", "userns-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	u := &user{binary: filepath.Join(base, "program"), runtime: filepath.Join(base, "runtime"), home: filepath.Join(base, "home")}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(base, 0o755), os.WriteFile(u.binary, data, 0o755), os.Mkdir(u.runtime, 0o700), os.Mkdir(u.home, 0o755)); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		const nobody = 65534
		u.credential = &syscall.Credential{Uid: nobody, Gid: nobody}
		if err := errors.Join(os.Chown(u.runtime, nobody, nobody), os.Chown(u.home, nobody, nobody)); err != nil {
			t.Fatal(err)
		}
	}
	return u
}

func (u *user) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), u.binary, args...)
	cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+u.runtime)
	cmd.Dir = u.home
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: u.credential}
	return cmd
}

// run returns the output and the exit code.
func (u *user) run(t *testing.T, args ...string) (string, int) {
	t.Helper()
	out, err := u.command(t, args...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	code := 0
	if exit != nil {
		code = exit.ExitCode()
	}
	text := strings.TrimSpace(string(out))
	if code == 99 && strings.Contains(text, "which this one refused") {
		if os.Getenv("PHAROS_REQUIRE_ROOT") == "1" {
			t.Fatalf("PHAROS_REQUIRE_ROOT=1, and there are no user namespaces: %s", text)
		}
		t.Skip("needs user namespaces: " + text)
	}
	return text, code
}

// traces lists what is left in the user's folder.
func (u *user) traces(t *testing.T) []string {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(u.runtime, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return left
}

func TestANamespaceLivesAsLongAsItsLabs(t *testing.T) {
	u := newUser(t)
	if out, code := u.run(t, "enter", "inside", "look"); code != 99 || !strings.Contains(out, ErrNone.Error()) {
		t.Fatalf("enter without a namespace: %q, exit code %d", out, code)
	}
	if left := u.traces(t); len(left) > 0 {
		t.Errorf("left behind by a refusal: %v", left)
	}
	if out, code := u.run(t, "create", "inside", "begin"); code != 0 {
		t.Fatalf("create: %q, exit code %d", out, code)
	}
	want := fmt.Sprintf("uid 0, folder %s <nil>, lab <nil>, ip netns <nil>", u.home)
	if out, code := u.run(t, "enter", "inside", "look"); code != 0 || out != want {
		t.Errorf("inside: %q, exit code %d, want %q", out, code, want)
	}
	if _, err := os.Stat("/run/pharos-lab/x"); err == nil {
		t.Error("what is made inside shows outside")
	}
	if _, code := u.run(t, "enter", "inside", "fail"); code != 42 {
		t.Errorf("exit code %d, want the program's own 42", code)
	}
	if _, code := u.run(t, "enter", "inside", "die"); code != 128+int(syscall.SIGTERM) {
		t.Errorf("exit code %d, want 143 for a program that SIGTERM ended", code)
	}
	r := room{dir: filepath.Join(u.runtime, "pharos-lab")}
	if !r.read() || !r.holder.alive() {
		t.Fatalf("no holder while a lab is up: %+v", r.holder)
	}
	if _, code := u.run(t, "enter", "inside", "end"); code != 0 {
		t.Errorf("end: exit code %d", code)
	}
	if r.holder.alive() {
		t.Error("the holder outlives the last lab")
	}
	if left := u.traces(t); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestTheLastLabsEndSparesACommandThatIsStillInside(t *testing.T) {
	u := newUser(t)
	u.run(t, "create", "inside", "begin")
	waiting := u.command(t, "enter", "inside", "wait")
	in, err1 := waiting.StdinPipe()
	out, err2 := waiting.StdoutPipe()
	if err := errors.Join(err1, err2, waiting.Start()); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, len("waits\n"))); err != nil {
		t.Fatal(err)
	}
	u.run(t, "enter", "inside", "end")
	r := room{dir: filepath.Join(u.runtime, "pharos-lab")}
	if !r.read() || !r.holder.alive() {
		t.Error("the holder was ended under a command")
	}
	in.Close()
	if err := waiting.Wait(); err != nil {
		t.Errorf("the waiting command: %v", err)
	}
	if r.holder.alive() || len(u.traces(t)) > 0 {
		t.Errorf("left behind by the last command: %v", u.traces(t))
	}
}

func TestAHolderThatDiedIsReplaced(t *testing.T) {
	u := newUser(t)
	u.run(t, "create", "inside", "begin")
	r := room{dir: filepath.Join(u.runtime, "pharos-lab")}
	if !r.read() {
		t.Fatal("no holder")
	}
	if err := syscall.Kill(r.holder.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for r.holder.alive() && t.Context().Err() == nil {
	}
	if out, code := u.run(t, "create", "inside", "look"); code != 0 || !strings.Contains(out, "lab stat /run/pharos-lab/x: no such file") {
		t.Errorf("after the holder died: %q, exit code %d", out, code)
	}
	if left := u.traces(t); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestAFolderOfSomebodyElseIsRefused(t *testing.T) {
	u := newUser(t)
	if err := os.Mkdir(filepath.Join(u.runtime, "pharos-lab"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(u.runtime, "pharos-lab"), 0o777); err != nil {
		t.Fatal(err)
	}
	if out, code := u.run(t, "create", "inside", "look"); code != 99 || !strings.Contains(out, "is not a folder of this user alone") {
		t.Errorf("%q, exit code %d", out, code)
	}
}

func TestARefusalSaysInOneLineWhatToDo(t *testing.T) {
	err := &RefusedError{Err: syscall.EPERM}
	text := err.Error()
	for _, want := range []string{"as root", "user.max_user_namespaces", "operation not permitted"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q does not say %q", text, want)
		}
	}
	if strings.Contains(text, "\n") || !errors.Is(err, syscall.EPERM) {
		t.Errorf("%q", text)
	}
}

func TestHoldRefusesToBeStartedByHand(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), newUser(t).binary, "hold")
	report, err := os.CreateTemp(t.TempDir(), strconv.Itoa(reportFd))
	if err != nil {
		t.Fatal(err)
	}
	defer report.Close()
	cmd.ExtraFiles = []*os.File{report}
	if err := cmd.Run(); err == nil {
		t.Error("it holds without a namespace of its own")
	}
	words, err := os.ReadFile(report.Name())
	if err != nil || !strings.Contains(string(words), "not the first process") {
		t.Errorf("it reports %q, %v", words, err)
	}
}
