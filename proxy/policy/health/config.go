package health

import "time"

// Config says when a server takes work, and how much. Fields left at zero take
// the default, or are off where that is said.
type Config struct {
	// Fall and Rise are the consecutive results of active checks that turn a
	// server unhealthy and healthy again. Defaults 3 and 5; 1 to 100.
	Fall, Rise int
	// Interval is from the start of one check to the start of the next.
	// Default 2 s.
	Interval time.Duration
	// FastInterval is used instead while a row of results against the present
	// state is being counted. Default: Interval.
	FastInterval time.Duration
	// DownInterval is used instead while a server is unhealthy. Default:
	// Interval.
	DownInterval time.Duration
	// Timeout bounds one check. Default: Interval, at most 10 s.
	Timeout time.Duration

	// MaxFails is the number of failed requests within FailTimeout after which
	// the server takes none for FailTimeout, as nginx defines both. 0: off.
	MaxFails    int
	FailTimeout time.Duration // default 10 s

	// Outlier ejects servers by a row of failures; nil: off.
	Outlier *Outlier

	// SlowStart is how long a recovered server's weight and limit of requests
	// in flight rise from a tenth to the whole. 0: off.
	SlowStart time.Duration
}

// Outlier is the passive ejection of servers whose answers fail in a row.
type Outlier struct {
	Consecutive5xx    int           // answers of 500 to 599; default 5, negative: off
	ConsecutiveErrors int           // failed connects, resets, time-outs; default 5, negative: off
	BaseEjection      time.Duration // of the first ejection; each one more adds it again. Default 30 s
	MaxEjection       time.Duration // default 5 min
	MaxShare          float64       // of the pool's servers that may be ejected at one time, 0 to 1; default 0.5
}
