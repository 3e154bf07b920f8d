package registry

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net/netip"
	"slices"
	"sync"
	"time"

	"pgregory.net/rapid"
)

func (g *generator) vip() VIP {
	v := VIP{
		Mode: ModeBGP, Communities: g.communities(), LargeCommunities: g.largeCommunities(),
		MinHealthy: rapid.IntRange(0, 3).Draw(g.T, "min_healthy"),
		FailOpen:   g.maybeBool("fail_open"), Probe: g.probe(),
	}
	if g.bool("has med") {
		v.MED = ptr(rapid.Uint32().Draw(g.T, "med"))
	}
	if g.bool("answers ARP") {
		v.Mode, v.Communities, v.LargeCommunities, v.MED = ModeARP, nil, nil, nil
		v.ARP = g.arp()
	}
	return v
}

func (g *generator) arp() *ARP {
	if g.bool("without arp") {
		return nil
	}
	a := drawRecord[ARP](g)
	a.Nodes = nil
	for _, name := range g.names(0, 3, "arp nodes") {
		a.Nodes = append(a.Nodes, ARPNode{
			Name: name, Priority: rapid.IntRange(1, 254).Draw(g.T, "priority"),
			Interface: rapid.SampledFrom([]string{"", "eth1", "yes", "1"}).Draw(g.T, "interface"),
		})
	}
	return &a
}

func (g *generator) maybeBool(name string) *bool {
	return rapid.SampledFrom([]*bool{nil, new(bool), ptr(true)}).Draw(g.T, name)
}

func (g *generator) probe() *Probe {
	if rapid.Bool().Draw(g.T, "without a probe") {
		return nil
	}
	interval := time.Duration(rapid.IntRange(20, 1000).Draw(g.T, "interval")) * time.Millisecond
	return &Probe{
		Interval: rapid.SampledFrom([]*time.Duration{nil, new(time.Duration), &interval}).Draw(g.T, "probe"),
		Timeout:  time.Duration(rapid.IntRange(10, 1000).Draw(g.T, "timeout")) * time.Millisecond,
		Fall:     rapid.IntRange(1, 100).Draw(g.T, "fall"),
	}
}

// announce draws what depends on the neighbors that there are.
func (g *generator) announce(v *VIP, neighbors []Neighbor) {
	if len(neighbors) == 0 || v.Mode == ModeARP {
		return
	}
	b := rapid.SampledFrom(neighbors).Draw(g.T, "announced to")
	if g.bool("has neighbors") {
		v.Neighbors = []string{b.Name}
	}
	if g.bool("has nodes") {
		v.Nodes = []string{rapid.SampledFrom(b.Nodes).Draw(g.T, "announced by")}
	}
	switch {
	case !g.bool("has a preference"):
	case b.ASN == b.LocalASN:
		v.LocalPreference = ptr(rapid.Uint32().Draw(g.T, "local_preference"))
	default:
		v.ASPathPrepend = ptr(rapid.IntRange(0, 16).Draw(g.T, "prepend"))
	}
}

func (g *generator) largeCommunities() []string {
	community := rapid.Custom(func(t *rapid.T) string {
		return fmt.Sprintf("%d:%d:%d", rapid.Uint32().Draw(t, "asn"), rapid.Uint32().Draw(t, "function"), rapid.Uint32().Draw(t, "value"))
	})
	return orNil(rapid.SliceOfNDistinct(community, 0, 3, rapid.ID[string]).Draw(g.T, "large communities"))
}

func (g *generator) communities() []string {
	community := rapid.Custom(func(t *rapid.T) string {
		if rapid.Bool().Draw(t, "well-known") {
			return rapid.SampledFrom(slices.Sorted(maps.Keys(wellKnown))).Draw(t, "name")
		}
		return fmt.Sprintf("%d:%d", rapid.Uint16().Draw(t, "asn"), rapid.Uint16().Draw(t, "value"))
	})
	return orNil(rapid.SliceOfNDistinct(community, 0, 3, rapid.ID[string]).Draw(g.T, "communities"))
}

