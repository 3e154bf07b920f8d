package node

import (
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pharos-lb/pharos/cluster/registry"
	"github.com/pharos-lb/pharos/node/holder"
	"github.com/pharos-lb/pharos/proxy"
	"github.com/pharos-lb/pharos/proxy/check"
	"github.com/pharos-lb/pharos/proxy/l7/http1"
	"github.com/pharos-lb/pharos/proxy/policy/balance"
	"github.com/pharos-lb/pharos/proxy/policy/health"
	"github.com/pharos-lb/pharos/proxy/policy/route"
	"github.com/pharos-lb/pharos/proxy/policy/shed"
	"github.com/pharos-lb/pharos/proxy/policy/sticky"
	"github.com/pharos-lb/pharos/proxy/site"
	"github.com/pharos-lb/pharos/proxy/tls"
)

func TestProxyConfig(t *testing.T) {
	want := proxy.Config{
		Listeners: []proxy.Listener{{
			Name: "http", Protocol: proxy.HTTP, Pool: "app",
			Addresses: []netip.AddrPort{netip.MustParseAddrPort("198.51.100.1:80"), netip.MustParseAddrPort("[2001:db8:100::1]:80")},
			HTTP: site.HTTP{
				Underscores: site.DropUnderscores, Limits: http1.RequestLimits(), Log: true,
				Header: 10 * time.Second, Idle: time.Minute, Exchange: time.Minute, Tunnel: time.Hour,
			},
		}},
		Pools: []proxy.Pool{{
			Name: "app", Balance: balance.Config{Algorithm: balance.RoundRobinName},
			Limits: shed.Config{RetryBudget: 0.2, RetryMin: 10},
			Check:  &check.Spec{Kind: check.KindHTTP, Method: "GET", Path: "/healthz", Expect: []check.StatusRange{{From: 200, To: 200}}},
			Health: health.Config{
				Interval: time.Second, FastInterval: time.Second, DownInterval: time.Second, Timeout: time.Second, Fall: 3, Rise: 5,
				SlowStart: 5 * time.Minute,
			},
			Timeouts: proxy.PoolTimeouts{Connect: 2 * time.Second, Response: time.Minute, Idle: 4 * time.Second},
			Servers: []proxy.Server{
				{Name: "b1", Address: netip.MustParseAddrPort("10.0.21.2:8080"), Weight: 1},
				{Name: "b2", Address: netip.MustParseAddrPort("10.0.22.2:8080"), Weight: 0, Backup: true},
			},
		}},
	}
	if diff := cmp.Diff(want, proxyConfig(sample()), equateAddrs); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// full is the configuration that has every key.
func full(t *testing.T) registry.Config {
	t.Helper()
	doc, err := os.ReadFile("../cluster/registry/testdata/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c, err := registry.Parse("full.yaml", doc)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestRoutesOfTheWholeConfiguration(t *testing.T) {
	network := netip.MustParsePrefix("10.0.0.0/8")
	want := []proxy.Route{
		{
			Name: "payments",
			Match: route.Rule{
				Hosts: []string{"api.example.com", "*.example.com"}, Path: "/v1/payments", PathKind: route.Prefix, Methods: []string{"GET", "POST"},
				Headers: []route.Field{{Name: "X-Version", Value: "2"}, {Name: "X-Beta", Regex: "a+"}, {Name: "X-Old", Absent: true}, {Name: "X-Any"}},
				Cookies: []route.Field{{Name: "beta", Value: "1"}}, Query: []route.Field{{Name: "q", Value: "a b"}}, Sources: []netip.Prefix{network},
			},
			Targets: []proxy.Target{{Pool: "app", Weight: 90}, {Pool: "shadow", Weight: 0}},
			Mirror:  &proxy.Mirror{Pool: "shadow", Percent: 12.5},
			Rewrite: &site.Rewrite{
				Path: "/v2", Prefix: "/v1/payments", Host: "backend.internal:8080",
				Request:  site.Edits{Set: []http1.Field{site.Field("X-A", "b")}, Add: []http1.Field{site.Field("X-B", "c")}, Remove: []string{"X-C"}},
				Response: site.Edits{Set: []http1.Field{site.Field("X-D", "e")}, Add: []http1.Field{site.Field("X-E", "f")}, Remove: []string{"Server"}},
			},
		},
		{Name: "exact", Match: route.Rule{Path: "/", PathKind: route.Exact}, Targets: []proxy.Target{{Pool: "app", Weight: 1}}},
		{
			Name: "regex", Match: route.Rule{Path: "/u/([0-9]+)", PathKind: route.Regex}, Targets: []proxy.Target{{Pool: "app", Weight: 1}},
			Rewrite: &site.Rewrite{Path: "/user/${1}", Regex: regexp.MustCompile(`\A(?:/u/([0-9]+))\z`)},
		},
		{
			Name: "moved", Match: route.Rule{Hosts: []string{"old.example.com"}},
			Redirect: &site.Redirect{Status: 301, Scheme: "https", Host: "www.example.com", Port: 8443, Path: "/new", Prefix: "/"},
		},
		{
			Name: "closed", Match: route.Rule{Path: "/closed", PathKind: route.Prefix},
			Respond: &site.Respond{Status: 403, Type: "text/plain", Body: []byte("no"), Headers: []http1.Field{site.Field("X-Why", "maintenance")}},
		},
	}
	got := proxyConfig(full(t)).Listeners[0].Routes
	equateRegexps := cmp.Comparer(func(a, b *regexp.Regexp) bool { return a == b || a != nil && b != nil && a.String() == b.String() })
	if diff := cmp.Diff(want, got, equateAddrs, equateRegexps); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTermsOfHTTP(t *testing.T) {
	c := proxyConfig(full(t))
	if got, want := string(c.Listeners[0].HTTP.HSTS), "max-age=31536000; includeSubDomains; preload"; got != want {
		t.Errorf("HSTS = %q, want %q", got, want)
	}
	page := site.Page{Type: "text/html; charset=utf-8", Body: []byte("<h1>Sorry</h1>\n<p>We are back soon.</p>\n")}
	if diff := cmp.Diff(map[int]site.Page{502: page, 503: page}, c.Listeners[0].HTTP.Pages); diff != "" {
		t.Errorf("pages (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(&site.Redirect{Status: 307, Scheme: "https", Port: 8443}, c.Listeners[1].HTTP.RedirectHTTPS); diff != "" {
		t.Errorf("redirect (-want +got):\n%s", diff)
	}
}

func TestTLSOfChecks(t *testing.T) {
	pool := &registry.PoolTLS{ServerName: "app.internal", CA: "authorities", Certificate: "own"}
	tests := []struct {
		name string
		pool *registry.PoolTLS
		own  *registry.CheckTLS
		want *tls.ClientConfig
	}{
		{"in clear", nil, nil, nil},
		{"as the pool", pool, nil, nil},
		{"a name of its own", pool, &registry.CheckTLS{ServerName: "check"}, &tls.ClientConfig{ServerName: "check", CA: []byte("authorities"), Certificate: "own"}},
		{"whoever answers", pool, &registry.CheckTLS{InsecureSkipVerify: true}, &tls.ClientConfig{InsecureSkipVerify: true, Certificate: "own"}},
		{"of a pool in clear", nil, &registry.CheckTLS{ServerName: "check"}, &tls.ClientConfig{ServerName: "check"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := checkTLS(registry.Pool{TLS: tt.pool, HealthCheck: &registry.HealthCheck{TLS: tt.own}})
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A field that is read and ignored would be worse than one that is refused: each
// field of the whole configuration, changed by itself, changes what the node
// carries out.
func TestNoFieldIsIgnored(t *testing.T) {
	c := full(t)
	self := Config{Name: "n1", Addresses: addrs("10.0.0.11", "2001:db8::11")}
	type outcome struct {
		proxy proxy.Config
		bgp   any
		gates []any
		probe any
		arp   []holder.VIP
	}
	carried := func() outcome {
		state, err := bgpState(c, self, func(string) bool { return true })
		o := outcome{proxy: proxyConfig(c), bgp: state}
		if err != nil {
			o.bgp = err.Error()
		}
		for _, v := range c.VIPs {
			o.gates = append(o.gates, v.MinHealthy, v.FailOpen == nil || *v.FailOpen)
		}
		o.probe = probeTargets(c)
		o.arp = arpVIPs(c, self, []string{"n1", "n2"}, func(string) bool { return true }, false)
		return o
	}
	before := carried()
	changes := make(map[string]bool) // by type and field, whether one change of it made a difference
	var walk func(name string, v reflect.Value)
	try := func(name string, v, to reflect.Value) {
		old := reflect.New(v.Type()).Elem()
		old.Set(v)
		v.Set(to)
		changes[name] = changes[name] || !reflect.DeepEqual(before, carried())
		v.Set(old)
	}
	walk = func(name string, v reflect.Value) {
		switch v.Kind() {
		case reflect.Struct:
			if isRecord(v.Type()) {
				for i := range v.NumField() {
					f := v.Type().Field(i)
					walk(v.Type().Name()+"."+f.Name, v.Field(i))
				}
				return
			}
		case reflect.Pointer:
			if !v.IsNil() {
				fresh := reflect.New(v.Type().Elem())
				fresh.Elem().Set(v.Elem())
				v.Set(fresh)
				walk(name, v.Elem())
			}
			return
		case reflect.Slice:
			if v.Len() > 0 {
				try(name, v, v.Slice(1, v.Len()))
			}
			for i := range v.Len() {
				if isRecord(v.Type().Elem()) {
					walk(name, v.Index(i))
				}
			}
			return
		case reflect.Map:
			try(name, v, reflect.Zero(v.Type()))
			return
		}
		try(name, v, another(v))
	}
	walk("", reflect.ValueOf(&c).Elem())
	if len(changes) < 150 {
		t.Errorf("only %d fields were changed", len(changes))
	}
	var ignored []string
	for name, made := range changes {
		if !made {
			ignored = append(ignored, name)
		}
	}
	slices.Sort(ignored)
	if len(ignored) > 0 {
		t.Errorf("ignored:\n%s", strings.Join(ignored, "\n"))
	}
}

func isRecord(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && strings.HasPrefix(t.String(), "registry.")
}

// another is a value that differs from v.
func another(v reflect.Value) reflect.Value {
	to := reflect.New(v.Type()).Elem()
	switch x := v.Interface().(type) {
	case netip.Addr:
		return reflect.ValueOf(x.Next())
	case netip.AddrPort:
		return reflect.ValueOf(netip.AddrPortFrom(x.Addr().Next(), x.Port()))
	}
	switch v.Kind() {
	case reflect.Bool:
		to.SetBool(!v.Bool())
	case reflect.Int, reflect.Int64:
		to.SetInt(v.Int() + int64(time.Second))
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		to.SetUint(v.Uint() + 1)
	case reflect.Float64:
		to.SetFloat(v.Float() + 0.5)
	case reflect.String:
		to.SetString(v.String() + "1")
	default:
		panic(fmt.Sprintf("no other value of %s", v.Type()))
	}
	return to
}

// What the README tells operators to apply is valid, and can be served.
func TestConfigurationOfTheREADME(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```yaml\n")
	doc, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatal("there is no configuration in the README")
	}
	c, err := registry.Parse("README.md", []byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	pc := proxyConfig(c)
	pc.CookieKeys = []sticky.Key{{1}}
	if err := pc.Validate(); err != nil {
		t.Error(err)
	}
}
