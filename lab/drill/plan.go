package drill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pharos-lb/pharos/lab/fault"
)

// Part is a fault of one node.
type Part struct {
	Kind Kind
	Node string
	From []string // the nodes that it is cut off from, for the kinds that have such; empty: all machines
}

// Plan is what a drill breaks.
type Plan struct {
	// Node is the victim: of several, the one that the verdict is about.
	Node  string
	Parts []Part // at the same time
	Label string // for people: "n1, n2"; empty: Node
}

// Planner makes the plan for a node that was chosen, by --node or by turns.
type Planner func(ctx context.Context, site Site, kind Kind, node string, o Options) (Plan, error)

// one breaks the chosen node.
func one(_ context.Context, _ Site, kind Kind, node string, _ Options) (Plan, error) {
	return Plan{Node: node, Parts: []Part{{Kind: kind, Node: node}}}, nil
}

// all breaks every node.
func all(_ context.Context, site Site, kind Kind, node string, _ Options) (Plan, error) {
	return several(kind, node, site.Nodes()), nil
}

// most breaks the chosen node, and as many others as leave no majority.
func most(_ context.Context, site Site, kind Kind, node string, _ Options) (Plan, error) {
	nodes := site.Nodes()
	at := slices.Index(nodes, node)
	if at < 0 {
		return Plan{}, fmt.Errorf("%w: %q", ErrNoNode, node)
	}
	turned := append(slices.Clone(nodes[at:]), nodes[:at]...)
	// A majority of n is n/2+1: it is gone once (n+1)/2 are.
	return several(kind, node, turned[:(len(nodes)+1)/2]), nil
}

func several(kind Kind, node string, nodes []string) Plan {
	p := Plan{Node: node, Label: strings.Join(nodes, ", ")}
	for _, n := range nodes {
		p.Parts = append(p.Parts, Part{Kind: kind, Node: n})
	}
	return p
}

// leading breaks the Raft leader, unless another node was asked for.
func leading(ctx context.Context, site Site, kind Kind, node string, o Options) (Plan, error) {
	if o.Node == "" {
		var err error
		if node, err = leader(ctx, site); err != nil {
			return Plan{}, err
		}
	}
	return one(ctx, site, kind, node, o)
}

// split breaks what groups of nodes say to each other, or what the first hears.
func split(_ context.Context, site Site, kind Kind, node string, o Options) (Plan, error) {
	groups, err := parseSplit(o.Split, node, site.Nodes())
	if err != nil {
		return Plan{}, err
	}
	var words []string
	for _, group := range groups {
		words = append(words, strings.Join(group, ", "))
	}
	p := Plan{Node: groups[0][0], Label: strings.Join(words, " | ")}
	if o.OneWay {
		p.Label = words[0] + " deaf for " + strings.Join(words[1:], ", ")
		kind, groups = ControlDeaf, groups[:1]
	}
	for _, group := range groups {
		others := slices.DeleteFunc(slices.Clone(site.Nodes()), func(n string) bool { return slices.Contains(group, n) })
		for _, n := range group {
			p.Parts = append(p.Parts, Part{Kind: kind, Node: n, From: others})
		}
	}
	return p, nil
}

// parseSplit reads groups of nodes: "n1|n2,n3". Without any, the chosen node is
// apart from the others.
func parseSplit(text, node string, nodes []string) ([][]string, error) {
	if text == "" {
		others := slices.DeleteFunc(slices.Clone(nodes), func(n string) bool { return n == node })
		if len(others) == 0 {
			return nil, fmt.Errorf("%w: a split needs two nodes at least", ErrNoNode)
		}
		return [][]string{{node}, others}, nil
	}
	var groups [][]string
	seen := map[string]bool{}
	for part := range strings.SplitSeq(text, "|") {
		var group []string
		for name := range strings.SplitSeq(part, ",") {
			name = strings.TrimSpace(name)
			switch {
			case !slices.Contains(nodes, name):
				return nil, fmt.Errorf("--split %q: %w: %q: there are %s", text, ErrNoNode, name, strings.Join(nodes, ", "))
			case seen[name]:
				return nil, fmt.Errorf("--split %q: %s is there twice", text, name)
			}
			seen[name] = true
			group = append(group, name)
		}
		groups = append(groups, group)
	}
	if len(groups) < 2 || len(seen) != len(nodes) {
		return nil, fmt.Errorf("--split %q: want each of %s in one of two groups at least, such as %q", text, strings.Join(nodes, ", "), "n1|n2,n3")
	}
	return groups, nil
}

// injector prepares all parts.
func (p Plan) injector(site Site) (fault.Injector, error) {
	var out fault.Several
	for _, part := range p.Parts {
		i, err := site.Fault(part.Kind, part.Node, part.From...)
		if err != nil {
			return nil, err
		}
		out = append(out, i)
	}
	switch len(out) {
	case 0:
		return nil, errors.New("the plan breaks nothing")
	case 1:
		return out[0], nil
	}
	return out, nil
}

func (p Plan) name() string {
	if p.Label != "" {
		return p.Label
	}
	return p.Node
}
