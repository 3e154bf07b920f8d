package registry

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"
)

// genConfig makes any valid configuration, awkward names and all. Single values
// follow the tags of the fields; what several must be together is mended after.
func genConfig() *rapid.Generator[Config] {
	return rapid.Custom(func(t *rapid.T) Config {
		g := &generator{T: t}
		var c Config
		for i, name := range g.names(0, 2, "certificates") {
			cert := testCertificates()[i]
			cert.Name = name
			if rapid.Bool().Draw(t, "sealed") {
				cert.Key = SealedPrefix + "c2VhbGVk"
			}
			c.Certificates = append(c.Certificates, cert)
			g.certificates = append(g.certificates, name)
		}
		addresses := rapid.SliceOfNDistinct(genAddress(), 3, 6, rapid.ID[netip.Addr]).Draw(t, "addresses")
		for i, name := range g.names(0, 3, "vips") {
			v := g.vip()
			v.Name, v.Addresses = name, addresses[i:i+1]
			c.VIPs = append(c.VIPs, v)
		}
		for i, name := range g.names(0, 3, "neighbors") {
			c.Neighbors = append(c.Neighbors, g.neighbor(name, addresses[i]))
		}
		for i := range c.VIPs {
			g.announce(&c.VIPs[i], c.Neighbors)
		}
		least := 10000
		for i, name := range g.names(0, 4, "pools") {
			p := g.pool(i%2 == 0)
			p.Name = name
			g.pools = append(g.pools, name)
			if i%2 == 0 {
				g.plain = append(g.plain, name)
			}
			least = min(least, len(p.Servers))
			c.Pools = append(c.Pools, p)
		}
		for i := range c.VIPs {
			c.VIPs[i].MinHealthy = min(c.VIPs[i].MinHealthy, least)
		}
		if len(c.VIPs) == 0 || len(c.Pools) == 0 {
			return c
		}
		for i, name := range g.names(0, 3, "listeners") {
			c.Listeners = append(c.Listeners, g.listener(name, rapid.SampledFrom(c.VIPs).Draw(t, "vip").Name, uint16(80+i)))
		}
		return c
	})
}

// generator draws the parts of a Config.
type generator struct {
	*rapid.T
	protocol     Protocol
	certificates []string
	pools        []string // all
	plain        []string // those that any listener can use
}

func (g *generator) names(low, high int, label string) []string {
	return rapid.SliceOfNDistinct(genName(), low, high, rapid.ID[string]).Draw(g.T, label)
}

func genName() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.StringMatching(`[a-z0-9][a-z0-9_.-]{0,62}`),
		rapid.SampledFrom([]string{"true", "no", "null", "on", "y", "1", "1.5", "0x1f", "010", "1e3", "1_0", "n-", "a.", "2026-11-22", "12.30"}),
	)
}

func genAddress() *rapid.Generator[netip.Addr] {
	return rapid.Custom(func(t *rapid.T) netip.Addr {
		n := rapid.Uint16().Draw(t, "address")
		if rapid.Bool().Draw(t, "ipv6") {
			return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 14: byte(n >> 8), 15: byte(n)})
		}
		return netip.AddrFrom4([4]byte{10, 1, byte(n >> 8), byte(n)})
	})
}

func (g *generator) bool(label string) bool { return rapid.Bool().Draw(g.T, label) }

// fill draws the fields of a struct that are required, and some others.
func (g *generator) fill(v reflect.Value) {
	schema := recordOf(v.Type())
	for i := range schema.fields {
		f := &schema.fields[i]
		if len(f.protocols) > 0 && !slices.Contains(f.protocols, string(g.protocol)) {
			continue
		}
		if f.ref == "vips" || f.ref == "certificates" && len(g.certificates) == 0 {
			continue
		}
		if f.required || f.filled || g.bool("has "+f.key) {
			g.value(v.Field(f.index), f)
		}
	}
}

func drawRecord[T any](g *generator) T {
	var v T
	g.fill(reflect.ValueOf(&v).Elem())
	return v
}

func (g *generator) value(v reflect.Value, f *field) {
	t := v.Type()
	switch {
	case f.statuses:
		all := rapid.SliceOfNDistinct(rapid.IntRange(200, 599), 1, 9, rapid.ID[int]).Draw(g.T, f.key)
		if g.bool("sorted") {
			slices.Sort(all)
		}
		v.Set(reflect.ValueOf(all))
	case t == reflect.TypeFor[netip.Prefix]():
		a := genAddress().Draw(g.T, f.key)
		v.Set(reflect.ValueOf(netip.PrefixFrom(a, rapid.IntRange(1, a.BitLen()).Draw(g.T, "bits")).Masked()))
	case t == reflect.TypeFor[netip.AddrPort](): // drawn with the server
	case t.Kind() == reflect.Pointer:
		v.Set(reflect.New(t.Elem()))
		g.value(v.Elem(), f)
	case t.Kind() == reflect.Slice:
		g.list(v, f)
	case t.Kind() == reflect.Map:
		v.Set(reflect.MakeMap(t))
		for i := range rapid.IntRange(1, 3).Draw(g.T, f.key) {
			key := fmt.Sprintf("%s-%d", rapid.SampledFrom([]string{"X-A", "yes", "X_b", "e.f", "!"}).Draw(g.T, "name"), i)
			v.SetMapIndex(reflect.ValueOf(key), reflect.ValueOf(g.text("header_value")))
		}
	case !isScalar(t):
		g.fill(v)
	case t.Kind() == reflect.Bool:
		v.SetBool(g.bool(f.key))
	case t.Kind() == reflect.String:
		v.SetString(g.word(f))
	default:
		g.number(v, f)
	}
}

