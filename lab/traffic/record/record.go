// Package record is what a prober writes down of the traffic that it sent: one
// JSON object a line, so that the same record comes out of a subprocess in a
// namespace, of a container and of a machine reached by ssh. It holds no I/O
// beyond reading and writing such lines, and the oracle that judges a run sees
// nothing else of the clients.
package record

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Outcome says how a connection ended, as its client saw it.
type Outcome string

// The outcomes. Only OK (and Finished, for a held connection) is no failure.
const (
	OK          Outcome = "ok"           // the whole, right answer came in time
	Finished    Outcome = "finished"     // held only: the peer closed it in order, between two exchanges
	Refused     Outcome = "refused"      // connect: reset (ECONNREFUSED)
	Unreachable Outcome = "unreachable"  // connect: no route, host or network unreachable
	Reset       Outcome = "reset"        // a reset after the connection was established
	Closed      Outcome = "closed"       // the end of the stream before the whole answer
	TimedOut    Outcome = "timed-out"    // nothing in time
	WrongAnswer Outcome = "wrong-answer" // an answer that is not the one asked for
	NotSent     Outcome = "not-sent"     // the prober itself could not: too many in flight, no port, no descriptor
)

// Outcomes lists every outcome.
func Outcomes() []Outcome {
	return []Outcome{OK, Finished, Refused, Unreachable, Reset, Closed, TimedOut, WrongAnswer, NotSent}
}

// Stage says how far a connection had come when it ended.
type Stage string

// The stages.
const (
	Connecting  Stage = "connecting"  // connect() had not succeeded
	Established Stage = "established" // connect() had succeeded
)

// Probe is one new connection with one request. Times are nanoseconds since
// the Unix epoch by the prober's machine (wall clock at the prober's start plus
// monotonic time since, so that a step of the clock cannot reorder them);
// 0 means that it did not come to that.
type Probe struct {
	Sequence  int     `json:"seq"`       // from 0, one per tick of the schedule
	Scheduled int64   `json:"scheduled"` // when it was due, whatever became of those before
	Sent      int64   `json:"sent"`      // connect() was called
	Connected int64   `json:"connected"` // connect() had succeeded
	Ended     int64   `json:"ended"`     // answered or failed
	Outcome   Outcome `json:"outcome"`
	Stage     Stage   `json:"stage"`
	Peer      string  `json:"peer,omitempty"`    // the backend's view of who connected to it: the carrying node's address
	Node      string  `json:"node,omitempty"`    // the carrying node by the answer's header, where one was asked for
	Backend   string  `json:"backend,omitempty"` // the backend's name by its answer
	Detail    string  `json:"detail,omitempty"`  // of a failure: what exactly
}

// Held is the life of one connection that was kept open with exchanges on it,
// one after the other: what an established session of a user is. Times are as
// for Probe.
type Held struct {
	Slot      int     `json:"slot"`      // which of the held connections; a broken one is opened anew in its slot
	Opened    int64   `json:"opened"`    // connect() was called
	Connected int64   `json:"connected"` // connect() had succeeded
	Ended     int64   `json:"ended"`     // broke, or was closed by the prober at its end
	Asked     int64   `json:"asked"`     // when the last request was sent that was answered whole
	Exchanges int     `json:"exchanges"` // that were answered whole
	Outcome   Outcome `json:"outcome"`
	Stage     Stage   `json:"stage"`
	Peer      string  `json:"peer,omitempty"`
	Node      string  `json:"node,omitempty"`
	Backend   string  `json:"backend,omitempty"`
	Detail    string  `json:"detail,omitempty"`
}

// Begin is the first line of a record.
type Begin struct {
	Target   string `json:"target"`
	Interval int64  `json:"interval"` // ns between two probes
	Timeout  int64  `json:"timeout"`  // ns for one probe, from when it was sent
	Started  int64  `json:"started"`  // as Probe's times
	Held     int    `json:"held"`     // connections held open
}

// End is the last line of a record; a record without one is not whole.
type End struct {
	Ended int64  `json:"ended"`
	Sent  int    `json:"sent"` // probes written, NotSent ones included
	CPU   int64  `json:"cpu"`  // ns of CPU time of the whole prober process
	Why   string `json:"why"`  // deadline, count, stopped
}

// Line is one line of a record: exactly one field is set.
type Line struct {
	Begin *Begin `json:"begin,omitempty"`
	Probe *Probe `json:"probe,omitempty"`
	Held  *Held  `json:"held,omitempty"`
	End   *End   `json:"end,omitempty"`
}

// MaxLine is the longest line, in bytes, that Read accepts.
const MaxLine = 64 << 10

// ErrLine is wrapped by every error about a line that is not of a record.
var ErrLine = errors.New("not a line of a probe record")

// Append appends the line's JSON and a newline.
func Append(dst []byte, l Line) ([]byte, error) {
	out, err := json.Marshal(l)
	if err != nil {
		return dst, fmt.Errorf("encode a probe record: %w", err)
	}
	return append(append(dst, out...), '\n'), nil
}

// Parse reads one line. The error wraps ErrLine.
func Parse(line []byte) (Line, error) {
	var l Line
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&l); err != nil {
		return Line{}, fmt.Errorf("%w: %w", ErrLine, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Line{}, fmt.Errorf("%w: more than one value", ErrLine)
	}
	if err := l.check(); err != nil {
		return Line{}, fmt.Errorf("%w: %w", ErrLine, err)
	}
	return l, nil
}

func (l Line) check() error {
	set := 0
	var outcome Outcome
	var stage Stage
	if l.Begin != nil {
		set++
	}
	if l.End != nil {
		set++
	}
	if l.Probe != nil {
		set++
		outcome, stage = l.Probe.Outcome, l.Probe.Stage
	}
	if l.Held != nil {
		set++
		outcome, stage = l.Held.Outcome, l.Held.Stage
	}
	if set != 1 {
		return fmt.Errorf("%d of begin, probe, held, end are set, want one", set)
	}
	if l.Probe == nil && l.Held == nil {
		return nil
	}
	if stage != Connecting && stage != Established {
		return fmt.Errorf("unknown stage %q", stage)
	}
	for _, o := range Outcomes() {
		if o == outcome {
			return nil
		}
	}
	return fmt.Errorf("unknown outcome %q", outcome)
}

// Read calls each for every line of r until its end. The error wraps ErrLine
// for a line that is none, with its number.
func Read(r io.Reader, each func(Line) error) error {
	scan := bufio.NewScanner(r)
	scan.Buffer(make([]byte, 0, 4096), MaxLine)
	for n := 1; scan.Scan(); n++ {
		l, err := Parse(scan.Bytes())
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		if err := each(l); err != nil {
			return err
		}
	}
	if err := scan.Err(); err != nil {
		return fmt.Errorf("read a probe record: %w", err)
	}
	return nil
}
