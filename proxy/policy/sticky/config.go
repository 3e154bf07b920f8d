package sticky

import "time"

// Config is the cookie of a pool.
type Config struct {
	Name     string // of the cookie, a token (RFC 6265 section 4.1.1), at most 64 bytes
	Format   Format // default Signed
	Preserve bool   // a cookie that the server itself sets under this name is left alone

	// MaxIdle and MaxLife end a session that was not used for that long, or is
	// that old, as HAProxy's maxidle and maxlife. 0: never; else at least 1 s.
	// Both need the date in the cookie, so Format must not be Plain. They end up
	// to ClockSkew late, and MaxIdle by a sixteenth of itself more.
	MaxIdle, MaxLife time.Duration

	Secure   bool
	HTTPOnly bool
	SameSite SameSite // default: the attribute is left out
	Domain   string   // empty: the attribute is left out
	Path     string   // default /
}

// Format is what the cookie's value shows.
type Format string

// The formats.
const (
	Plain  Format = "plain"  // the server's name
	Signed Format = "signed" // the name and dates, with a MAC
	Hidden Format = "hidden" // encrypted
)

// SameSite is the attribute of that name.
type SameSite string

// The values of SameSite. None needs Secure.
const (
	Lax    SameSite = "lax"
	Strict SameSite = "strict"
	None   SameSite = "none"
)
