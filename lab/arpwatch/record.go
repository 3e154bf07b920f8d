package arpwatch

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"
)

// Line is one line of a record, in JSON: one of its fields is set.
type Line struct {
	Begin *Begin `json:"begin,omitempty"`
	Claim *Claim `json:"claim,omitempty"`
	End   *End   `json:"end,omitempty"`
}

// Begin is the first line: what is asked, and how often.
type Begin struct {
	At        time.Time     `json:"at"`
	Interval  time.Duration `json:"interval"` // nanoseconds
	Ports     []string      `json:"ports"`
	Addresses []netip.Addr  `json:"addresses"`
}

// Claim is one frame by which a machine said that it has a watched address.
type Claim struct {
	At      time.Time  `json:"at"`   // when the kernel received it, which is when it was sent from another namespace of it
	Port    string     `json:"port"` // that it came in by
	Address netip.Addr `json:"address"`
	MAC     MAC        `json:"mac"`
	Kind    Kind       `json:"kind"`
}

// End is the last line, once all is heard.
type End struct {
	At    time.Time `json:"at"`
	Asked int       `json:"asked"` // questions that went out
	// Unasked are those that could not: the port was down.
	Unasked int `json:"unasked"`
	Claims  int `json:"claims"`
	// Lost are frames that came in and could not be kept: the record has holes.
	Lost int `json:"lost"`
}

// errEnded ends a record without an End.
var errEnded = errors.New("the record breaks off before its end")

// Append appends a line with its line break.
func Append(to []byte, l Line) ([]byte, error) {
	b, err := json.Marshal(l)
	if err != nil {
		return to, err
	}
	return append(append(to, b...), '\n'), nil
}

// Read calls take for each line of a record. It fails when take does, when a
// line is none, and when the record has no end.
func Read(r io.Reader, take func(Line) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	ended := false
	for n := 1; lines.Scan(); n++ {
		var l Line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return fmt.Errorf("line %d of the record: %w", n, err)
		}
		ended = l.End != nil
		if err := take(l); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read the record: %w", err)
	}
	if !ended {
		return errEnded
	}
	return nil
}
