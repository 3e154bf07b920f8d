package health

import (
	"math"
	"time"
)

// rampFrom is the factor at which a slow start begins. It is above 0: a
// server that gets nothing warms up nothing.
const rampFrom = 0.1

// Ramp is the slow start's factor of a server that recovered at since: from
// 0.1 rising evenly to 1 after over. An over of 0 is no slow start: 1.
func Ramp(since, now, over time.Duration) float64 {
	if over <= 0 || now-since >= over {
		return 1
	}
	return rampFrom + (1-rampFrom)*max(0, float64(now-since)/float64(over))
}

// Level makes the factors of those who share the work relative to the largest
// of them. Servers that ramp with nobody warm beside them then take the whole
// work, by their weights and progress, instead of refusing nine tenths of it:
// ramping together is not ramping at all.
func Level(factors []float64) {
	var top float64
	for _, f := range factors {
		top = max(top, f)
	}
	if top <= 0 || top == 1 {
		return
	}
	for i := range factors {
		factors[i] /= top
	}
}

// Effective weights are whole numbers, as what lays out turns needs them: 10
// times the weights, so that a weight of 1 can ramp from a tenth in tenths.
// But no more than maxTurns in sum (or what the weights themselves sum to): a
// large pool of large weights ramps in its weights' own steps.
const (
	fineness = 10
	maxTurns = 1 << 18
)

// Weights applies factors, each above 0 and at most 1, to weights, each above
// 0. The results are in proportion to the products, whole, and at least 1: no
// ramping server starves. Without a factor below 1 they are the weights.
func Weights(weights []int, factors []float64) []int {
	out := make([]int, len(weights))
	scale, sum := 1.0, 0
	for i, w := range weights {
		sum += w
		if factors[i] < 1 {
			scale = fineness
		}
	}
	if scale > 1 && sum > 0 {
		scale = min(scale, max(1, math.Floor(maxTurns/float64(sum))))
	}
	for i, w := range weights {
		out[i] = max(1, int(math.Round(float64(w)*factors[i]*scale)))
	}
	return out
}

// Limit applies a factor to a limit of requests in flight: at least 1, and 0,
// which is none, stays none.
func Limit(limit int, factor float64) int {
	if limit <= 0 {
		return 0
	}
	return max(1, int(math.Round(float64(limit)*factor)))
}
