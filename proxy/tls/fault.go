package tls

import (
	"errors"
	"fmt"
)

// Fault is one thing that is wrong with a configuration. Validate and Load
// report all of them at once, joined; errors.As finds the first, and whoever
// wants each asks the joined error for its Unwrap() []error.
type Fault struct {
	Field  string // path within what was validated, such as ciphers[1]
	Reason string
}

func (f *Fault) Error() string { return f.Field + ": " + f.Reason }

// Warning is something about a certificate that an operator should know, and
// that keeps nothing from being served.
type Warning struct {
	Certificate string // its name in the configuration
	Reason      string
}

func (w Warning) String() string { return "certificate " + w.Certificate + ": " + w.Reason }

// faults collects Faults.
type faults []error

func (f *faults) add(field, format string, args ...any) {
	*f = append(*f, &Fault{Field: field, Reason: fmt.Sprintf(format, args...)})
}

func (f *faults) err() error { return errors.Join(*f...) }
