package registry

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
)

// The kinds of things that a Change is about, and what it does to them.
const (
	KindVIP         = "vip"
	KindNeighbor    = "neighbor"
	KindCertificate = "certificate"
	KindListener    = "listener"
	KindRoute       = "route"
	KindPool        = "pool"
	KindServer      = "server"

	ActionAdd    = "add"
	ActionChange = "change"
	ActionRemove = "remove"
)

// Change is one difference between two configurations.
type Change struct {
	Kind   string `json:"kind"`
	Name   string `json:"name"`   // of a route: listener/route; of a server: pool/server
	Action string `json:"action"` // add, change or remove
	// Fields are, of a change, the fields that differ, such as
	// "weight: 1 -> 3"; "none" stands for an absent value. Of an addition, they
	// are all fields but the name, such as "weight: 1". Long values are cut
	// short; of a secret, nothing is shown.
	Fields []string `json:"fields,omitempty"`
}

// Diff says what leads from one valid configuration to another: kind by kind
// in the order vip, neighbor, certificate, listener, route, pool, server, by
// name within a kind. Things are known by their names, so a new name is a
// removal and an addition, and their order in the document makes no difference;
// but for that of routes, which decides between those that match alike.
func Diff(from, to Config) []Change {
	before, after := from.things(), to.things()
	var all []Change
	orders := reordered(from.Listeners, to.Listeners)
	for _, kind := range []string{KindVIP, KindNeighbor, KindCertificate, KindListener, KindRoute, KindPool, KindServer} {
		changes := diffKind(kind, before[kind], after[kind])
		if kind == KindListener {
			changes = withOrders(changes, orders)
		}
		all = append(all, changes...)
	}
	return all
}

// reordered gives, by listener, the first route that comes after one that it
// came before.
func reordered(from, to []Listener) map[string]string {
	places := map[string]map[string]int{}
	for _, l := range from {
		places[l.Name] = map[string]int{}
		for i, r := range l.Routes {
			places[l.Name][r.Name] = i
		}
	}
	moved := map[string]string{}
	for _, l := range to {
		last := -1
		for _, r := range l.Routes {
			place, ok := places[l.Name][r.Name]
			if ok && place < last {
				moved[l.Name] = r.Name
				break
			}
			if ok {
				last = place
			}
		}
	}
	return moved
}

// withOrders adds changed orders of routes to the changes of listeners.
func withOrders(changes []Change, moved map[string]string) []Change {
	for name, route := range moved {
		field := "order of routes: " + route + " comes later"
		if i := slices.IndexFunc(changes, func(c Change) bool { return c.Name == name && c.Action == ActionChange }); i >= 0 {
			changes[i].Fields = append(changes[i].Fields, field)
			continue
		}
		changes = append(changes, Change{Kind: KindListener, Name: name, Action: ActionChange, Fields: []string{field}})
	}
	slices.SortFunc(changes, func(a, b Change) int { return cmp.Compare(a.Name, b.Name) })
	return changes
}

// Equal reports whether two valid configurations mean the same: whether Diff
// finds nothing.
func (c Config) Equal(other Config) bool { return len(Diff(c, other)) == 0 }

// thing is what a Change can be about, less the things in it.
type thing struct {
	name   string
	fields node
}

// things gives the parts of a configuration, by kind.
func (c Config) things() map[string][]thing {
	all := map[string][]thing{}
	add := func(kind, name string, v any) {
		all[kind] = append(all[kind], thing{name, describe(reflect.ValueOf(v))})
	}
	for _, v := range c.VIPs {
		add(KindVIP, v.Name, v)
	}
	for _, n := range c.Neighbors {
		add(KindNeighbor, n.Name, n)
	}
	for _, cert := range c.Certificates {
		add(KindCertificate, cert.Name, cert)
	}
	for _, l := range c.Listeners {
		for _, r := range l.Routes {
			add(KindRoute, l.Name+"/"+r.Name, r)
		}
		l.Routes = nil // l is a copy
		add(KindListener, l.Name, l)
	}
	for _, p := range c.Pools {
		for _, s := range p.Servers {
			add(KindServer, p.Name+"/"+s.Name, s)
		}
		p.Servers = nil // p is a copy
		add(KindPool, p.Name, p)
	}
	return all
}

func diffKind(kind string, from, to []thing) []Change {
	before := make(map[string]node, len(from))
	for _, t := range from {
		before[t.name] = t.fields
	}
	var changes []Change
	for _, t := range to {
		old, ok := before[t.name]
		delete(before, t.name)
		if !ok {
			changes = append(changes, Change{Kind: kind, Name: t.name, Action: ActionAdd, Fields: describeAll(t.fields)})
			continue
		}
		if fields := diffFields(old, t.fields); len(fields) > 0 {
			changes = append(changes, Change{Kind: kind, Name: t.name, Action: ActionChange, Fields: fields})
		}
	}
	for name := range before {
		changes = append(changes, Change{Kind: kind, Name: name, Action: ActionRemove})
	}
	slices.SortFunc(changes, func(a, b Change) int { return cmp.Compare(a.Name, b.Name) })
	return changes
}

// leaf is one field that has a value of its own.
type leaf struct {
	path, value string
	secret      bool
}

func leaves(prefix string, n node) []leaf {
	var all []leaf
	for _, p := range n.pairs {
		path := prefix + scalar(p.key)
		switch {
		case p.value.kind == mappingKind && len(p.value.pairs) > 0:
			all = append(all, leaves(path+".", p.value)...)
		case p.value.kind == listKind && len(p.value.items) == 0: // a pool's servers, which are no field of it
		default:
			all = append(all, leaf{path, p.value.flow(), p.value.secret})
		}
	}
	return all
}

// show gives a value as a Change has it.
func (l leaf) show() string {
	const most = 200
	if l.secret {
		return "(secret)"
	}
	if len(l.value) <= most {
		return l.value
	}
	return fmt.Sprintf("%s (%d bytes)", shorten(l.value), len(l.value))
}

func describeAll(n node) []string {
	var all []string
	for _, l := range leaves("", n) {
		if l.path != "name" {
			all = append(all, l.path+": "+l.show())
		}
	}
	return all
}

func diffFields(from, to node) []string {
	after := leaves("", to)
	before := map[string]leaf{}
	for _, l := range leaves("", from) {
		before[l.path] = l
	}
	var fields []string
	for _, l := range after {
		old, ok := before[l.path]
		switch {
		case !ok:
			fields = append(fields, l.path+": none -> "+l.show())
		case old.value == l.value:
		case l.secret:
			fields = append(fields, l.path+": (changed)")
		default:
			fields = append(fields, l.path+": "+old.show()+" -> "+l.show())
		}
		delete(before, l.path)
	}
	for _, l := range leaves("", from) {
		if _, gone := before[l.path]; gone {
			fields = append(fields, l.path+": "+l.show()+" -> none")
		}
	}
	return fields
}
