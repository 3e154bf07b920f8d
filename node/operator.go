package node

import (
	"fmt"
	"maps"
	"slices"

	"github.com/pharos-lb/pharos/bgp"
	"github.com/pharos-lb/pharos/cluster/fsm"
	"github.com/pharos-lb/pharos/cluster/registry"
	"github.com/pharos-lb/pharos/proxy"
	"github.com/pharos-lb/pharos/proxy/policy/health"
)

// secrets opens what is sealed in the cluster's state. It is
// *security.Identity.
type secrets interface {
	// OpenConfig returns a copy whose private keys and passwords are in clear.
	OpenConfig(registry.Config) (registry.Config, error)
	// OpenSecret opens a secret that was sealed for the purpose.
	OpenSecret(purpose, sealed string) (string, error)
}

// translate gives the proxy's part of what the cluster wants: the configuration
// with its keys in clear, what operators say of servers, and the shared keys. A
// key that this node cannot open is an error: nothing is served without it.
func translate(d fsm.Desired, s secrets) (proxy.Config, error) {
	opened, err := s.OpenConfig(d.Snapshot.Config)
	if err != nil {
		return proxy.Config{}, fmt.Errorf("open the secrets: %w", err)
	}
	pc := withOperator(proxyConfig(opened), d.Servers)
	if pc.TicketKeys, err = ticketKeys(d, s); err != nil {
		return proxy.Config{}, err
	}
	if pc.CookieKeys, err = cookieKeys(d, s); err != nil {
		return proxy.Config{}, err
	}
	return pc, nil
}

// openedState is bgpState of a configuration whose passwords are sealed.
func openedState(c registry.Config, s secrets, self Config, open func(vip string) bool) (bgp.State, error) {
	opened, err := c.MapPasswords(s.OpenSecret)
	if err != nil {
		return bgp.State{}, fmt.Errorf("open the passwords: %w", err)
	}
	return bgpState(opened, self, open)
}

// withOperator returns a configuration in which each server has its id, the time
// of its creation, and the state and weight that an operator gave it. It is
// pure, and does not change c.
func withOperator(c proxy.Config, servers map[string]fsm.Server) proxy.Config {
	c.Pools = slices.Clone(c.Pools)
	for i := range c.Pools {
		pool := &c.Pools[i]
		pool.Servers = slices.Clone(pool.Servers)
		for j := range pool.Servers {
			server := &pool.Servers[j]
			said, ok := servers[fsm.ServerName(pool.Name, server.Name)]
			if !ok {
				continue
			}
			server.ID, server.Created, server.State = said.ID, said.Created, adminState(said.State)
			if said.Weight != nil {
				server.Weight = *said.Weight
			}
		}
	}
	return c
}

// adminState gives an operator's word in the proxy's. One of a newer version is
// passed on, and refused there.
func adminState(s fsm.ServerState) health.Admin {
	switch s {
	case fsm.ServerReady:
		return health.InService
	case fsm.ServerDraining:
		return health.Draining
	case fsm.ServerMaintenance:
		return health.Maintenance
	}
	return health.Admin(s)
}

// beside is what runs with all that stands beside the configuration of a newer
// one. It counts as the old revision still.
func beside(running, newer fsm.Desired) fsm.Desired {
	servers := maps.Clone(running.Servers)
	if servers == nil {
		servers = map[string]fsm.Server{}
	}
	maps.Copy(servers, newer.Servers)
	running.Servers, running.Keys = servers, newer.Keys
	return running
}
