package fsm

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pharos-lb/pharos/cluster/registry"
)

// Server is what stands beside a server's configuration. It lives as long as
// the configuration has a server of that name in that pool, whatever else of
// it changes.
type Server struct {
	ID      string    `json:"id"`               // a UUID
	Created time.Time `json:"created,omitzero"` // zero: by a version that did not note it
	// State is the operator's word, which no configuration undoes.
	State  ServerState `json:"state,omitempty"`
	Weight *int        `json:"weight,omitempty"` // in place of the configured one; 0 to 256
}

// ServerState is an operator's word on a server.
type ServerState string

// The states.
const (
	ServerReady       ServerState = ""            // takes work while it is healthy
	ServerDraining    ServerState = "draining"    // takes no new work, keeps persisted sessions
	ServerMaintenance ServerState = "maintenance" // takes nothing, and is not checked
)

// MaxWeight is the largest weight of a server.
const MaxWeight = 256

// OperateServers changes what stands beside servers: of all that are named, or
// of none. Fields that are nil leave things as they are. What is so already is
// no change, and no error.
type OperateServers struct {
	Servers []string     `json:"servers"` // POOL/SERVER
	State   *ServerState `json:"state,omitempty"`
	Weight  *int         `json:"weight,omitempty"`
	// ResetWeight takes the weight away, so that the configured one holds.
	ResetWeight bool `json:"reset_weight,omitempty"`
}

// ServerName is how a server is known in the whole cluster: POOL/SERVER.
func ServerName(pool, server string) string { return pool + "/" + server }

// serversOf gives what stands beside the servers of a configuration: of those
// that were there before, as it was.
func serversOf(c registry.Config, before map[string]Server, seed []byte, at time.Time) map[string]Server {
	servers := map[string]Server{}
	if len(seed) == 0 {
		at = time.Time{} // a snapshot of that version does not say it either
	}
	for _, p := range c.Pools {
		for _, s := range p.Servers {
			name := ServerName(p.Name, s.Name)
			server, ok := before[name]
			if !ok {
				server = Server{ID: serverID(seed, name), Created: at}
			}
			servers[name] = server
		}
	}
	if len(servers) == 0 {
		return nil
	}
	return servers
}

// serverID makes a UUID (version 8, RFC 9562 section 5.8) of a seed and a name.
func serverID(seed []byte, name string) string {
	h := sha256.New()
	fmt.Fprintf(h, "pharos server\x00%d\x00", len(seed))
	h.Write(seed)
	h.Write([]byte(name))
	b := h.Sum(nil)[:16]
	b[6] = b[6]&0x0f | 0x80
	b[8] = b[8]&0x3f | 0x80
	text := hex.EncodeToString(b)
	return strings.Join([]string{text[:8], text[8:12], text[12:16], text[16:20], text[20:]}, "-")
}

func (s State) operateServers(c OperateServers) (State, error) {
	switch {
	case len(c.Servers) == 0:
		return s, invalid("no server is named")
	case c.State == nil && c.Weight == nil && !c.ResetWeight:
		return s, invalid("nothing is to be changed")
	case c.State != nil && *c.State != ServerReady && *c.State != ServerDraining && *c.State != ServerMaintenance:
		return s, invalid("state %q is not known", *c.State)
	case c.Weight != nil && c.ResetWeight:
		return s, invalid("a weight cannot be set and reset at once")
	case c.Weight != nil && (*c.Weight < 0 || *c.Weight > MaxWeight):
		return s, invalid("weight %d: 0 to %d are allowed", *c.Weight, MaxWeight)
	}
	if err := s.knows(c.Servers); err != nil {
		return s, err
	}
	servers, changed := maps.Clone(s.Servers), false
	for _, name := range c.Servers {
		old := servers[name]
		server := old
		if c.State != nil {
			server.State = *c.State
		}
		if c.Weight != nil {
			weight := *c.Weight
			server.Weight = &weight
		}
		if c.ResetWeight {
			server.Weight = nil
		}
		servers[name] = server
		changed = changed || server.State != old.State || !equal(server.Weight, old.Weight)
	}
	if changed {
		s.Servers = servers
		s.Revision++
	}
	return s, nil
}

// knows is an error if one of the servers is not there: which, and what it was
// probably meant to be.
func (s State) knows(names []string) error {
	var unknown []string
	for _, name := range names {
		if _, ok := s.Servers[name]; ok {
			continue
		}
		text := fmt.Sprintf("%q", name)
		if near := registry.Nearest(name, slices.Sorted(maps.Keys(s.Servers))); near != "" {
			text += fmt.Sprintf(" (did you mean %q?)", near)
		}
		unknown = append(unknown, text)
	}
	if len(unknown) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrServerUnknown, strings.Join(unknown, ", "))
}

func equal(a, b *int) bool { return a == b || a != nil && b != nil && *a == *b }
