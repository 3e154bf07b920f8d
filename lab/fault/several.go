package fault

import (
	"context"
	"errors"
	"sync"
)

// Several are faults that come together and go together. Each is injected and
// mended at the same time as the others.
type Several []Injector

// Inject implements Injector: its Moment spans all.
func (s Several) Inject(ctx context.Context) (Moment, error) {
	return s.each(func(i Injector) (Moment, error) { return i.Inject(ctx) })
}

// Revert implements Injector: one that fails keeps no other from being mended.
func (s Several) Revert(ctx context.Context) (Moment, error) {
	return s.each(func(i Injector) (Moment, error) { return i.Revert(ctx) })
}

// Count implements Counter: what the one has met that has met least.
func (s Several) Count(ctx context.Context) (uint64, error) {
	var least uint64
	for i, one := range s {
		n, err := Count(ctx, one)
		if err != nil {
			return 0, err
		}
		if i == 0 || n < least {
			least = n
		}
	}
	return least, nil
}

func (s Several) each(do func(Injector) (Moment, error)) (Moment, error) {
	moments, errs := make([]Moment, len(s)), make([]error, len(s))
	var wait sync.WaitGroup
	for i, one := range s {
		wait.Go(func() { moments[i], errs[i] = do(one) })
	}
	wait.Wait()
	var all Moment
	for i, m := range moments {
		if i == 0 || m.Began.Before(all.Began) {
			all.Began = m.Began
		}
		if m.Done.After(all.Done) {
			all.Done = m.Done
		}
	}
	return all, errors.Join(errs...)
}

// Counter is an Injector that counts what has met its fault: packets that were
// dropped, say. It is asked while the fault is there.
type Counter interface {
	Count(ctx context.Context) (uint64, error)
}

// ErrNoCount says that an Injector does not count.
var ErrNoCount = errors.New("this fault does not count what meets it")

// Count asks an Injector that may be a Counter.
func Count(ctx context.Context, i Injector) (uint64, error) {
	if c, ok := i.(Counter); ok {
		return c.Count(ctx)
	}
	return 0, ErrNoCount
}
