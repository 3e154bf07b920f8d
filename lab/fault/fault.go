// Package fault breaks one thing of a cluster and mends it again. An Injector
// says what; With sees to it that what was broken is mended, whatever becomes
// of the code in between.
package fault

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Moment is when something was done, by this machine's clock.
type Moment struct {
	Began time.Time // right before the call that does it
	Done  time.Time // right after it returned
}

// Injector breaks one thing. Both methods end with ctx.
type Injector interface {
	// Inject breaks it. Even if it fails, something may be broken.
	Inject(ctx context.Context) (Moment, error)
	// Revert mends it. It does no harm where nothing is broken, or twice.
	Revert(ctx context.Context) (Moment, error)
}

// RevertTimeout bounds the revert that With does by itself, which must not be
// cut short by the end of the context that it cleans up after.
const RevertTimeout = time.Minute

// Revert mends the fault that it was given with; once it has succeeded, With
// does not do so again.
type Revert func(ctx context.Context) (Moment, error)

// With injects, calls body with the time of it, and reverts, if body did not:
// also when Inject or body fails, panics, or ctx ends.
func With(ctx context.Context, injector Injector, body func(ctx context.Context, injected Moment, revert Revert) error) (err error) {
	reverted := false
	defer func() {
		if reverted {
			return
		}
		// A panic goes on once this is done.
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), RevertTimeout)
		defer cancel()
		if _, undo := injector.Revert(clean); undo != nil {
			err = errors.Join(err, fmt.Errorf("the fault was NOT reverted: %w", undo))
		}
	}()
	injected, err := injector.Inject(ctx)
	if err != nil {
		return fmt.Errorf("inject the fault: %w", err)
	}
	return body(ctx, injected, func(ctx context.Context) (Moment, error) {
		m, err := injector.Revert(ctx)
		if err != nil {
			return m, fmt.Errorf("revert the fault: %w", err)
		}
		reverted = true
		return m, nil
	})
}

// now is the moment of what needs not be done.
func now() Moment {
	t := time.Now()
	return Moment{Began: t, Done: t}
}
