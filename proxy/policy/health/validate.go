package health

import (
	"fmt"
	"time"
)

// The bounds of what may be configured.
const (
	maxRow      = 100
	minInterval = time.Millisecond
	maxInterval = time.Hour
	maxTimeout  = 10 * time.Second
	maxSpan     = 24 * time.Hour
)

// Validate hands every fault to fault: the path of the field, beginning at
// this Config, and what is wrong with it. Fields left at zero have none.
func (c Config) Validate(fault func(field, reason string)) {
	counts := func(field string, n, lowest, highest int) {
		if n < lowest || n > highest {
			fault(field, fmt.Sprintf("%d is not within %d to %d", n, lowest, highest))
		}
	}
	spans := func(field string, d, lowest, highest time.Duration) {
		if d != 0 && (d < lowest || d > highest) {
			fault(field, fmt.Sprintf("%v is not within %v to %v", d, lowest, highest))
		}
	}
	counts("fall", c.Fall, 0, maxRow)
	counts("rise", c.Rise, 0, maxRow)
	spans("interval", c.Interval, minInterval, maxInterval)
	spans("fast_interval", c.FastInterval, minInterval, maxInterval)
	spans("down_interval", c.DownInterval, minInterval, maxInterval)
	spans("timeout", c.Timeout, time.Millisecond, maxTimeout)
	counts("max_fails", c.MaxFails, 0, 1_000_000)
	spans("fail_timeout", c.FailTimeout, time.Millisecond, maxSpan)
	spans("slow_start", c.SlowStart, time.Second, maxSpan)
	o := c.Outlier
	if o == nil {
		return
	}
	counts("outlier.consecutive_5xx", o.Consecutive5xx, -1, 1_000_000)
	counts("outlier.consecutive_errors", o.ConsecutiveErrors, -1, 1_000_000)
	spans("outlier.base_ejection", o.BaseEjection, time.Millisecond, maxSpan)
	spans("outlier.max_ejection", o.MaxEjection, time.Millisecond, maxSpan)
	if d := o.withDefaults(); d.MaxEjection < d.BaseEjection {
		fault("outlier.max_ejection", fmt.Sprintf("%v is below the base ejection of %v", d.MaxEjection, d.BaseEjection))
	}
	if !(o.MaxShare >= 0 && o.MaxShare <= 1) { // written so that NaN is a fault
		fault("outlier.max_share", fmt.Sprintf("%v is not within 0 to 1", o.MaxShare))
	}
}

// WithDefaults fills in what was left at zero.
func (c Config) WithDefaults() Config {
	orDefault(&c.Fall, 3)
	orDefault(&c.Rise, 5)
	orDefault(&c.Interval, 2*time.Second)
	orDefault(&c.FastInterval, c.Interval)
	orDefault(&c.DownInterval, c.Interval)
	orDefault(&c.Timeout, min(c.Interval, maxTimeout))
	orDefault(&c.FailTimeout, 10*time.Second)
	if c.Outlier != nil {
		o := c.Outlier.withDefaults()
		c.Outlier = &o
	}
	return c
}

func (o Outlier) withDefaults() Outlier {
	orDefault(&o.Consecutive5xx, 5)
	orDefault(&o.ConsecutiveErrors, 5)
	orDefault(&o.BaseEjection, 30*time.Second)
	orDefault(&o.MaxEjection, 5*time.Minute)
	orDefault(&o.MaxShare, 0.5)
	return o
}

func orDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