func (g *generator) neighbor(name string, address netip.Addr) Neighbor {
	asn := rapid.Uint32Range(1, 23455)
	seconds := func(low, high int) time.Duration {
		return time.Duration(rapid.IntRange(low, high).Draw(g.T, "seconds")) * time.Second
	}
	b := Neighbor{
		Name: name, Address: address, Port: rapid.Uint16Min(1).Draw(g.T, "port"), ASN: asn.Draw(g.T, "asn"), LocalASN: asn.Draw(g.T, "local"),
		Nodes: g.names(1, 3, "nodes"), HoldTime: seconds(3, 65535), ConnectRetry: seconds(1, 3600),
		Communities: g.communities(), LargeCommunities: g.largeCommunities(),
	}
	if g.bool("within one AS") {
		b.LocalASN = b.ASN
	}
	switch {
	case b.ASN != b.LocalASN:
		b.ASPathPrepend = rapid.IntRange(0, 16).Draw(g.T, "prepend")
	case g.bool("has local preference"):
		b.LocalPreference = ptr(rapid.Uint32().Draw(g.T, "local_preference"))
	}
	if g.bool("has med") {
		b.MED = ptr(rapid.Uint32().Draw(g.T, "med"))
	}
	if g.bool("has bfd") {
		b.BFD = &BFD{
			Interval:   time.Duration(rapid.IntRange(10, 10000).Draw(g.T, "interval")) * time.Millisecond,
			Multiplier: rapid.IntRange(2, 255).Draw(g.T, "multiplier"),
		}
	}
	for _, node := range b.Nodes {
		if g.bool("has next hop") {
			if b.NextHops == nil {
				b.NextHops = map[string][]netip.Addr{}
			}
			b.NextHops[node] = []netip.Addr{genAddress().Draw(g.T, "next hop")}
		}
	}
	if g.bool("has password") {
		b.Password = Secret(rapid.OneOf(rapid.StringMatching(`[ -~]{1,80}`), rapid.Just(SealedPrefix+"c2VhbGVk")).Draw(g.T, "password"))
	}
	if g.bool("has TTL security") {
		b.TTLSecurity = rapid.IntRange(0, 254).Draw(g.T, "TTL security")
	} else if g.bool("has multihop") {
		b.Multihop = rapid.IntRange(1, 255).Draw(g.T, "multihop")
	}
	b.Passive = g.bool("passive")
	source := func(i int) netip.Addr {
		if address.Is4() {
			return netip.AddrFrom4([4]byte{10, 0, byte(i), 5})
		}
		return netip.AddrFrom16([16]byte{0: 0x20, 1: 0x01, 14: byte(i), 15: 5})
	}
	if len(b.Nodes) == 1 && g.bool("has one source") {
		b.Source = map[string]netip.Addr{single: source(0)}
	} else if g.bool("has sources") {
		b.Source = map[string]netip.Addr{b.Nodes[0]: source(0)}
		for i, node := range b.Nodes[1:] {
			if g.bool("has a source of this node") {
				b.Source[node] = source(1 + i)
			}
		}
	}
	return b
}

