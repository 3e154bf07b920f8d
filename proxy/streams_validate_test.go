package proxy

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/proxy/policy"
	"github.com/pharos-lb/pharos/proxy/policy/shed"
	"github.com/pharos-lb/pharos/proxy/tls"
)

func TestValidateStreams(t *testing.T) {
	at := netip.MustParseAddrPort("192.0.2.1:53")
	server := []Server{{Name: "a", Address: netip.MustParseAddrPort("192.0.2.9:53"), Weight: 1}}
	base := func(protocol Protocol) Config {
		return Config{
			Listeners: []Listener{{Name: "front", Addresses: []netip.AddrPort{at}, Protocol: protocol, Pool: "p"}},
			Pools:     []Pool{{Name: "p", Servers: server}},
		}
	}
	for name, row := range map[string]struct {
		protocol Protocol
		change   func(c *Config, l *Listener)
		faults   string // fields; empty: none
	}{
		"tcp":                {TCP, func(c *Config, l *Listener) { l.Idle, l.Log = time.Hour, true }, ""},
		"tls without a pool": {TLS, func(c *Config, l *Listener) { l.Pool, l.ServerNames = "", []ServerName{{[]string{"a.example"}, "p"}} }, ""},
		"udp beside tcp": {UDP, func(c *Config, l *Listener) {
			c.Listeners = append(c.Listeners, Listener{Name: "second", Addresses: l.Addresses, Protocol: TCP, Pool: "p"})
		}, ""},
		"udp beside udp": {UDP, func(c *Config, l *Listener) {
			c.Listeners = append(c.Listeners, Listener{Name: "second", Addresses: l.Addresses, Protocol: UDP, Pool: "p"})
		}, "listeners[1].addresses[0]"},
		"tls beside tcp": {TLS, func(c *Config, l *Listener) {
			c.Listeners = append(c.Listeners, Listener{Name: "second", Addresses: l.Addresses, Protocol: TCP, Pool: "p"})
		}, "listeners[1].addresses[0]"},
		"no pool at all":       {TLS, func(c *Config, l *Listener) { l.Pool = "" }, "listeners[0].pool"},
		"names without tls":    {TCP, func(c *Config, l *Listener) { l.ServerNames = []ServerName{{[]string{"a.example"}, "p"}} }, "listeners[0].server_names"},
		"names without a pool": {TLS, func(c *Config, l *Listener) { l.ServerNames = []ServerName{{[]string{"a.example"}, "q"}} }, "listeners[0].server_names[0].pool"},
		"no names":             {TLS, func(c *Config, l *Listener) { l.ServerNames = []ServerName{{nil, "p"}} }, "listeners[0].server_names[0].names"},
		"a name twice":         {TLS, func(c *Config, l *Listener) { l.ServerNames = []ServerName{{[]string{"a.example", "A.example"}, "p"}} }, "listeners[0].server_names[0].names[1]"},
		"an address as a name": {TLS, func(c *Config, l *Listener) { l.ServerNames = []ServerName{{[]string{"192.0.2.1"}, "p"}} }, "listeners[0].server_names[0].names[0]"},
		"a star alone":         {TLS, func(c *Config, l *Listener) { l.ServerNames = []ServerName{{[]string{"*"}, "p"}} }, "listeners[0].server_names[0].names[0]"},
		"a negative idle":      {TCP, func(c *Config, l *Listener) { l.Idle = -1 }, "listeners[0].idle"},
		"idle with http":       {HTTP, func(c *Config, l *Listener) { l.Idle = 1 }, "listeners[0].idle"},
		"log with http":        {HTTP, func(c *Config, l *Listener) { l.Log = true }, "listeners[0].log"},
		"clients by a field": {TCP, func(c *Config, l *Listener) {
			l.Clients = &shed.ClientConfig{Rate: 1, Key: shed.ByHeader, Name: "X-Key"}
		}, "listeners[0].clients.key"},
		"a header with udp": {UDP, func(c *Config, l *Listener) { l.AcceptProxy = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} }, "listeners[0].accept_proxy"},
		"a mapped prefix": {TCP, func(c *Config, l *Listener) {
			l.AcceptProxy = []netip.Prefix{netip.MustParsePrefix("::ffff:10.0.0.0/104")}
		}, "listeners[0].accept_proxy[0]"},
		"headers to udp":     {UDP, func(c *Config, l *Listener) { c.Pools[0].SendProxy = "v2" }, "listeners[0].pool"},
		"an unknown version": {TCP, func(c *Config, l *Listener) { c.Pools[0].SendProxy = "v3" }, "pools[0].send_proxy"},
		"a negative timeout": {TCP, func(c *Config, l *Listener) { c.Pools[0].Timeouts.Connect = -1 }, "pools[0].timeouts.connect"},
		"tls to servers":     {TCP, func(c *Config, l *Listener) { c.Pools[0].TLS = &tls.ClientConfig{} }, ""},
		"tls within tls":     {TLS, func(c *Config, l *Listener) { c.Pools[0].TLS = &tls.ClientConfig{} }, "listeners[0].pool"},
		"tls to names' servers": {TLS, func(c *Config, l *Listener) {
			l.Pool, l.ServerNames = "", []ServerName{{[]string{"a.example"}, "p"}}
			c.Pools[0].TLS = &tls.ClientConfig{}
		}, "listeners[0].server_names[0].pool"},
		"http2 to servers": {TCP, func(c *Config, l *Listener) { c.Pools[0].HTTP2 = true }, "listeners[0].pool"},
	} {
		t.Run(name, func(t *testing.T) {
			c := base(row.protocol)
			row.change(&c, &c.Listeners[0])
			var fields []string
			if err := c.Validate(); err != nil {
				for _, e := range err.(interface{ Unwrap() []error }).Unwrap() {
					var fault *policy.Fault
					if errors.As(e, &fault) {
						fields = append(fields, fault.Field)
					}
				}
			}
			if got := strings.Join(fields, " "); got != row.faults {
				t.Errorf("faults of %q, want of %q", got, row.faults)
			}
		})
	}
}
