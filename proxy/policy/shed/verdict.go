package shed

import "time"

// Verdict is what became of a request or connection that asked for a place in
// a pool. Those for which Refused is true are reasons: they are logged, counted
// and answered by 503.
type Verdict uint8

// The verdicts.
const (
	Admitted Verdict = iota // holds a slot of the pool, to be released once
	Queued                  // waits, and is woken when its turn has come
	Canceled                // left the queue by itself before its turn

	PoolFull     // the limit is reached, and the pool has no queue
	QueueFull    // the limit is reached, and the queue is full too
	QueueTimeout // waited for as long as the queue keeps one

	// ServersFull is for the caller to use: admitted to the pool, but each
	// server that may serve the request is at its own limit. See [Capacity].
	ServersFull
)

// Refused reports whether the request is to be turned away.
func (v Verdict) Refused() bool { return v >= PoolFull }

// String is the verdict as logs and metrics name it.
func (v Verdict) String() string {
	switch v {
	case Admitted:
		return "admitted"
	case Queued:
		return "queued"
	case Canceled:
		return "canceled"
	case PoolFull:
		return "pool_full"
	case QueueFull:
		return "queue_full"
	case QueueTimeout:
		return "queue_timeout"
	case ServersFull:
		return "servers_full"
	default:
		return "unknown"
	}
}

// RetryAfter is d as the Retry-After field says it (RFC 9110 section 10.2.3):
// whole seconds, rounded up so that nobody comes back too early, and at least
// 1, since 0 would invite a client to retry at once.
func RetryAfter(d time.Duration) int {
	if d <= time.Second {
		return 1
	}
	return int((d-1)/time.Second) + 1
}
