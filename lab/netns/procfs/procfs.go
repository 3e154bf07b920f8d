// Package procfs tells processes apart by when they started, since the kernel
// gives a number again once its process is gone.
package procfs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// ErrEnded says that a process has ended: its parent has only not asked yet.
var ErrEnded = errors.New("the process has ended")

// StartTime is when a process started, in clock ticks since boot (proc(5),
// field 22 of stat). A zombie is ErrEnded.
func StartTime(pid int) (uint64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return parseStartTime(data)
}

func parseStartTime(stat []byte) (uint64, error) {
	// The second field is the command in parentheses, and may hold anything.
	end := bytes.LastIndexByte(stat, ')')
	if end < 0 {
		return 0, errors.New("stat has no command")
	}
	fields := strings.Fields(string(stat[end+1:]))
	if len(fields) < 20 {
		return 0, fmt.Errorf("stat has %d fields after the command, want at least 20", len(fields))
	}
	if fields[0] == "Z" || fields[0] == "X" {
		return 0, ErrEnded
	}
	started, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("start time: %w", err)
	}
	return started, nil
}
