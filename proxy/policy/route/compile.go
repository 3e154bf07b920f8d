package route

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/pharos-lb/pharos/proxy/policy"
)

// Compile makes a table of the rules. It reports every fault at once, each as
// a *policy.Fault, joined: those of [Rule.Validate], and rules that could never
// match since another one, which is named, asks for the same at a host.
func Compile(rules []Rule) (*Table, error) {
	var f policy.Faults
	for i, r := range rules {
		r.validate(fmt.Sprintf("rules[%d].", i), &f)
	}
	if len(f) > 0 {
		return nil, errors.Join(f...)
	}
	d := draft{hosts: map[string]*hostDraft{}, taken: map[string]int{}, conditions: map[string][]*condition{}}
	for i, r := range rules {
		d.add(i, r)
	}
	d.checkShadowed()
	if err := d.faults.Err(); err != nil {
		return nil, err
	}
	return d.table(), nil
}

// draft is a table in the making.
type draft struct {
	hosts      map[string]*hostDraft   // by canonical name; "" for rules without hosts
	taken      map[string]int          // what rules ask for at a host, and which rule does
	conditions map[string][]*condition // by key: rules that ask for the same share them
	faults     policy.Faults
}

// hostDraft becomes a host.
type hostDraft struct {
	tree    nodeDraft
	regexes []patternDraft
	rest    []entry
}

// nodeDraft becomes a node.
type nodeDraft struct {
	children      map[string]*nodeDraft
	exact, prefix []entry
}

type patternDraft struct {
	regex   string
	entries []entry
}

// add puts a rule, which is valid, at each of its places.
func (d *draft) add(i int, r Rule) {
	conditions := d.compileConditions(r)
	names := []string{""}
	if len(r.Hosts) > 0 {
		names = r.Hosts
	}
	asked := r.key()
	for j, name := range names {
		name = canonicalHost(name)
		key := name + " " + asked
		if other, taken := d.taken[key]; taken {
			at, where := fmt.Sprintf("rules[%d]", i), ""
			if len(r.Hosts) > 0 {
				at, where = fmt.Sprintf("%s.hosts[%d]", at, j), " at "+name
			}
			d.faults.Add(at, "can never match: rules[%d] asks for the same%s, and comes first", other, where)
			continue
		}
		d.taken[key] = i
		h := d.hosts[name]
		if h == nil {
			h = &hostDraft{}
			d.hosts[name] = h
		}
		entries := h.place(r)
		for _, c := range conditions {
			*entries = append(*entries, entry{condition: c, rule: int32(i)})
		}
	}
}

// place returns where entries of a rule belong.
func (h *hostDraft) place(r Rule) *[]entry {
	switch {
	case r.Path == "":
		return &h.rest
	case r.PathKind == Regex:
		i := slices.IndexFunc(h.regexes, func(p patternDraft) bool { return p.regex == r.Path })
		if i < 0 {
			i = len(h.regexes)
			h.regexes = append(h.regexes, patternDraft{regex: r.Path})
		}
		return &h.regexes[i].entries
	}
	n := &h.tree
	if path := rulePath(r); path != "" {
		for segment := range strings.SplitSeq(path[1:], "/") {
			child := n.children[segment]
			if child == nil {
				child = &nodeDraft{}
				if n.children == nil {
					n.children = map[string]*nodeDraft{}
				}
				n.children[segment] = child
			}
			n = child
		}
	}
	if r.PathKind == Exact {
		return &n.exact
	}
	return &n.prefix
}

// rulePath is the normal form of a rule's path; of a prefix without a slash at
// the end, so that the prefix of everything is empty.
func rulePath(r Rule) string {
	path, _ := normalise(nil, []byte(r.Path), false)
	if r.PathKind != Exact {
		return strings.TrimSuffix(string(path), "/")
	}
	return string(path)
}

// Whole makes a regex, which is valid by itself, match whole values only.
func Whole(regex string) string { return `\A(?:` + regex + `)\z` }

// checkShadowed finds regexes that are never asked.
func (d *draft) checkShadowed() {
	for _, name := range slices.Sorted(maps.Keys(d.hosts)) {
		h := d.hosts[name]
		i := slices.IndexFunc(h.tree.prefix, func(e entry) bool { return e.condition == nil })
		if i < 0 {
			continue
		}
		if name == "" {
			name = "every host"
		}
		for _, p := range h.regexes {
			for _, e := range p.entries {
				d.faults.Add(fmt.Sprintf("rules[%d].path", e.rule),
					"can never match at %s: rules[%d], the prefix /, comes before every regex; leave its path out to make it the default", name, h.tree.prefix[i].rule)
			}
		}
	}
}