// pool draws a pool; one that is plain serves listeners of any protocol.
func (g *generator) pool(plain bool) Pool {
	p := drawRecord[Pool](g)
	p.Servers = nil
	addresses := rapid.SliceOfNDistinct(genAddress(), 3, 3, rapid.ID[netip.Addr]).Draw(g.T, "addresses")
	for i, name := range g.names(0, 3, "servers") {
		s := drawRecord[Server](g)
		s.Name, s.Address = name, netip.AddrPortFrom(addresses[i], rapid.Uint16Min(1).Draw(g.T, "port"))
		p.Servers = append(p.Servers, s)
	}
	if plain {
		p.Persistence, p.HTTP2, p.TLS, p.SendProxy = nil, false, nil, ""
		if p.Balance == BalanceURIHash || p.Balance == BalanceHeaderHash || p.Balance == BalanceCookieHash {
			p.Balance = BalanceSourceHash
		}
	}
	named := p.Balance == BalanceHeaderHash || p.Balance == BalanceCookieHash
	switch {
	case named && p.Hash.Name == "":
		p.Hash.Name = "X-User"
	case !named && p.Balance.hashes():
		p.Hash.Name = ""
	case !named:
		p.Hash = Hash{}
	}
	if p.MaxFails == 0 {
		p.FailTimeout = 0
	}
	if o := p.Outlier; o != nil {
		if o.Consecutive5xx == -1 && o.ConsecutiveErrors == -1 {
			o.Consecutive5xx = 1
		}
		o.BaseEjection = min(o.BaseEjection, cmpOr(o.MaxEjection, 5*time.Minute))
		if o.BaseEjection == 0 && o.MaxEjection < 30*time.Second {
			o.MaxEjection = 0
		}
	}
	if a := p.Adaptive; a != nil {
		if a.Max > 0 {
			a.Min = min(a.Min, a.Max)
		}
		if p.MaxRequests > 0 {
			a.Min = min(a.Min, p.MaxRequests)
		}
	}
	if p.Queue == 0 {
		p.QueueTimeout = 0
	} else if p.MaxRequests == 0 {
		p.MaxRequests = 10_000_000
	}
	if p.Retry.Budget == -1 {
		p.Retry.MinPerSecond = 0
	}
	if s := p.Persistence; s != nil {
		if s.Format == CookiePlain {
			s.MaxIdle, s.MaxLife = 0, 0
		}
		if s.MaxLife > 0 {
			s.MaxIdle = min(s.MaxIdle, s.MaxLife)
		}
		s.Secure = s.Secure || s.SameSite == SameSiteNone
	}
	if p.TLS != nil && p.TLS.InsecureSkipVerify {
		p.TLS.CA = ""
	}
	if p.HTTP2 {
		p.SendProxy = ""
	}
	if p.HealthCheck != nil {
		mendCheck(p.HealthCheck)
	}
	return p
}

func cmpOr[T comparable](v, other T) T {
	var zero T
	if v == zero {
		return other
	}
	return v
}

func mendCheck(h *HealthCheck) {
	if h.HTTP == "" {
		h.Method, h.Host, h.Headers, h.ExpectStatus, h.Body = "", "", nil, nil, ""
		return
	}
	h.GRPC = nil
	if len(h.ExpectStatus) == 0 {
		h.ExpectStatus = []int{200}
	}
	if h.Method == "HEAD" {
		h.Method = "GET"
	}
}

func (g *generator) listener(name, vip string, port uint16) Listener {
	protocols := []Protocol{ProtocolTCP, ProtocolUDP, ProtocolTLS, ProtocolHTTP}
	if len(g.certificates) > 0 {
		protocols = append(protocols, ProtocolHTTPS)
	}
	g.protocol = rapid.SampledFrom(protocols).Draw(g.T, "protocol")
	l := drawRecord[Listener](g)
	l.Name, l.VIP, l.Port, l.Protocol = name, vip, port, g.protocol
	if g.protocol == ProtocolHTTPS {
		if l.TLS == nil {
			l.TLS = ptr(drawRecord[ListenerTLS](g))
		}
		t := l.TLS
		if t.MinVersion == TLS13 {
			t.Ciphers = nil
		}
		if asks := t.ClientAuth == ClientAuthOptional || t.ClientAuth == ClientAuthRequire; !asks {
			t.ClientCA = ""
		} else if t.ClientCA == "" {
			t.ClientCA = g.text("certificates")
		}
	}
	if l.RedirectHTTPS != nil {
		l.Pool = ""
	} else if l.Pool == "" && len(l.Routes)+len(l.ServerNames) == 0 {
		l.Pool = g.plain[0]
	}
	if h := l.HSTS; h != nil && h.Preload {
		h.IncludeSubdomains, h.MaxAge = true, nil
	}
	if l.ClientLimit != nil {
		g.mendLimit(l.ClientLimit)
	}
	for i := range l.ServerNames {
		for j := range l.ServerNames[i].Names {
			l.ServerNames[i].Names[j] = fmt.Sprintf("s%d-%d.example", i, j)
		}
	}
	for i := range l.ErrorPages {
		l.ErrorPages[i].Status = []int{400 + i, 500 + i}
	}
	for i := range l.Routes {
		g.mendRoute(&l.Routes[i], i)
	}
	return l
}

