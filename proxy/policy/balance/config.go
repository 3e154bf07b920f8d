package balance

// Algorithm names a way to balance.
type Algorithm string

// The algorithms. An empty Algorithm is RoundRobin.
const (
	RoundRobinName Algorithm = "round_robin" // smooth weighted round robin
	LeastConn      Algorithm = "least_conn"  // fewest in flight by weight
	SourceHash     Algorithm = "source_hash" // Maglev over the client's address
	URIHash        Algorithm = "uri_hash"    // Maglev over the path and query
	HeaderHash     Algorithm = "header_hash" // Maglev over a field's value
	CookieHash     Algorithm = "cookie_hash" // Maglev over a cookie's value
	RandomTwo      Algorithm = "random"      // the less loaded of two at random
	Latency        Algorithm = "latency"     // peak EWMA over two at random
)

// Config says how a pool is balanced.
type Config struct {
	Algorithm Algorithm
	// HashName is the field or cookie to hash; HeaderHash and CookieHash only.
	HashName string
	// HashBound bounds a server's load under the hash algorithms, as a factor
	// of its fair share of what is in flight: what is above goes on to the next
	// server of the hash. 1.01 to 10; 0: the default, 1.25.
	HashBound float64
}