func (g *generator) list(v reflect.Value, f *field) {
	seen := map[any]bool{}
	for range rapid.IntRange(1, 3).Draw(g.T, f.key) {
		e := reflect.New(v.Type().Elem()).Elem()
		g.value(e, f)
		if isScalar(e.Type()) {
			if seen[e.Interface()] {
				continue
			}
			seen[e.Interface()] = true
		}
		v.Set(reflect.Append(v, e))
	}
}

func (g *generator) word(f *field) string {
	switch {
	case len(f.words) > 0:
		return rapid.SampledFrom(f.words).Draw(g.T, f.key)
	case f.ref == "certificates":
		return rapid.SampledFrom(g.certificates).Draw(g.T, f.key)
	case f.ref == "pools" && g.protocol.HTTP():
		return rapid.SampledFrom(g.pools).Draw(g.T, f.key)
	case f.ref == "pools":
		return rapid.SampledFrom(g.plain).Draw(g.T, f.key)
	case f.format == "name":
		return genName().Draw(g.T, f.key)
	case f.format != "":
		return g.text(f.format)
	}
	return g.text(f.key)
}

// text draws text of a format, or for a key that has none.
func (g *generator) text(format string) string {
	patterns := map[string]string{
		"token": "[!#$%&'*+.^_`|~0-9A-Za-z-]{1,12}", "header": `[X!~][_A-Za-z0-9]{1,6}`,
		"host": `[a-z0-9]{1,5}(\.[a-z]([a-z0-9-]{0,3}[a-z0-9])?){0,2}`, "method": `[A-Z_]{1,4}[0-9]`,
		"path": `/[!-"$-~]{0,20}`, "route_path": `/([!"$&-.0-:<=>@A-Z\[\]^_a-z{|}~]|%20){1,9}z`, "redirect_path": `/([!"&->@-~]|%2f){0,9}`,
		"cookie_path": `/[!-"$-:<-~]{0,9}`, "grpc_service": `([a-zA-Z.]{1,9})?`, "media_type": `[a-z]{1,5}/[a-z+.-]{1,5}(; charset=utf-8)?`,
		"interface": `(eth|br-|bond0\.)[0-9]{1,3}`, "header_value": `([!-~]([ -~é	]{0,9}[!-~é])?)?`, "regexp": `[a-z\\./-]{0,5}([.*+]|\([a-z]*\)|[a-z]\{2,3\}|\[\^"#: \])`,
	}
	switch format {
	case "certificates":
		return rapid.SampledFrom(testCertificates()).Draw(g.T, format).Chain
	case "cipher":
		return rapid.SampledFrom([]string{"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"}).Draw(g.T, format)
	case "host_pattern", "server_name":
		return rapid.SampledFrom([]string{"", "*.", "x."}).Draw(g.T, "wildcard") + g.text("host") + ".example"
	case "authority":
		return rapid.SampledFrom([]string{g.text("host"), "a:8080", "[2001:db8::1]", "[2001:db8::1]:80", "10.0.0.1:1"}).Draw(g.T, format)
	case "name": // of a condition: no format is checked of a parameter
		return rapid.StringMatching(patterns["token"]).Draw(g.T, format)
	case "value":
		return rapid.StringMatching(`[!-~]([ -~é]{0,9}[!-~])?`).Draw(g.T, format)
	case "body":
		return rapid.OneOf(
			rapid.StringMatching(`([!-~ ]{1,9}\n){1,4}([a-z]{1,5})?`), rapid.StringMatching(`[ -~é☃𝄞	\n\r]{0,20}`),
			rapid.SampledFrom([]string{"a\nb", "# a\n# b\n", "- a\n- b", "a: b\nc: d\n", "---\n...\n", "\n\n", "a\n\nb\n", " a\nb\n", "a\n b\n", "|\n>\n", "\"a\n'b", "%a\n@b\n"}),
		).Draw(g.T, format)
	}
	pattern, ok := patterns[format]
	if !ok {
		panic("no text of format " + format)
	}
	s := rapid.StringMatching(pattern).Draw(g.T, format)
	if format == "regexp" {
		if _, err := (&checker{regexps: map[string]int{}}).groups(s); err != nil {
			return "a+"
		}
	}
	if format == "route_path" {
		return strings.NewReplacer("/./", "/", "/../", "/").Replace(s)
	}
	return s
}

func (g *generator) number(v reflect.Value, f *field) {
	if len(f.words) > 0 {
		v.SetInt(int64(magnitude(rapid.SampledFrom(f.words).Draw(g.T, f.key))))
		return
	}
	low, high := f.bounds.low, f.bounds.high
	if f.bounds.off != "" && g.bool("off") {
		low, high = magnitude(f.bounds.off), magnitude(f.bounds.off)
	}
	switch {
	case v.CanFloat():
		n := rapid.IntRange(int(low*1000), int(high*1000)).Draw(g.T, f.key)
		if f.bounds.open && low == f.bounds.low && float64(n) == low*1000 {
			n++
		}
		v.SetFloat(float64(n) / 1000)
	case v.CanUint():
		v.SetUint(rapid.Uint64Range(uint64(low), uint64(high)).Draw(g.T, f.key))
	default:
		unit := int64(1)
		if f.whole {
			unit = int64(time.Second)
		}
		v.SetInt(rapid.Int64Range(int64(low)/unit, int64(high)/unit).Draw(g.T, f.key) * unit)
	}
}
