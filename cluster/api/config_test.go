package api

import (
	"slices"
	"strings"
	"testing"

	"github.com/pharos-lb/pharos/cluster/registry"
)

func TestSelect(t *testing.T) {
	config, err := registry.Parse("", []byte(strings.Replace(document, "pool: web}", "pool: web, routes: [{name: a, pool: web}, {name: b, path: /b, pool: other}]}", 1)+`  - name: other
    servers: [{name: b1, address: "10.0.22.2:8080"}, {name: b2, address: "10.0.23.2:8080"}]
`))
	if err != nil {
		t.Fatal(err)
	}
	config.Certificates = []registry.Certificate{{Name: "api"}}
	for _, c := range []struct {
		kind, name string
		found      string
		names      string // of what was picked
		err        string
	}{
		{kind: "vip", found: "vip", names: "web"},
		{kind: "VIPs", name: "web", found: "vip", names: "web"},
		{kind: "listeners", found: "listener", names: "http http/a http/b"},
		{kind: "routes", found: "route", names: "http http/a http/b"},
		{kind: "route", name: "http/b", found: "route", names: "http http/b"},
		{kind: "route", name: "b", err: "http/a, http/b"},
		{kind: "certificates", found: "certificate", names: "api"},
		{kind: "certificate", name: "apo", err: "there are api"},
		{kind: "neighbors", found: "neighbor"},
		{kind: "pools", found: "pool", names: "web web/b1 other other/b1 other/b2"},
		{kind: "pool", name: "other", found: "pool", names: "other other/b1 other/b2"},
		{kind: "server", name: "other/b2", found: "server", names: "other other/b2"},
		{kind: "servers", found: "server", names: "web web/b1 other other/b1 other/b2"},
		{kind: "pool", name: "b1", err: "there are web, other"},
		{kind: "server", name: "b1", err: "other/b2"},
		{kind: "neighbor", name: "tor", err: "none at all"},
		{kind: "gizmo", err: "vip, neighbor"},
	} {
		t.Run(c.kind+" "+c.name, func(t *testing.T) {
			found, part, err := Select(config, c.kind, c.name)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("error %v, want a word of %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, v := range part.VIPs {
				names = append(names, v.Name)
			}
			for _, l := range part.Listeners {
				names = append(names, l.Name)
				for _, r := range l.Routes {
					names = append(names, l.Name+"/"+r.Name)
				}
			}
			for _, c := range part.Certificates {
				names = append(names, c.Name)
			}
			for _, p := range part.Pools {
				names = append(names, p.Name)
				for _, s := range p.Servers {
					names = append(names, p.Name+"/"+s.Name)
				}
			}
			if found != c.found || !slices.Equal(names, strings.Fields(c.names)) {
				t.Errorf("found %s: %v", found, names)
			}
		})
	}
	if len(config.Pools[1].Servers) != 2 || len(config.Listeners[0].Routes) != 2 {
		t.Error("Select changed the configuration that it was given")
	}
}
