package registry

import (
	"fmt"
	"reflect"
)

// Validate returns all that is wrong with a configuration, without positions,
// and nil if nothing is. It is for a Config that did not come from Parse, which
// checks the same. The defaults that are stored must be filled in.
func (c Config) Validate() Faults { return validate(c, nil, nil) }

// ValidateWith is Validate, and opens sealed keys to check them like those in
// clear.
func (c Config) ValidateWith(open Opener) Faults { return validate(c, nil, open) }

// validate checks a Config; doc, if it was read from one, tells "left out" from
// "zero".
func validate(cfg Config, doc *reader, open Opener) Faults {
	c := &checker{doc: doc, open: open, regexps: map[string]int{}, known: map[string]map[string]int{
		"vips": {}, "neighbors": {}, "certificates": {}, "pools": {},
	}}
	if doc != nil {
		c.unsure = doc.unsure()
	}
	for i, v := range cfg.VIPs {
		c.index("vips", v.Name, i)
	}
	for i, v := range cfg.Neighbors {
		c.index("neighbors", v.Name, i)
	}
	for i, v := range cfg.Certificates {
		c.index("certificates", v.Name, i)
	}
	for i, v := range cfg.Pools {
		c.index("pools", v.Name, i)
	}
	c.section("vips", cfg)
	c.vips(cfg.VIPs)
	c.section("neighbors", cfg)
	c.neighbors(cfg.Neighbors)
	c.section("certificates", cfg)
	c.certificates(cfg.Certificates)
	c.section("pools", cfg)
	for i, p := range cfg.Pools {
		c.pool(element("pools", i), p)
	}
	c.section("listeners", cfg)
	c.sockets(cfg.Listeners)
	for i, l := range cfg.Listeners {
		c.listener(element("listeners", i), l)
	}
	c.uses(cfg)
	c.announcers(cfg)
	c.minHealthy(cfg)
	return c.faults
}

// index files a name, the first of equals winning. Wrong names are filed as
// well, so that a reference to them is not a second fault.
func (c *checker) index(list, name string, i int) {
	if _, ok := c.known[list][name]; !ok && name != "" {
		c.known[list][name] = i
	}
}

// section checks the fields of the elements of one of the top lists.
func (c *checker) section(key string, cfg Config) {
	f := recordOf(reflect.TypeFor[Config]()).byKey[key]
	if v := reflect.ValueOf(cfg).Field(f.index); v.Len() > 0 {
		c.value(key, v, f)
	}
}

// has reports whether the field of that key of a struct was written, or has a
// value, and could be read.
func (c *checker) has(path, key string, record any) bool {
	v := reflect.ValueOf(record)
	return c.given(join(path, key), v.Field(recordOf(v.Type()).byKey[key].index))
}

// useless refuses fields that were given although they do nothing.
func (c *checker) useless(path string, record any, why string, keys ...string) {
	for _, key := range keys {
		if c.has(path, key, record) {
			c.add(join(path, key), "is of use with %s", why)
		}
	}
}

// alone refuses all but one of the fields, and reports whether there is one.
func (c *checker) alone(path string, record any, keys ...string) bool {
	first := ""
	for _, key := range keys {
		switch {
		case !c.has(path, key, record):
		case first == "":
			first = key
		default:
			c.add(join(path, key), "cannot stand beside %s: write one of them", first)
		}
	}
	return first != ""
}

// minHealthy refuses a threshold that a pool can never reach: it would
// withdraw the VIP from every node at once.
func (c *checker) minHealthy(cfg Config) {
	told := map[int]bool{}
	for _, l := range cfg.Listeners {
		i, known := c.known["vips"][l.VIP]
		if !known || told[i] {
			continue
		}
		for _, name := range l.Pools() {
			j, served := c.known["pools"][name]
			if !served || len(cfg.Pools[j].Servers) >= cfg.VIPs[i].MinHealthy {
				continue
			}
			told[i] = true
			c.add(fmt.Sprintf("vips[%d].min_healthy", i), "is %d, but pool %s of listener %s has only %d servers: the VIP would never be announced",
				cfg.VIPs[i].MinHealthy, quote(name), quote(l.Name), len(cfg.Pools[j].Servers))
			break
		}
	}
}