func (g *generator) mendLimit(l *ClientLimit) {
	if !g.protocol.HTTP() && l.Key != "" {
		l.Key = ClientKeyAddress
	}
	if l.Key == ClientKeyHeader || l.Key == ClientKeyCookie {
		l.Name, l.Rate = cmpOr(l.Name, "X-User"), max(l.Rate, 0.5)
	} else {
		l.Name = ""
	}
	if float64(l.Burst) > l.Rate*86400 {
		l.Burst = 1
	}
	if l.Rate == 0 {
		l.Burst, l.Connections = 0, max(l.Connections, 1)
	}
}

func (g *generator) mendRoute(r *Route, i int) {
	r.Name = fmt.Sprintf("%d-%s", i, r.Name[:min(len(r.Name), 9)])
	r.Hosts = append(r.Hosts, fmt.Sprintf("r%d.example.com", i)) // no two are the same
	switch rapid.IntRange(0, 3).Draw(g.T, "kind of path") {
	case 0:
		r.Path, r.PathExact = "", ""
	case 1:
		r.Path, r.PathRegex = "", ""
	case 2:
		r.PathExact, r.PathRegex = "", ""
	default:
		r.Path, r.PathExact, r.PathRegex = "", "", ""
	}
	for _, conditions := range [][]Condition{r.Headers, r.Cookies, r.Query} {
		for j := range conditions {
			k := &conditions[j]
			k.Absent = k.Absent && k.Value == "" && k.Regex == ""
			if k.Value != "" {
				k.Regex = ""
			}
		}
	}
	action := rapid.IntRange(0, 3).Draw(g.T, "action")
	if action != 0 {
		r.Pool = ""
	} else if r.Pool == "" {
		r.Pool = g.pools[0]
	}
	if action != 1 {
		r.Split = nil
	} else {
		r.Split = []Share{{Pool: g.pools[0], Weight: rapid.IntRange(1, 256).Draw(g.T, "weight")}}
		if len(g.pools) > 1 {
			r.Split = append(r.Split, Share{Pool: g.pools[1], Weight: rapid.IntRange(0, 256).Draw(g.T, "weight")})
		}
	}
	if action != 2 {
		r.Redirect = nil
	} else {
		d := drawRecord[Redirect](g)
		d.Prefix = d.Prefix && d.Path != "" && r.PathExact == "" && r.PathRegex == ""
		if d.Scheme == "" && d.Host == "" && d.Port == 0 {
			d.Path = cmpOr(d.Path, "/new")
		}
		r.Redirect = &d
	}
	if action != 3 {
		r.Respond = nil
	} else {
		d := drawRecord[Respond](g)
		if slices.Contains([]int{204, 205, 304}, d.Status) {
			d.Status = 200
		}
		if d.Body == "" {
			d.ContentType = ""
		}
		r.Respond = &d
	}
	if action > 1 {
		r.Mirror, r.Rewrite = nil, nil
	}
	if w := r.Rewrite; w != nil && w.Path == "" && w.Host == "" && w.RequestHeaders.isZero() && w.ResponseHeaders.isZero() {
		w.Path = "/"
	}
}

// testCertificates are two certificates with their keys, of two kinds.
var testCertificates = sync.OnceValue(func() []Certificate {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return []Certificate{testCertificate("a.example.com", ec), testCertificate("b.example.com", rsaKey)}
})

func testCertificate(host string, key crypto.Signer) Certificate {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<32, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err)
	}
	return Certificate{
		Name: host, Chain: pemText("CERTIFICATE", der), Key: Secret(pemText("PRIVATE KEY", private)),
		OCSP: []byte{0x30, 0x09, 0x0a, 0x01, 0x00, 0xa0, 0x04, 0x30, 0x02, 0x05, 0x00},
	}
}

func pemText(kind string, der []byte) string {
	var b bytes.Buffer
	if err := pem.Encode(&b, &pem.Block{Type: kind, Bytes: der}); err != nil {
		panic(err)
	}
	return b.String()
}
