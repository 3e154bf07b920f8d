package drill

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// prepare decides what is broken, and by what it is judged.
func (r *run) prepare(ctx context.Context) error {
	node, err := chooseNode(r.site, r.options.Node)
	if err != nil {
		return err
	}
	if !r.scenario.Splits && (r.options.Split != "" || r.options.OneWay) {
		return fmt.Errorf("%w: %s knows no split", ErrNoFault, r.scenario.Name)
	}
	plan := r.scenario.Plan
	if plan == nil {
		plan = one
	}
	if r.plan, err = plan(ctx, r.site, r.scenario.Kind, node, r.options); err != nil {
		return err
	}
	r.node = r.plan.Node
	if d, ok := r.site.(Detector); ok && r.options.DetectedGap && r.scenario.BeyondDetection > 0 {
		var found time.Duration
		// A lab that has just come up has no BFD session yet.
		if err := insist(ctx, func(ctx context.Context) (err error) { found, err = d.Detection(ctx, r.node); return err }); err != nil {
			return err
		}
		r.options.Limits.MaxGap = limit(found + r.scenario.BeyondDetection)
	}
	if _, ok := r.site.(Controller); ok && (r.scenario.Meanwhile != nil || r.scenario.Afterwards != nil) {
		if r.operator, err = newOperator(ctx, r.site); err != nil {
			return err
		}
	}
	return nil
}

// restore sees to it that no check has left the cluster's configuration changed.
func (r *run) restore(ctx context.Context) error {
	if r.operator == nil || !r.operator.changed {
		return nil
	}
	return insist(context.WithoutCancel(ctx), func(ctx context.Context) error { return r.operator.restore(ctx, r.node) })
}

func chooseNode(site Site, node string) (string, error) {
	nodes := site.Nodes()
	switch {
	case node == "" && len(nodes) == 0:
		return "", fmt.Errorf("%w: name the one to break by --node", ErrNoNode)
	case node == "":
		return nodes[len(nodes)/2], nil
	case len(nodes) > 0 && !slices.Contains(nodes, node):
		return "", fmt.Errorf("%w: %q: %s has %s", ErrNoNode, node, site.Name(), strings.Join(nodes, ", "))
	}
	return node, nil
}
