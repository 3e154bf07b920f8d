package handover

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience is how long a test waits for an event before it fails.
const patience = 20 * time.Second

// envRole makes this test binary one of the processes of a test.
const envRole = "PHAROS_HANDOVER_TEST_ROLE"

func TestMain(m *testing.M) {
	if role := os.Getenv(envRole); role != "" {
		os.Exit(play(role))
	}
	os.Exit(m.Run())
}

// play is a process's part; it returns the exit code.
func play(role string) int {
	p, err := This()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 99
	}
	say := func(m Message) { _ = p.Predecessor().Send(m) }
	switch role {
	case "ends":
		return 3
	case "crashes":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "hangs":
		select {}
	case "is ready":
		say(Message{Kind: Ready, Version: "v2"})
		_, _, _ = p.Predecessor().Receive(context.Background()) // until it is ended
	case "refuses":
		say(Message{Kind: Failed, Error: "it is Wednesday"})
	case "is of another opinion":
		say(Message{Kind: Done})
		select {}
	case "talks nonsense":
		_, _ = io.WriteString(p.Predecessor().conn, strings.Repeat("nonsense", 10))
		select {}
	case "hangs up":
		_ = p.Predecessor().Close()
		select {}
	case "first", "second", "third":
		return generation(p, role)
	}
	return 0
}

// generation is one of three processes that run a node one after the other. The
// third serves until it is told to stop, and ends with code 7.
func generation(p *Process, role string) int {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	if err := p.Serving(); err != nil {
		return 98
	}
	if p.Predecessor() != nil {
		_ = p.Predecessor().Send(Message{Kind: Ready})
	}
	if role == "third" {
		fmt.Println("serves")
		go func() {
			p.StayWithParent()
			fmt.Println("alone")
			os.Exit(5)
		}()
		<-signals
		fmt.Println("told to stop")
		return 7
	}
	_ = os.Setenv(envRole, map[string]string{"first": "second", "second": "third"}[role])
	child, err := p.Start("")
	if err == nil {
		_, err = child.Await(context.Background(), Ready, patience)
	}
	if err == nil {
		err = p.HandedOver(child)
	}
	if err != nil {
		fmt.Println(role, err)
		return 97
	}
	go func() {
		for s := range signals {
			p.Forward(s, true)
		}
	}()
	return p.Wait()
}

// enact starts this test binary in a role, as a process of its own.
func enact(t *testing.T, role string, env ...string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	return enactIn(t, 0, role, env...)
}

// enactIn does so in new namespaces.
func enactIn(t *testing.T, namespaces uintptr, role string, env ...string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	cmd := exec.Command(self(t))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces}
	cmd.Env = append(os.Environ(), append(env, envRole+"="+role)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); errors.Is(err, syscall.EPERM) && namespaces != 0 && os.Getenv("PHAROS_REQUIRE_ROOT") != "1" {
		t.Skip("needs root for a process namespace")
	} else if err != nil {
		t.Fatal(err)
	}
	stop := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	t.Cleanup(func() { stop.Stop(); _ = cmd.Process.Kill() })
	return cmd, bufio.NewReader(out)
}

func self(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func nextLine(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	s, err := r.ReadString('\n')
	if err != nil {
		t.Fatalf("read %q, %v", s, err)
	}
	return strings.TrimSpace(s)
}

func TestTheFirstProcessStandsForThoseThatFollow(t *testing.T) {
	first, out := enact(t, "first")
	nextLine(t, out)
	if err := first.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(out) // until all have ended
	if err != nil || string(rest) != "told to stop\n" {
		t.Errorf("the rest: %q, %v", rest, err)
	}
	if err := first.Wait(); first.ProcessState.ExitCode() != 7 {
		t.Errorf("the first ended with %v, want the third's exit code, 7", err)
	}
}

func TestThoseThatFollowEndWhenTheFirstIsKilled(t *testing.T) {
	first, out := enact(t, "first")
	nextLine(t, out)
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(out); err != nil || string(rest) != "alone\n" {
		t.Errorf("the rest: %q, %v", rest, err)
	}
	_ = first.Wait()
}

// A container ends with its process 1, also where its runtime takes sd_notify's
// messages.
func TestAContainersFirstProcessStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	first, out := enactIn(t, syscall.CLONE_NEWPID, "first", "NOTIFY_SOCKET="+path)
	nextLine(t, out)
	if err := first.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(out); err != nil || string(rest) != "told to stop\n" {
		t.Errorf("the rest: %q, %v", rest, err)
	}
	if err := first.Wait(); first.ProcessState.ExitCode() != 7 {
		t.Errorf("the first ended with %v, want the third's exit code, 7", err)
	}
}

func TestAServiceManagerLearnsTheMainProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	_ = manager.SetReadDeadline(time.Now().Add(patience))
	hear := func() string {
		b := make([]byte, 100)
		n, err := manager.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
	first, out := enact(t, "first", "NOTIFY_SOCKET="+path)
	if got := hear(); got != "READY=1" {
		t.Errorf("told %q first", got)
	}
	var second, third int
	for _, pid := range []*int{&second, &third} {
		if _, err := fmt.Sscanf(hear(), "MAINPID=%d", pid); err != nil {
			t.Fatal(err)
		}
	}
	if second == third || second == first.Process.Pid {
		t.Errorf("main processes %d, %d, %d", first.Process.Pid, second, third)
	}
	// Nobody stays: the first has ended, well.
	if err := first.Wait(); err != nil {
		t.Error(err)
	}
	if err := syscall.Kill(third, syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	_, _ = io.ReadAll(out)
}

func TestASuccessorThatFails(t *testing.T) {
	for _, tt := range []struct {
		role string
		code Code
		want string
	}{
		{"ends", Ended, "exit status 3"},
		{"crashes", Ended, "signal: killed"},
		{"hangs", TimedOut, "was not ready within"},
		{"refuses", Refused, "it is Wednesday"},
		{"is of another opinion", Refused, `says "done"`},
		{"talks nonsense", Refused, "not a message"},
		{"hangs up", Ended, "hung up"},
	} {
		t.Run(tt.role, func(t *testing.T) {
			t.Setenv(envRole, tt.role)
			child, err := start(self(t), nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			limit := patience
			if tt.role == "hangs" {
				limit = 50 * time.Millisecond
			}
			_, err = child.Await(t.Context(), Ready, limit)
			var failed *Failure
			if !errors.As(err, &failed) || failed.Code != tt.code || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, code %s; want %s, and %q", err, CodeOf(err), tt.code, tt.want)
			}
			child.End()
			select {
			case <-child.ended:
			case <-time.After(patience):
				t.Error("it was ended, and runs")
			}
		})
	}
	t.Run("is missing", func(t *testing.T) {
		if _, err := start(filepath.Join(t.TempDir(), "missing"), nil, nil); CodeOf(err) != CannotStart || !errors.Is(err, os.ErrNotExist) {
			t.Errorf("got %v, code %s", err, CodeOf(err))
		}
	})
	t.Run("is not waited for when the node is told to stop", func(t *testing.T) {
		t.Setenv(envRole, "hangs")
		child, err := start(self(t), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer child.End()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := child.Await(ctx, Ready, patience); CodeOf(err) != Busy {
			t.Errorf("got %v, code %s", err, CodeOf(err))
		}
	})
	t.Run("but it may do well", func(t *testing.T) {
		t.Setenv(envRole, "is ready")
		child, err := start(self(t), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer child.End()
		if m, err := child.Await(t.Context(), Ready, patience); err != nil || m.Version != "v2" {
			t.Errorf("got %+v, %v", m, err)
		}
	})
}

func TestHowAProcessEndedIsSeenBeforeItIsWaitedFor(t *testing.T) {
	for _, command := range []string{"exit 0", "exit 7", "exit 255", "kill -KILL $$", "kill -TERM $$", "kill -ABRT $$"} {
		t.Run(command, func(t *testing.T) {
			cmd := exec.Command("/bin/sh", "-c", "ulimit -c 0; "+command)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			status, known := lookAtEnd(cmd.Process.Pid)
			_ = cmd.Wait()
			if want := cmd.ProcessState.Sys().(syscall.WaitStatus); !known || status != want {
				t.Errorf("seen as %#x, %v, and it was %#x", status, known, want)
			}
		})
	}
	if _, known := lookAtEnd(os.Getpid()); known {
		t.Error("this process is no child of itself")
	}
}
