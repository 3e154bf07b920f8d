package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"
)

// ErrStopped is returned by calls that come after Run has ended.
var ErrStopped = errors.New("the proxy has stopped")

// BindError is a listener's address that could not be bound. The
// configuration that it came with was not applied, in no part.
type BindError struct {
	Listener string
	Address  netip.AddrPort
	Err      error
}

func (e *BindError) Error() string {
	why := e.Err.Error()
	switch {
	case errors.Is(e.Err, syscall.EADDRINUSE):
		why = "port taken: another process, or another address of this proxy, listens there; stop it or choose another port (" + why + ")"
	case errors.Is(e.Err, syscall.EACCES):
		why = "not permitted: ports below 1024 need root or CAP_NET_BIND_SERVICE (" + why + ")"
	}
	return fmt.Sprintf("listener %s: bind %v: %s", e.Listener, e.Address, why)
}

// Unwrap returns the system's error.
func (e *BindError) Unwrap() error { return e.Err }
