package sni

import "strings"

// Names says who takes a server name: the exact name before wildcards, of
// those the longest, and then the default. It is made by [NewNames] and never
// changes, so that loops read it without locks.
type Names[T any] struct {
	exact     map[string]T
	wildcards map[string]T // by what follows the *, a dot first
	otherwise T
}

// NewNames returns the names of a listener. Keys are host names in any case, or
// wildcards, "*." and a host name, which stand for one label or more in
// front of it. otherwise takes all other names, and clients that ask for none.
func NewNames[T any](by map[string]T, otherwise T) *Names[T] {
	n := &Names[T]{exact: make(map[string]T), wildcards: make(map[string]T), otherwise: otherwise}
	for name, t := range by {
		name = strings.ToLower(name)
		if rest, ok := strings.CutPrefix(name, "*"); ok {
			n.wildcards[rest] = t
		} else {
			n.exact[name] = t
		}
	}
	return n
}

// Valid reports whether a key is one that NewNames takes: a client could ask
// for it, or for what its wildcard stands for.
func Valid(key string) bool {
	_, ok := hostName([]byte(strings.TrimPrefix(key, "*.")))
	return ok
}

// Find returns who takes a name as Parse gives it. It allocates nothing.
func (n *Names[T]) Find(name string) T {
	if t, ok := n.exact[name]; ok {
		return t
	}
	if len(n.wildcards) == 0 {
		return n.otherwise
	}
	for i := 1; i < len(name); i++ { // a * stands for something
		if name[i] == '.' {
			if t, ok := n.wildcards[name[i:]]; ok {
				return t
			}
		}
	}
	return n.otherwise
}
