package l4

// reason says why a connection or flow was refused or cut. The words are a
// fixed set: they go into the access log.
type reason uint8

const (
	noReason   reason = iota // all was said; of a flow: nothing came any more
	clientRate               // the client opens too many in a time
	clientConnections
	badIntroduction // no PROXY protocol header, or a malformed one
	noHello         // not TLS, or not in time
	noRoute
	poolFull
	queueFull
	queueTimeout
	serversFull
	noServer
	connectFailed
	connectTimeout
	clientGone
	serverBroke
	idle
	evicted // a flow made room for another
	cutOff  // the drain's deadline, or the end of the process
)

var words = [...]string{
	noReason:          "",
	clientRate:        "client-rate",
	clientConnections: "client-connections",
	badIntroduction:   "bad-introduction",
	noHello:           "no-hello",
	noRoute:           "no-route",
	poolFull:          "pool-full",
	queueFull:         "queue-full",
	queueTimeout:      "queue-timeout",
	serversFull:       "servers-full",
	noServer:          "no-server",
	connectFailed:     "connect-failed",
	connectTimeout:    "connect-timeout",
	clientGone:        "client-gone",
	serverBroke:       "server-broke",
	idle:              "idle",
	evicted:           "evicted",
	cutOff:            "cut-off",
}

// String is the word of the access log.
func (r reason) String() string { return words[r] }
