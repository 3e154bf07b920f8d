package registry

import (
	"cmp"
	"slices"
)

// The kinds of things that a Change is about, and what it does to them.
const (
	KindVIP      = "vip"
	KindNeighbor = "neighbor"
	KindListener = "listener"
	KindPool     = "pool"
	KindServer   = "server"

	ActionAdd    = "add"
	ActionChange = "change"
	ActionRemove = "remove"
)

// Change is one difference between two configurations.
type Change struct {
	Kind   string `json:"kind"`
	Name   string `json:"name"`   // of a server: pool/server
	Action string `json:"action"` // add, change or remove
	// Fields are, of a change, the fields that differ, such as
	// "weight: 1 -> 3"; "none" stands for an absent value. Of an addition, they
	// are all fields but the name, such as "weight: 1".
	Fields []string `json:"fields,omitempty"`
}

// Diff says what leads from one valid configuration to another: kind by kind
// in the order vip, neighbor, listener, pool, server, by name within a kind.
// Things are known by their names, so their order in the document makes no
// difference, and a new name is a removal and an addition.
func Diff(from, to Config) []Change {
	var all []Change
	all = append(all, diffKind(KindVIP, from.VIPs, to.VIPs, func(v VIP) (string, []entry) { return v.Name, v.entries() })...)
	all = append(all, diffKind(KindNeighbor, from.Neighbors, to.Neighbors, func(n Neighbor) (string, []entry) { return n.Name, n.entries() })...)
	all = append(all, diffKind(KindListener, from.Listeners, to.Listeners, func(l Listener) (string, []entry) { return l.Name, l.entries() })...)
	all = append(all, diffKind(KindPool, from.Pools, to.Pools, func(p Pool) (string, []entry) { return p.Name, p.entries() })...)
	return append(all, diffKind(KindServer, from.servers(), to.servers(), func(s poolServer) (string, []entry) {
		return s.pool + "/" + s.Name, s.entries()
	})...)
}

// Equal reports whether two valid configurations mean the same: whether Diff
// finds nothing.
func (c Config) Equal(other Config) bool { return len(Diff(c, other)) == 0 }

// poolServer is a server with the name of its pool.
type poolServer struct {
	pool string
	Server
}

func (c Config) servers() []poolServer {
	var all []poolServer
	for _, p := range c.Pools {
		for _, s := range p.Servers {
			all = append(all, poolServer{p.Name, s})
		}
	}
	return all
}

func diffKind[T any](kind string, from, to []T, describe func(T) (string, []entry)) []Change {
	before, after := map[string][]entry{}, map[string][]entry{}
	for _, v := range from {
		name, entries := describe(v)
		before[name] = entries
	}
	var changes []Change
	for _, v := range to {
		name, entries := describe(v)
		after[name] = entries
		old, ok := before[name]
		if !ok {
			changes = append(changes, Change{Kind: kind, Name: name, Action: ActionAdd, Fields: describeAll(entries)})
			continue
		}
		if fields := diffEntries(old, entries); len(fields) > 0 {
			changes = append(changes, Change{Kind: kind, Name: name, Action: ActionChange, Fields: fields})
		}
	}
	for name := range before {
		if _, ok := after[name]; !ok {
			changes = append(changes, Change{Kind: kind, Name: name, Action: ActionRemove})
		}
	}
	slices.SortFunc(changes, func(a, b Change) int { return cmp.Compare(a.Name, b.Name) })
	return changes
}

// leaf is one field that has a value of its own.
type leaf struct{ path, value string }

func leaves(prefix string, entries []entry) []leaf {
	var all []leaf
	for _, e := range entries {
		if e.sub != nil {
			all = append(all, leaves(prefix+e.key+".", e.sub)...)
			continue
		}
		all = append(all, leaf{prefix + e.key, e.flowValue()})
	}
	return all
}

func describeAll(entries []entry) []string {
	var all []string
	for _, l := range leaves("", entries) {
		if l.path != "name" {
			all = append(all, l.path+": "+l.value)
		}
	}
	return all
}

func diffEntries(from, to []entry) []string {
	before, after := leaves("", from), leaves("", to)
	find := func(in []leaf, path string) string {
		if i := slices.IndexFunc(in, func(l leaf) bool { return l.path == path }); i >= 0 {
			return in[i].value
		}
		return "none"
	}
	var fields []string
	for _, l := range after {
		if old := find(before, l.path); old != l.value {
			fields = append(fields, l.path+": "+old+" -> "+l.value)
		}
	}
	for _, l := range before {
		if !slices.ContainsFunc(after, func(a leaf) bool { return a.path == l.path }) {
			fields = append(fields, l.path+": "+l.value+" -> none")
		}
	}
	return fields
}
