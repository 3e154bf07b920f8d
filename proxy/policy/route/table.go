package route

import (
	"bytes"
	"regexp"
	"sync"

	"github.com/pharos-lb/pharos/proxy/policy"
)

// None is what Match and Find return when a request falls under no rule.
const None = -1

// Reason says why a request falls under no rule.
type Reason uint8

// The reasons. Found is the reason of a match. NoRule should be answered with
// 404, the others with 400.
const (
	Found         Reason = iota
	NoRule               // none matches
	BadPath              // no reading: malformed encoding, NUL, or such
	LongPath             // needs normalising, and is too long for it
	AmbiguousPath        // its readings fall under different rules
	reasons              // their number
)

func (r Reason) String() string {
	if r >= reasons {
		return "unknown"
	}
	return [reasons]string{"found", "no rule", "bad path", "long path", "ambiguous path"}[r]
}

// Table is what rules were compiled to. It is immutable, and safe for
// concurrent use.
//
// Hosts, labels and nodes are known by their numbers, which are their places
// in these slices. Number 0 is none; of the labels, it is the root.
type Table struct {
	hosts    []host
	labels   []label
	nodes    []node
	patterns [][]pattern // of each host that has any; the first is none
	entries  []entry

	exact    index  // hosts by name, all under parent 0
	domains  index  // labels under labels, from the right
	segments index  // nodes under nodes
	any      uint32 // the host for rules without hosts
}

// host holds the rules of one host.
type host struct {
	up      uint32 // the next less specific host; it takes all of this one's names
	root    uint32 // of the tree of exact paths and prefixes
	regexes uint32 // in patterns
	rest    list   // rules without a path
	paths   bool   // a rule here looks at the path
	pathsUp bool   // here or on the way up
}

// label is a node of the wildcards' tree, which is read from the right.
type label struct {
	host  uint32 // of the wildcard that ends here
	inner bool   // has children
}

// node is the end of a path of rules, in a tree by segments. The root stands
// for the empty prefix.
type node struct {
	up            uint32 // the nearest node above with a prefix
	inner         bool   // has children
	exact, prefix list   // rules of this path alone; of it and all below
}

// list is the rules of one place, most specific first. A single rule without
// further conditions, as most are, stands in the list itself.
type list struct {
	rule         int32 // None if there is no such
	begin, after uint32
}

// entry is a rule at one place.
type entry struct {
	condition *condition // nil: always holds
	rule      int32
}

// pattern is a regex with its rules.
type pattern struct {
	regex *regexp.Regexp
	rules list
}

// scratch is room for two readings of a path.
type scratch struct{ a, b [maxNormal]byte }

// scratches keeps the room for paths that need normalising, and for regexes,
// through which a buffer on the stack would escape.
var scratches = sync.Pool{New: func() any { return new(scratch) }}

// Match returns the index of the rule that a request falls under, or None.
func (t *Table) Match(r policy.Request) int {
	rule, _ := t.Find(r)
	return rule
}

// Find is Match with the reason of a None.
func (t *Table) Find(r policy.Request) (int, Reason) {
	h := t.host(r.Host())
	if h == 0 {
		return None, NoRule
	}
	path := r.Path()
	if !t.hosts[h].pathsUp || plain(path) || string(path) == "*" {
		return answer(t.find(h, path, r))
	}
	if len(path) > maxNormal {
		return t.findUnread(h, r, LongPath)
	}
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	strict, ok := normalise(s.a[:0], path, false)
	if !ok {
		return t.findUnread(h, r, BadPath)
	}
	lax, ok := normalise(s.b[:0], path, true)
	if !ok {
		return t.findUnread(h, r, BadPath)
	}
	rule := t.find(h, strict, r)
	if !bytes.Equal(strict, lax) && t.find(h, lax, r) != rule {
		return None, AmbiguousPath
	}
	return answer(rule)
}

func answer(rule int) (int, Reason) {
	if rule == None {
		return None, NoRule
	}
	return rule, Found
}

// host returns the most specific host that takes the name.
func (t *Table) host(name []byte) uint32 {
	if n := len(name); n > 0 && name[n-1] == '.' {
		name = name[:n-1] // RFC 3986 section 3.2.2
	}
	if h := t.exact.child(0, name); h != 0 {
		return h
	}
	return t.wild(name)
}

// wild returns the most specific host that takes the name, but for the exact
// one.
func (t *Table) wild(name []byte) uint32 {
	best := t.any
	for at := uint32(0); t.labels[at].inner; {
		i := bytes.LastIndexByte(name, '.')
		if i < 1 {
			break // a wildcard stands for one label or more
		}
		if at = t.domains.child(at, name[i+1:]); at == 0 {
			break
		}
		if h := t.labels[at].host; h != 0 {
			best = h
		}
		name = name[:i]
	}
	return best
}

// find returns the rule for a path that is in normal form, or None.
func (t *Table) find(h uint32, path []byte, r policy.Request) int {
	for h != 0 {
		at := &t.hosts[h]
		if at.paths {
			if rule := t.findPath(at, path, r); rule != None {
				return rule
			}
		}
		if rule := t.first(&at.rest, r); rule != None {
			return rule
		}
		h = at.up
	}
	return None
}

// findPath tries the rules of a host that look at the path.
func (t *Table) findPath(h *host, path []byte, r policy.Request) int {
	if h.root != 0 && path[0] == '/' { // not "*"
		n, whole := t.walk(h.root, path[1:])
		if whole {
			if rule := t.first(&t.nodes[n].exact, r); rule != None {
				return rule
			}
		}
		for n != 0 {
			at := &t.nodes[n]
			if rule := t.first(&at.prefix, r); rule != None {
				return rule
			}
			n = at.up
		}
	}
	patterns := t.patterns[h.regexes]
	for i := range patterns {
		if p := &patterns[i]; p.regex.Match(path) {
			if rule := t.first(&p.rules, r); rule != None {
				return rule
			}
		}
	}
	return None
}

// walk goes down by the segments of a path, given without its first slash, as
// far as there are nodes. whole tells whether it came to the path's end.
func (t *Table) walk(root uint32, rest []byte) (last uint32, whole bool) {
	n := root
	for t.nodes[n].inner {
		i := bytes.IndexByte(rest, '/')
		if i < 0 {
			if child := t.segments.child(n, rest); child != 0 {
				return child, true
			}
			break
		}
		child := t.segments.child(n, rest[:i])
		if child == 0 {
			break
		}
		n, rest = child, rest[i+1:]
	}
	return n, false
}

// findUnread finds a rule without knowing the path, and gives up for why where
// the path matters.
func (t *Table) findUnread(h uint32, r policy.Request, why Reason) (int, Reason) {
	for h != 0 {
		at := &t.hosts[h]
		if at.paths {
			return None, why
		}
		if rule := t.first(&at.rest, r); rule != None {
			return rule, Found
		}
		h = at.up
	}
	return None, NoRule
}

// first returns the first rule of a list whose conditions hold, or None.
func (t *Table) first(l *list, r policy.Request) int {
	if l.begin == l.after {
		return int(l.rule)
	}
	entries := t.entries[l.begin:l.after]
	for i := range entries {
		if e := &entries[i]; e.condition == nil || e.condition.holds(r) {
			return int(e.rule)
		}
	}
	return None
}
