package api

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/pharos-lb/pharos/cluster/api/pharosv1"
	"github.com/pharos-lb/pharos/cluster/registry"
)

// The model of a configuration, for those that may know this package alone.
type (
	// Snapshot is what Client.Config gives.
	Snapshot = registry.Snapshot
	// Configuration is a whole configuration, or what Select picks of one.
	Configuration = registry.Config
	// Route is one of a listener.
	Route = registry.Route
	// HealthCheck is that of a pool.
	HealthCheck = registry.HealthCheck
)

// Config asks for the configuration that the node last learned of.
func (c *Client) Config(ctx context.Context) (registry.Snapshot, error) {
	answer, err := c.Get(ctx, &pharosv1.GetRequest{})
	if err != nil {
		return registry.Snapshot{}, err
	}
	snapshot := registry.Snapshot{Version: answer.GetVersion()}
	if err := json.Unmarshal(answer.GetConfigJson(), &snapshot.Config); err != nil {
		return registry.Snapshot{}, fmt.Errorf("read the configuration that the node at %s gave: %w", c.address, err)
	}
	return snapshot, nil
}

// Kinds are the words that Select takes for a kind, in the singular.
func Kinds() []string {
	return []string{
		registry.KindVIP, registry.KindNeighbor, registry.KindCertificate, registry.KindListener, registry.KindRoute,
		registry.KindPool, registry.KindServer,
	}
}

// Select gives the part of a configuration that is of one kind, in the singular
// or plural, and of one name if that is not empty. Routes are given within their
// listeners and servers within their pools; their names are LISTENER/ROUTE and
// POOL/SERVER. An unknown kind, and a name that is
// not there, are errors that say what is.
func Select(config registry.Config, kind, name string) (kindFound string, part registry.Config, err error) {
	asked := kind
	kind = strings.ToLower(kind)
	if !slices.Contains(Kinds(), kind) {
		kind = strings.TrimSuffix(kind, "s")
	}
	var names []string
	switch kind {
	case registry.KindVIP:
		part.VIPs, names = pick(config.VIPs, name, func(v registry.VIP) string { return v.Name })
	case registry.KindNeighbor:
		part.Neighbors, names = pick(config.Neighbors, name, func(n registry.Neighbor) string { return n.Name })
	case registry.KindCertificate:
		part.Certificates, names = pick(config.Certificates, name, func(c registry.Certificate) string { return c.Name })
	case registry.KindRoute:
		for _, listener := range config.Listeners {
			routes, found := pick(listener.Routes, name, func(r registry.Route) string { return listener.Name + "/" + r.Name })
			names = append(names, found...)
			if len(routes) > 0 {
				listener.Routes = routes // listener is a copy
				part.Listeners = append(part.Listeners, listener)
			}
		}
	case registry.KindListener:
		part.Listeners, names = pick(config.Listeners, name, func(l registry.Listener) string { return l.Name })
	case registry.KindPool:
		part.Pools, names = pick(config.Pools, name, func(p registry.Pool) string { return p.Name })
	case registry.KindServer:
		for _, pool := range config.Pools {
			servers, found := pick(pool.Servers, name, func(s registry.Server) string { return pool.Name + "/" + s.Name })
			names = append(names, found...)
			if len(servers) > 0 {
				pool.Servers = servers // pool is a copy
				part.Pools = append(part.Pools, pool)
			}
		}
	default:
		return "", registry.Config{}, fmt.Errorf("there is no kind %q: the kinds are %s", asked, strings.Join(Kinds(), ", "))
	}
	if name != "" && !slices.Contains(names, name) {
		if len(names) == 0 {
			return "", registry.Config{}, fmt.Errorf("there is no %s %q: there is none at all", kind, name)
		}
		return "", registry.Config{}, fmt.Errorf("there is no %s %q: there are %s", kind, name, strings.Join(names, ", "))
	}
	return kind, part, nil
}

// pick gives the elements of a name, or all if it is empty, and all names.
func pick[T any](list []T, name string, nameOf func(T) string) (picked []T, names []string) {
	for _, element := range list {
		names = append(names, nameOf(element))
		if name == "" || nameOf(element) == name {
			picked = append(picked, element)
		}
	}
	return picked, names
}
