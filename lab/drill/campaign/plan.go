// Package campaign breaks a cluster in ARP mode over and over, by faults drawn
// from a seed, while a sniffer asks each port of its switch who has the VIPs.
// What was heard is judged by package holders: never two at one time, whatever
// was broken, and one again soon after it was mended.
package campaign

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Kind is a fault of a node, or of the switch between the nodes.
type Kind string

// The kinds.
const (
	Kill      Kind = "kill"        // SIGKILL of the node's process; mended by starting it
	Freeze    Kind = "freeze"      // every process of the node stands still
	LinkDown  Kind = "link-down"   // the node's own end of its cable
	PortDown  Kind = "port-down"   // the switch's end
	Partition Kind = "partition"   // frames between nodes are lost, of any pairs, one way or both
	Silence   Kind = "silence"     // all frames of one node are lost at the switch
	Control   Kind = "control-cut" // nodes do not hear each other's control ports; ARP passes
)

// Kinds are all kinds.
func Kinds() []Kind { return []Kind{Kill, Freeze, LinkDown, PortDown, Partition, Silence, Control} }

// Cut is one way between two nodes that is cut.
type Cut struct{ From, To string }

// Fault is one thing that is broken.
type Fault struct {
	Kind Kind
	Node string // the one that it is done to; empty in a partition
	Cuts []Cut  // of a partition
}

// String says what is broken, for people: "freeze n2", "partition n1>n2 n3>n2".
func (f Fault) String() string {
	words := []string{string(f.Kind)}
	if f.Node != "" {
		words = append(words, f.Node)
	}
	for _, c := range f.Cuts {
		words = append(words, c.From+">"+c.To)
	}
	return strings.Join(words, " ")
}

// Round is one fault, or two at one time, and how long they last.
type Round struct {
	Pause  time.Duration // before it
	Faults []Fault
	Hold   time.Duration // from the last injection to the first repair
}

// String names the faults.
func (r Round) String() string {
	var words []string
	for _, f := range r.Faults {
		words = append(words, f.String())
	}
	return strings.Join(words, " and ")
}

// Times of a round. The shortest faults end before a lease does, the longest
// after everybody has noticed.
const (
	pauseMost = 400 * time.Millisecond
	holdLeast = 20 * time.Millisecond
	holdMost  = 1800 * time.Millisecond
)

// Plan draws rounds with so many faults in all. The same seed, nodes and kinds
// give the same plan. There must be two nodes at least.
func Plan(seed uint64, faults int, nodes []string, kinds []Kind) ([]Round, error) {
	switch {
	case faults < 1 || faults > 100_000:
		return nil, fmt.Errorf("%d faults: want 1 to 100000", faults)
	case len(nodes) < 2:
		return nil, fmt.Errorf("%d nodes: a campaign needs two at least", len(nodes))
	case len(kinds) == 0:
		return nil, fmt.Errorf("no kind of fault to draw from")
	}
	for _, k := range kinds {
		if !slices.Contains(Kinds(), k) {
			return nil, fmt.Errorf("there is no kind of fault %q: there are %v", k, Kinds())
		}
	}
	p := planner{rand: rand.New(rand.NewPCG(seed, 0)), nodes: nodes, kinds: kinds}
	var rounds []Round
	for faults > 0 {
		r := Round{
			Pause:  time.Duration(p.rand.Int64N(int64(pauseMost))),
			Faults: []Fault{p.fault()},
			Hold:   holdLeast + time.Duration(p.rand.Int64N(int64(holdMost-holdLeast))),
		}
		// Every fourth time, something else at the same time.
		if faults > 1 && p.rand.IntN(4) == 0 {
			if second := p.fault(); !p.meet(r.Faults[0], second) {
				r.Faults = append(r.Faults, second)
			}
		}
		faults -= len(r.Faults)
		rounds = append(rounds, r)
	}
	return rounds, nil
}

type planner struct {
	rand  *rand.Rand
	nodes []string
	kinds []Kind
}

func (p planner) fault() Fault {
	f := Fault{Kind: p.kinds[p.rand.IntN(len(p.kinds))]}
	if f.Kind == Partition {
		f.Cuts = p.cuts()
	} else {
		f.Node = p.nodes[p.rand.IntN(len(p.nodes))]
	}
	return f
}

// cuts draws a partition: two groups, everybody by itself, or any ways at all;
// the groups one way or both.
func (p planner) cuts() []Cut {
	for {
		var cuts []Cut
		style, oneWay := p.rand.IntN(4), p.rand.IntN(2) == 0
		groups := make(map[string]bool)
		for _, n := range p.nodes {
			groups[n] = p.rand.IntN(2) == 0
		}
		for _, from := range p.nodes {
			for _, to := range p.nodes {
				cut := groups[from] && !groups[to] || !oneWay && groups[to] && !groups[from]
				switch style {
				case 2:
					cut = true
				case 3:
					cut = p.rand.IntN(2) == 0
				}
				if from != to && cut {
					cuts = append(cuts, Cut{from, to})
				}
			}
		}
		if len(cuts) > 0 {
			return cuts
		}
	}
}

// meet says whether two faults cannot be there at one time, since they would be
// one: two ends of a node's cable, or a process that stands still and is killed.
func (p planner) meet(a, b Fault) bool {
	return a.Node == b.Node
}
