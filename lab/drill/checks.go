package drill

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pharos-lb/pharos/lab/drill/oracle"
)

// Checks try something as an operator, while the fault is there or after it. They
// give what they found.
type Checks func(ctx context.Context, op *operator, p Plan) []oracle.Check

// operator works with the product's CLI on a site's nodes.
type operator struct {
	site     Site
	control  Controller
	document []byte    // the cluster's configuration before the drill
	variants [2][]byte // it, with one weight changed
	changed  bool      // what the cluster has now may be a variant
}

// newOperator reads the configuration.
func newOperator(ctx context.Context, site Site) (*operator, error) {
	control, err := controlOf(site)
	if err != nil {
		return nil, err
	}
	op := &operator{site: site, control: control}
	if op.document, err = output(control.Control(ctx, site.Nodes()[0], "get", "-o", "yaml")); err != nil {
		return nil, fmt.Errorf("read the cluster's configuration: %w", err)
	}
	op.variants, err = reweigh(op.document)
	return op, err
}

func (op *operator) apply(ctx context.Context, node string, document []byte) error {
	cmd := op.control.Control(ctx, node, "apply", "-f", "-", "--timeout", "15s")
	cmd.Stdin = bytes.NewReader(document)
	_, err := output(cmd)
	return err
}

// change makes one and undoes it.
func (op *operator) change(ctx context.Context, node string) error {
	op.changed = true
	if err := op.apply(ctx, node, op.variants[1]); err != nil {
		return err
	}
	return op.restore(ctx, node)
}

// restore puts the configuration back as it was.
func (op *operator) restore(ctx context.Context, node string) error {
	err := op.apply(ctx, node, op.document)
	op.changed = op.changed && err != nil
	return err
}

// changeLimit bounds how long a change is tried until it is accepted.
const changeLimit = 30 * time.Second

// refused tries a change that must not be accepted, with the reason: that there is
// no majority. The caller sets op.changed: what was refused without a leader may be
// carried out by the next one.
func (op *operator) refused(ctx context.Context, node string) oracle.Check {
	return check("a change on "+node+" is refused for want of a majority", func() error {
		switch err := op.apply(ctx, node, op.variants[0]); {
		case err == nil:
			return errors.New("it was accepted")
		case !strings.Contains(err.Error(), "majority"):
			return fmt.Errorf("the refusal does not say so: %w", err)
		}
		return nil
	})
}

// accepted has a change accepted, and undone, as soon as somebody leads.
func (op *operator) accepted(ctx context.Context, node string) oracle.Check {
	return check("a change on "+node+" is accepted", func() error {
		return insist(ctx, func(ctx context.Context) error { return op.change(ctx, node) })
	})
}

// insist tries until it succeeds.
func insist(ctx context.Context, try func(context.Context) error) error {
	return within(ctx, changeLimit, func(ctx context.Context) error {
		for {
			err := try(ctx)
			if err == nil {
				return nil
			}
			if e := pause(ctx, 100*time.Millisecond); e != nil {
				return fmt.Errorf("%w (%w)", err, e)
			}
		}
	})
}

// refusedOnAll tries a change on every node at the same time: none may accept it.
func refusedOnAll(ctx context.Context, op *operator, _ Plan) []oracle.Check {
	op.changed = true
	out := make([]oracle.Check, len(op.site.Nodes()))
	var wait sync.WaitGroup
	for i, node := range op.site.Nodes() {
		wait.Go(func() { out[i] = op.refused(ctx, node) })
	}
	wait.Wait()
	return out
}

// refusedOnVictim tries a change on the node that is apart from the others, and
// has one accepted by them.
func refusedOnVictim(ctx context.Context, op *operator, p Plan) []oracle.Check {
	first := op.accepted(ctx, otherThan(op.site, p.Node))
	op.changed = true
	return []oracle.Check{first, op.refused(ctx, p.Node)}
}

// acceptedByOthers has a change accepted by another node than the victim.
func acceptedByOthers(ctx context.Context, op *operator, p Plan) []oracle.Check {
	return []oracle.Check{op.accepted(ctx, otherThan(op.site, p.Node))}
}

// acceptedAgain has a change accepted by the victim, once all is mended.
func acceptedAgain(ctx context.Context, op *operator, p Plan) []oracle.Check {
	return []oracle.Check{op.accepted(ctx, p.Node)}
}

func otherThan(site Site, node string) string {
	i := slices.IndexFunc(site.Nodes(), func(n string) bool { return n != node })
	if i < 0 {
		return node
	}
	return site.Nodes()[i]
}

// saysWhy has each broken node say the reason, and whether it announces in spite of
// it.
func saysWhy(code string, announcing bool) Checks {
	return func(ctx context.Context, op *operator, p Plan) (out []oracle.Check) {
		what := "withdraws for"
		if announcing {
			what = "announces in spite of"
		}
		for _, part := range p.Parts {
			out = append(out, check(fmt.Sprintf("%s says that it %s %s", part.Node, what, code), func() error {
				return insist(ctx, func(ctx context.Context) error { // a node looks once a second
					text, err := output(op.control.Control(ctx, part.Node, "status", "-o", "json"))
					if err != nil {
						return err
					}
					return says(text, op.site.Target().Addr().String(), code, announcing)
				})
			}))
		}
		return out
	}
}

// says reads "pharos status -o json".
func says(text []byte, address, code string, announcing bool) error {
	var status struct {
		VIPs []struct {
			Name       string
			Addresses  []string
			Announcing bool
			Reasons    []struct{ Code string }
		} `json:"vips"`
	}
	if err := json.Unmarshal(text, &status); err != nil {
		return fmt.Errorf("read the status: %w", err)
	}
	for _, v := range status.VIPs {
		if !slices.Contains(v.Addresses, address) {
			continue
		}
		var codes []string
		for _, r := range v.Reasons {
			codes = append(codes, r.Code)
		}
		if !slices.Contains(codes, code) || v.Announcing != announcing {
			return fmt.Errorf("it says of VIP %s: announcing %v, reasons [%s]", v.Name, v.Announcing, strings.Join(codes, ", "))
		}
		return nil
	}
	return fmt.Errorf("it has no VIP with %s", address)
}
