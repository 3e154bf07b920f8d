//go:build race

package secure

// raceDetector: sync.Pool forgets at random then.
const raceDetector = true
