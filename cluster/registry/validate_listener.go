package registry

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// sockets checks that no two listeners have the same one.
func (c *checker) sockets(listeners []Listener) {
	type socket struct {
		vip  string
		port uint16
		udp  bool
	}
	owners := map[socket]string{}
	for i, l := range listeners {
		if l.VIP == "" || l.Port == 0 {
			continue
		}
		s := socket{l.VIP, l.Port, l.Protocol == ProtocolUDP}
		if other, ok := owners[s]; ok {
			c.add(element("listeners", i)+".port", "port %d of VIP %s is that of listener %s already", l.Port, quote(l.VIP), quote(other))
			continue
		}
		owners[s] = l.Name
	}
}

// listener checks what its fields must be together.
func (c *checker) listener(p string, l Listener) {
	switch {
	case c.has(p, "redirect_https", l) && l.Protocol == ProtocolHTTP:
		if c.has(p, "pool", l) {
			c.add(p+".pool", "cannot stand beside redirect_https, which takes what no route takes")
		}
	case c.has(p, "routes", l) && l.Protocol.HTTP(), c.has(p, "server_names", l) && l.Protocol == ProtocolTLS:
	case !c.has(p, "pool", l):
		c.add(p+".pool", "is required")
	}
	if l.Protocol == ProtocolHTTPS && !c.has(p, "tls", l) {
		c.add(p+".tls", "is required with https")
	}
	if l.TLS != nil {
		c.listenerTLS(p+".tls", *l.TLS)
	}
	if h := l.HSTS; h != nil && h.Preload && (!h.IncludeSubdomains || h.MaxAge != nil && *h.MaxAge < 365*24*time.Hour) {
		c.add(p+".hsts.preload", "needs include_subdomains and a max_age of at least 8760h: browsers' lists refuse less")
	}
	if l.ClientLimit != nil {
		c.clientLimit(p+".client_limit", l.Protocol, *l.ClientLimit)
	}
	names := map[string]int{}
	for i, s := range l.ServerNames {
		for j, name := range s.Names {
			if first, ok := names[name]; ok && first != i {
				c.add(element(element(p+".server_names", i)+".names", j), "%s is in number %d of server_names already", quote(name), first+1)
				continue
			}
			names[name] = i
		}
	}
	pages := map[int]int{}
	for i, e := range l.ErrorPages {
		for j, status := range e.Status {
			if first, ok := pages[status]; ok && first != i {
				c.add(element(element(p+".error_pages", i)+".status", j), "%d has page number %d already", status, first+1)
				continue
			}
			pages[status] = i
		}
	}
	c.routes(p+".routes", l.Routes)
}

func (c *checker) listenerTLS(p string, t ListenerTLS) {
	if t.MinVersion == TLS13 {
		c.useless(p, t, "min_version 1.2 only: they are of TLS 1.2", "ciphers")
	}
	switch t.ClientAuth {
	case "", ClientAuthNone:
		if c.sure(p + ".client_auth") {
			c.useless(p, t, "client_auth optional or require only", "client_ca")
		}
	case ClientAuthOptional, ClientAuthRequire:
		if !c.has(p, "client_ca", t) {
			c.add(p+".client_ca", "is required with client_auth %s", t.ClientAuth)
		}
	}
}

func (c *checker) clientLimit(p string, protocol Protocol, l ClientLimit) {
	byName := l.Key == ClientKeyHeader || l.Key == ClientKeyCookie
	switch {
	case byName && protocol.known() && !protocol.HTTP():
		c.add(p+".key", "is %s, must be address: a %s listener sees no requests", l.Key, protocol)
	case byName && !c.has(p, "name", l):
		c.add(p+".name", "is required with key %s", l.Key)
	case byName && l.Rate == 0 && c.sure(p+".rate"):
		c.add(p+".key", "is of use with rate only: connections are counted by address")
	case !byName && c.sure(p+".key"):
		c.useless(p, l, "key header or cookie only", "name")
	}
	if l.Rate > 0 && float64(l.Burst)/l.Rate > 24*60*60 {
		c.add(p+".burst", "is %d, which takes more than a day to come back at a rate of %v", l.Burst, l.Rate)
	}
	if l.Rate == 0 && c.sure(p+".rate") {
		c.useless(p, l, "rate only", "burst")
		if l.Connections == 0 && c.sure(p+".connections") {
			c.add(p, "limits nothing: give it a rate, connections or both")
		}
	}
}

// uses checks that the listeners that send to a pool can make use of what it is
// told to do.
func (c *checker) uses(cfg Config) {
	users := map[string][]Listener{}
	for _, l := range cfg.Listeners {
		for _, name := range l.Pools() {
			users[name] = append(users[name], l)
		}
		for _, r := range l.Routes {
			if r.Mirror != nil {
				users[r.Mirror.Pool] = append(users[r.Mirror.Pool], l)
			}
		}
	}
	for i, p := range cfg.Pools {
		if c.known["pools"][p.Name] == i && c.sure(element("pools", i)+".name") {
			c.usedBy(element("pools", i), p, users[p.Name])
		}
	}
}

// usedBy checks a pool against the listeners that send to it.
func (c *checker) usedBy(path string, p Pool, users []Listener) {
	refuse := func(l Listener, keys ...string) {
		for _, key := range keys {
			if c.has(path, key, p) {
				c.add(join(path, key), "is of no use to listener %s, which is %s", quote(l.Name), l.Protocol)
			}
		}
	}
	if i := slices.IndexFunc(users, func(l Listener) bool { return l.Protocol == ProtocolUDP }); i >= 0 {
		refuse(users[i], "persistence", "http2", "tls", "send_proxy")
	} else if i := slices.IndexFunc(users, func(l Listener) bool { return l.Protocol == ProtocolTLS }); i >= 0 {
		refuse(users[i], "tls")
	}
	if len(users) == 0 || slices.ContainsFunc(users, func(l Listener) bool { return l.Protocol.HTTP() }) {
		return
	}
	if slices.ContainsFunc(users, func(l Listener) bool { return !l.Protocol.known() }) {
		return
	}
	var names []string
	for _, l := range users[:min(len(users), 3)] {
		names = append(names, fmt.Sprintf("%s (%s)", l.Name, l.Protocol))
	}
	why := "http and https listeners only, those of this pool are " + strings.Join(names, ", ")
	if users[0].Protocol != ProtocolUDP {
		c.useless(path, p, why, "persistence", "http2")
	}
	switch p.Balance {
	case BalanceURIHash, BalanceHeaderHash, BalanceCookieHash:
		c.add(path+".balance", "is %s, of use with %s", p.Balance, why)
	}
}
