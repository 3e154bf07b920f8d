// Package policy holds what the pure decisions of the proxy have in common.
// The decisions themselves are in the packages below it.
package policy

import "net/netip"

// Request is the view of a request that policies decide on. Slices are views
// that are valid during the call; they are never to be written to or kept.
// Implementations do not allocate.
type Request interface {
	// Method is the request method, as sent.
	Method() []byte
	// Host is the authority to route by, without its port, in lower case.
	Host() []byte
	// Path is the path of the target, without the query. It begins with a
	// slash, or is "*".
	Path() []byte
	// Query is what follows the first question mark, without it; empty if
	// there is none.
	Query() []byte
	// Header is the value of the first field of this name, given in lower
	// case. ok tells an empty value from none.
	Header(lower string) (value []byte, ok bool)
	// Cookie is the value of the first cookie of this name (RFC 6265 section
	// 4.2), matched exactly.
	Cookie(name string) (value []byte, ok bool)
	// Client is the address of the client: that of the connection, or what a
	// trusted PROXY header or forwarding field said.
	Client() netip.Addr
}
