// Package choice chooses the engine that sessions run on: io_uring where the
// kernel and what confines the process allow it, epoll always.
package choice

import (
	"fmt"

	"github.com/pharos-lb/pharos/proxy/l7/engine"
	"github.com/pharos-lb/pharos/proxy/l7/engine/epoll"
	"github.com/pharos-lb/pharos/proxy/l7/engine/uring"
)

// Kind names an engine, as a configuration does.
type Kind string

// The kinds. Auto is IOUring where that works, else Epoll.
const (
	Auto    Kind = "auto"
	Epoll   Kind = "epoll"
	IOUring Kind = "io_uring"
)

// Choice is an engine that works here.
type Choice struct {
	// Engine is Epoll or IOUring.
	Engine Kind
	// Refused is why Auto did not come to IOUring; nil if it did, or was not
	// asked to choose.
	Refused error
}

// Make chooses. For Auto and IOUring it makes a ring and moves bytes through
// it, which takes a few milliseconds, and at worst seconds. It fails if
// IOUring is asked for and does not work here; the error wraps a
// [*uring.NotAllowedError].
func Make(want Kind) (Choice, error) {
	switch want {
	case Epoll:
		return Choice{Engine: Epoll}, nil
	case Auto:
		if err := uring.Probe(); err != nil {
			return Choice{Engine: Epoll, Refused: err}, nil
		}
		return Choice{Engine: IOUring}, nil
	case IOUring:
		if err := uring.Probe(); err != nil {
			return Choice{}, fmt.Errorf("engine %s: %w", want, err)
		}
		return Choice{Engine: IOUring}, nil
	}
	return Choice{}, fmt.Errorf("engine %q is not known (auto, epoll, io_uring)", want)
}

// New returns a loop of the engine. It holds descriptors until it was run.
func (c Choice) New() (engine.Driver, error) {
	if c.Engine == IOUring {
		return uring.New()
	}
	return epoll.New()
}
