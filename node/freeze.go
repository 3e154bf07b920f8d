package node

import "context"

// freeze is how far the reconciler holds still while another process takes
// over.
type freeze int

const (
	thawed freeze = iota
	// frozen: the configuration and the addresses stay as they are, since the
	// successor acts on what is on disk; gates and announcements still follow
	// what is observed.
	frozen
	// silent: the announcements are the successor's, too.
	silent
)

// freeze makes the reconciler hold still. It is refused while the node drains,
// and a drain is refused until thaw.
func (r *reconciler) freeze(ctx context.Context) error {
	if !r.drainUnderWay.CompareAndSwap(false, true) {
		return errDrainUnderWay
	}
	if err := r.setFrozen(ctx, frozen); err != nil {
		r.drainUnderWay.Store(false)
		return err
	}
	return nil
}

// thaw ends it.
func (r *reconciler) thaw(ctx context.Context) {
	_ = r.setFrozen(ctx, thawed) // an error: it has ended
	r.drainUnderWay.Store(false)
}

func (r *reconciler) setFrozen(ctx context.Context, f freeze) error {
	return r.do(ctx, func(context.Context) { r.frozen = f })
}

// announced names the VIPs whose gates are open.
func (v *View) announced() []string {
	var names []string
	for _, vip := range v.Config.VIPs {
		if v.Gates[vip.Name].Open {
			names = append(names, vip.Name)
		}
	}
	return names
}
