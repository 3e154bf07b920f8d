package procfs

import (
	"errors"
	"os"
	"os/exec"
	"testing"
)

const running = "42 (sh) S 1 42 42 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 1 0 777 2000 300 18446744073709551615"

func TestParseStartTime(t *testing.T) {
	tests := []struct {
		name, stat string
		want       uint64
		err        bool
	}{
		{"a running process", running, 777, false},
		{"a command with blanks and parentheses", "42 (a) Z (b) c) R 1 42 42 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 1 0 778 2000", 778, false},
		{"a zombie", "42 (sh) Z 1 42 42 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 1 0 777 0", 0, true},
		{"nothing", "", 0, true},
		{"cut short", "42 (sh) S 1 42", 0, true},
		{"not a number", "42 (sh) S 1 42 42 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 1 0 x 0", 0, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseStartTime([]byte(tt.stat))
			if got != tt.want || (err != nil) != tt.err {
				t.Errorf("%d, %v; want %d, error %v", got, err, tt.want, tt.err)
			}
		})
	}
}

func TestStartTimeOfRealProcesses(t *testing.T) {
	if started, err := StartTime(os.Getpid()); err != nil || started == 0 {
		t.Errorf("this process: %d, %v", started, err)
	}
	cmd := exec.Command("true")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out.Read(make([]byte, 1)) // its end of the pipe is closed: it exits
	for {
		_, err := StartTime(cmd.Process.Pid)
		if errors.Is(err, ErrEnded) {
			break // a zombie: nobody has waited for it
		}
		if err != nil {
			t.Fatal(err)
		}
		if t.Context().Err() != nil {
			t.Fatal("never became a zombie")
		}
	}
	cmd.Wait()
	if _, err := StartTime(cmd.Process.Pid); err == nil {
		t.Error("a process that is gone has a start time")
	}
}

func FuzzParseStartTime(f *testing.F) {
	f.Add([]byte(running))
	f.Add([]byte(") Z"))
	f.Fuzz(func(_ *testing.T, stat []byte) {
		_, _ = parseStartTime(stat)
	})
}
