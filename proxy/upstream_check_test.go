package proxy

import (
	cryptotls "crypto/tls"
	"fmt"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/proxy/check"
	"github.com/pharos-lb/pharos/proxy/policy/health"
	"github.com/pharos-lb/pharos/proxy/proxytest"
	"github.com/pharos-lb/pharos/proxy/tls"
)

// Checks come to a server as requests do: by the pool's TLS, and behind a PROXY
// header.
func TestChecksFollowThePool(t *testing.T) {
	cert := selfSigned(t, "server", "web.example", year)
	pair, err := cryptotls.X509KeyPair(cert.Chain, cert.Key)
	if err != nil {
		t.Fatal(err)
	}
	serving := &cryptotls.Config{Certificates: []cryptotls.Certificate{pair}}
	other := selfSigned(t, "other", "web.example", year).Chain
	tests := []struct {
		name, header string
		serving      *cryptotls.Config
		terms        *tls.ClientConfig
		healthy      bool
	}{
		{"TLS", "", serving, webExample(cert.Chain), true},
		{"TLS, another authority", "", serving, webExample(other), false},
		{"TLS, the address is verified", "", serving, &tls.ClientConfig{CA: cert.Chain}, false},
		{"TLS, not verified", "", serving, &tls.ClientConfig{InsecureSkipVerify: true}, true},
		{"version 1", ProxyV1, nil, nil, true},
		{"version 2 and TLS", ProxyV2, serving, webExample(cert.Chain), true},
	}
	for _, tt := range tests {
		for _, kind := range []check.Kind{check.KindTCP, check.KindHTTP} {
			if kind == check.KindTCP && tt.terms == nil {
				continue // it sees nothing of the server
			}
			t.Run(fmt.Sprintf("%s, %s", tt.name, kind), func(t *testing.T) {
				address := behindHeader(t, tt.serving)
				if tt.header == "" {
					address, _ = secureServerWith(t, serving)
				}
				config := pooled(func(p *Pool) {
					p.TLS, p.SendProxy = tt.terms, tt.header
					p.Check = &check.Spec{Kind: kind}
					p.Health = health.Config{Rise: 1, Fall: 1, Interval: 10 * time.Millisecond, Timeout: time.Second}
				}, one(address))
				p := start(t, config)
				proxytest.Eventually(t, fmt.Sprintf("checked, and healthy: %v", tt.healthy), func() bool {
					s := p.Status().Pools[0].Servers[0]
					return !s.LastCheck.IsZero() && s.Healthy == tt.healthy
				})
			})
		}
	}
	t.Run("a change of the pool's terms is one of its checks", func(t *testing.T) {
		address, _ := secureServerWith(t, serving)
		config := pooled(func(p *Pool) {
			p.TLS, p.Check = webExample(other), &check.Spec{Kind: check.KindHTTP}
			p.Health = health.Config{Rise: 1, Fall: 1, Interval: 10 * time.Millisecond, Timeout: time.Second}
		}, one(address))
		p := start(t, config)
		healthy := func() bool { return p.Status().Pools[0].Servers[0].Healthy }
		proxytest.Eventually(t, "unhealthy", func() bool { return p.Status().Pools[0].Checked && !healthy() })
		next := config
		next.Pools = []Pool{config.Pools[0]}
		next.Pools[0].TLS = webExample(cert.Chain)
		apply(t, p, next)
		proxytest.Eventually(t, "healthy", healthy)
	})
}