// key says what a rule asks for beyond its host, in a canonical form.
func (r Rule) key() string {
	kind, path := r.PathKind, r.Path
	switch {
	case path == "":
		kind = "none"
	case kind != Regex:
		if kind == "" {
			kind = Prefix
		}
		path = rulePath(r)
	}
	return fmt.Sprintf("%s %q %s", kind, path, r.conditionKey())
}

// layout is a draft on its way into a table.
type layout struct {
	t       *Table
	numbers map[string]uint32 // of hosts, by name
}

// table lays the draft out. Hosts and nodes are numbered in the order of their
// names, so that what is asked together lies together.
func (d *draft) table() *Table {
	nodes, labels := 0, 0
	for name, h := range d.hosts {
		nodes += h.tree.size()
		labels += 1 + strings.Count(name, ".")
	}
	l := layout{
		t: &Table{
			hosts: make([]host, 1, 1+len(d.hosts)), labels: make([]label, 1), nodes: make([]node, 1, 1+nodes), patterns: make([][]pattern, 1),
			exact: newIndex(len(d.hosts)), domains: newIndex(labels), segments: newIndex(nodes),
		},
		numbers: make(map[string]uint32, len(d.hosts)),
	}
	names := slices.Sorted(maps.Keys(d.hosts))
	for _, name := range names {
		l.addHost(name, d.hosts[name])
	}
	for _, name := range names {
		h := &l.t.hosts[l.numbers[name]]
		if name != "" {
			// A wildcard does not take its domain itself, so what is above
			// it is what is above a name of that domain.
			h.up = l.t.wild([]byte(strings.TrimPrefix(name, "*.")))
		}
	}
	for i := range l.t.hosts {
		for at := uint32(i); at != 0; at = l.t.hosts[at].up {
			l.t.hosts[i].pathsUp = l.t.hosts[i].pathsUp || l.t.hosts[at].paths
		}
	}
	return l.t
}

// size is the number of nodes from this one down.
func (n *nodeDraft) size() int {
	sum := 1
	for _, child := range n.children {
		sum += child.size()
	}
	return sum
}

func (l *layout) addHost(name string, d *hostDraft) {
	t := l.t
	number := uint32(len(t.hosts))
	l.numbers[name] = number
	h := host{rest: l.list(d.rest), paths: len(d.regexes) > 0}
	if len(d.tree.prefix)+len(d.tree.children) > 0 {
		h.paths = true
		h.root = l.addNode(&d.tree, 0)
	}
	if len(d.regexes) > 0 {
		h.regexes = uint32(len(t.patterns))
		var patterns []pattern
		for _, p := range d.regexes {
			patterns = append(patterns, pattern{regex: regexp.MustCompile(Whole(p.regex)), rules: l.list(p.entries)})
		}
		t.patterns = append(t.patterns, patterns)
	}
	t.hosts = append(t.hosts, h)
	switch domain, wild := strings.CutPrefix(name, "*."); {
	case name == "":
		t.any = number
	case wild:
		l.addWildcard(domain, number)
	default:
		t.exact.add(0, name, number)
	}
}

func (l *layout) addWildcard(domain string, number uint32) {
	t := l.t
	at := uint32(0)
	labels := strings.Split(domain, ".")
	for i := len(labels) - 1; i >= 0; i-- {
		child := t.domains.child(at, []byte(labels[i]))
		if child == 0 {
			child = uint32(len(t.labels))
			t.labels = append(t.labels, label{})
			t.labels[at].inner = true
			t.domains.add(at, labels[i], child)
		}
		at = child
	}
	t.labels[at].host = number
}

// addNode lays out a node and all below. up is the nearest prefix above.
func (l *layout) addNode(d *nodeDraft, up uint32) uint32 {
	number := uint32(len(l.t.nodes))
	l.t.nodes = append(l.t.nodes, node{up: up, inner: len(d.children) > 0, exact: l.list(d.exact), prefix: l.list(d.prefix)})
	if len(d.prefix) > 0 {
		up = number
	}
	for _, segment := range slices.Sorted(maps.Keys(d.children)) {
		l.t.segments.add(number, segment, l.addNode(d.children[segment], up))
	}
	return number
}

// list lays out the entries of one place.
func (l *layout) list(entries []entry) list {
	sortEntries(entries)
	switch {
	case len(entries) == 0:
		return list{rule: None}
	case entries[0].condition == nil:
		return list{rule: entries[0].rule}
	}
	begin := uint32(len(l.t.entries))
	l.t.entries = append(l.t.entries, entries...)
	return list{rule: None, begin: begin, after: uint32(len(l.t.entries))}
}
