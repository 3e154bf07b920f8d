package uring

import (
	"errors"
	"testing"

	"github.com/pharos-lb/pharos/proxy/l7/engine"
	"github.com/pharos-lb/pharos/proxy/l7/engine/enginetest"
)

// allowed skips the test where io_uring is not.
func allowed(t testing.TB) {
	t.Helper()
	var refused *NotAllowedError
	switch err := Probe(); {
	case errors.As(err, &refused):
		t.Skip(err)
	case err != nil:
		t.Fatal(err)
	}
}

func TestEngine(t *testing.T) {
	allowed(t)
	enginetest.Run(t, func() (engine.Driver, error) { return New() })
}
