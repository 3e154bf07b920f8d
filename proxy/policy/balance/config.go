package balance

import (
	"errors"
	"fmt"
	"time"

	"github.com/pharos-lb/pharos/proxy/policy"
)

// Algorithm names a way to balance. The package's doc says which one is for
// what.
type Algorithm string

// The algorithms. An empty Algorithm is RoundRobinName.
const (
	RoundRobinName Algorithm = "round_robin" // smooth weighted round robin
	LeastConn      Algorithm = "least_conn"  // fewest in flight by weight

	// SourceHash is Maglev over the client's address. Clients behind one NAT,
	// proxy or mobile carrier share an address, and so one server: a hot spot
	// that HashBound only blunts. Where requests can be told apart, use cookie
	// persistence, HeaderHash or CookieHash instead; where it need not be the
	// same server each time, LeastConn.
	SourceHash Algorithm = "source_hash"

	URIHash    Algorithm = "uri_hash"    // Maglev over the path and query
	HeaderHash Algorithm = "header_hash" // Maglev over a field's value; without the field, the client's address
	CookieHash Algorithm = "cookie_hash" // Maglev over a cookie's value; without the cookie, the client's address
	RandomTwo  Algorithm = "random"      // the less loaded of two at random
	Latency    Algorithm = "latency"     // peak EWMA over two at random
)

// Config says how a pool is balanced.
type Config struct {
	Algorithm Algorithm
	// HashName is the field or cookie to hash; HeaderHash and CookieHash only.
	HashName string
	// HashBound bounds a server's load under the hash algorithms, as a factor
	// of its fair share of what is in flight on this node: what is above goes on
	// to the next server of the hash. 1.01 to 10; 0: the default, 1.25. Where
	// little is in flight, the fair share is less than one, and a second request
	// of the same key at the same time goes elsewhere: a bound of at least the
	// number of (equal) servers never binds.
	HashBound float64
	// LatencyDecay is the time constant by which slow answers are forgotten;
	// Latency only. 100 ms to 10 min; 0: the default, 10 s.
	LatencyDecay time.Duration
}

const (
	defaultHashBound    = 1.25
	minHashBound        = 1.01
	maxHashBound        = 10
	defaultLatencyDecay = 10 * time.Second
	minLatencyDecay     = 100 * time.Millisecond
	maxLatencyDecay     = 10 * time.Minute
	maxHashName         = 256
)

// WithDefaults fills in what was left at zero.
func (c Config) WithDefaults() Config {
	if c.Algorithm == "" {
		c.Algorithm = RoundRobinName
	}
	if c.HashBound == 0 {
		c.HashBound = defaultHashBound
	}
	if c.LatencyDecay == 0 {
		c.LatencyDecay = defaultLatencyDecay
	}
	return c
}

// Validate reports every fault at once, each as a *policy.Fault, joined.
func (c Config) Validate() error {
	var errs []error
	fault := func(field, format string, args ...any) {
		errs = append(errs, &policy.Fault{Field: field, Reason: fmt.Sprintf(format, args...)})
	}
	hashes, named := false, false
	switch c.Algorithm {
	case "", RoundRobinName, LeastConn, RandomTwo, Latency:
	case SourceHash, URIHash:
		hashes = true
	case HeaderHash, CookieHash:
		hashes, named = true, true
	default:
		fault("algorithm", "%q is not known: use %q, %q, %q, %q, %q, %q, %q or %q", c.Algorithm,
			RoundRobinName, LeastConn, SourceHash, URIHash, HeaderHash, CookieHash, RandomTwo, Latency)
		hashes, named = c.HashBound != 0, c.HashName != "" // one fault, not three
	}
	switch {
	case named && c.HashName == "":
		fault("hash_name", "is empty: %s needs the name to hash by", c.Algorithm)
	case !named && c.HashName != "":
		fault("hash_name", "is for %s and %s only", HeaderHash, CookieHash)
	case named && !isToken(c.HashName):
		fault("hash_name", "%q is not a name: a token of at most %d characters (RFC 9110 section 5.6.2)", c.HashName, maxHashName)
	}
	switch {
	case c.HashBound == 0:
	case !hashes:
		fault("hash_bound", "is for the hash algorithms only")
	case !(c.HashBound >= minHashBound && c.HashBound <= maxHashBound): // NaN too
		fault("hash_bound", "%v is not within %v to %v", c.HashBound, minHashBound, maxHashBound)
	}
	switch {
	case c.LatencyDecay == 0:
	case c.Algorithm != Latency:
		fault("latency_decay", "is for %s only", Latency)
	case c.LatencyDecay < minLatencyDecay || c.LatencyDecay > maxLatencyDecay:
		fault("latency_decay", "%v is not within %v to %v", c.LatencyDecay, minLatencyDecay, maxLatencyDecay)
	}
	return errors.Join(errs...)
}

// isToken reports whether s is a token (RFC 9110 section 5.6.2), as the names
// of fields and cookies are.
func isToken(s string) bool {
	for _, c := range []byte(s) {
		switch {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
		default:
			switch c {
			case '!', '#', '$', '%', '&', '\'', '*', '+', '-', '.', '^', '_', '`', '|', '~':
			default:
				return false
			}
		}
	}
	return s != "" && len(s) <= maxHashName
}
