package handover

import (
	"errors"
	"fmt"
)

// Code is a fixed word for why an upgrade did not happen.
type Code string

// Why an upgrade did not happen. In all cases the process that was asked
// carries on.
const (
	CannotStart Code = "cannot_start" // the new binary is missing, or cannot be executed
	Ended       Code = "ended"        // the new process ended before it had taken over
	TimedOut    Code = "timed_out"    // it did not say in time that it had done its part
	Refused     Code = "refused"      // it said that it cannot go on
	Busy        Code = "busy"         // the node drains, stops, or is upgraded already
	Internal    Code = "internal"     // this process could not do its own part
)

// Failure is an upgrade that did not happen. The node serves as before.
type Failure struct {
	Code Code
	Err  error
}

// Error implements error.
func (f *Failure) Error() string { return f.Err.Error() }

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Err }

// Failuref makes a Failure, with fmt.Errorf's verbs.
func Failuref(code Code, format string, args ...any) *Failure {
	return &Failure{code, fmt.Errorf(format, args...)}
}

// CodeOf is the code of a failed upgrade's error.
func CodeOf(err error) Code {
	var f *Failure
	if errors.As(err, &f) {
		return f.Code
	}
	return Internal
}
