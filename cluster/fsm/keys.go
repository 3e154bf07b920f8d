package fsm

import (
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/pharos-lb/pharos/cluster/registry"
)

// KeyKind says what shared keys are for.
type KeyKind string

// The kinds.
const (
	TicketKeys KeyKind = "ticket" // of TLS session tickets
	CookieKeys KeyKind = "cookie" // of persistence cookies
)

// KeySet is the keys of one kind, the oldest first.
type KeySet struct {
	Version uint64 `json:"version"` // counts the changes of the set
	Keys    []Key  `json:"keys"`
}

// Key is one shared key with its history.
type Key struct {
	ID      string    `json:"id"`
	Sealed  string    `json:"sealed"`           // never in clear: registry.SealedPrefix
	Makes   bool      `json:"makes,omitempty"`  // tickets or cookies are made with it; the others only read
	Created time.Time `json:"created"`          // when it came
	Retired time.Time `json:"retired,omitzero"` // when it ceased to make; zero: it has not
}

// maxKeys bounds a KeySet.
const maxKeys = 16

// PutKeys replaces the keys of one kind, if they are still those of the version
// Base that the new ones were made from; ErrConflict else. So it does no harm if
// two nodes that both take themselves for the leader rotate at once.
type PutKeys struct {
	Kind KeyKind `json:"kind"`
	Base uint64  `json:"base"`
	Keys []Key   `json:"keys"`
}

func (s State) putKeys(c PutKeys) (State, error) {
	present := s.Keys[c.Kind]
	switch {
	case c.Kind != TicketKeys && c.Kind != CookieKeys:
		return s, invalid("keys of the unknown kind %q", c.Kind)
	case len(c.Keys) == 0 || len(c.Keys) > maxKeys:
		return s, invalid("%d %s keys: 1 to %d are allowed", len(c.Keys), c.Kind, maxKeys)
	case c.Base != present.Version:
		return s, fmt.Errorf("%w: the %s keys are of version %d, not %d", ErrConflict, c.Kind, present.Version, c.Base)
	}
	set := KeySet{Version: present.Version + 1}
	for _, k := range c.Keys {
		if k.ID == "" || !strings.HasPrefix(k.Sealed, registry.SealedPrefix) {
			return s, invalid("%s key %q has no id, or is not sealed", c.Kind, k.ID)
		}
		k.Created, k.Retired = normal(k.Created), normal(k.Retired)
		set.Keys = append(set.Keys, k)
	}
	keys := maps.Clone(s.Keys)
	if keys == nil {
		keys = map[KeyKind]KeySet{}
	}
	keys[c.Kind] = set
	s.Keys = keys
	s.Revision++
	return s, nil
}
