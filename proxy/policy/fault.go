package policy

import (
	"errors"
	"fmt"
)

// Fault is one thing that is wrong with a configuration.
type Fault struct {
	Field  string // path within what was validated, such as ciphers[1]
	Reason string
}

func (f *Fault) Error() string { return f.Field + ": " + f.Reason }

// Faults collects what is wrong, so that all of it is told at once. The zero
// value has none.
type Faults []error

// Add adds one.
func (f *Faults) Add(field, format string, args ...any) {
	*f = append(*f, &Fault{Field: field, Reason: fmt.Sprintf(format, args...)})
}

// Err joins them; nil if there is none.
func (f Faults) Err() error { return errors.Join(f...) }
