package proxy

import (
	cryptotls "crypto/tls"
	"sync/atomic"
	"time"

	"github.com/pharos-lb/pharos/proxy/clock"
	"github.com/pharos-lb/pharos/proxy/l7/engine"
	"github.com/pharos-lb/pharos/proxy/listener"
	"github.com/pharos-lb/pharos/proxy/policy/route"
	"github.com/pharos-lb/pharos/proxy/site"
)

// The node probes its own listeners: a connection that comes from a port on the
// loopback interface that was announced here is answered by the proxy itself, on
// the loop that accepted it, and is no traffic: no server, limit, counter or log
// sees it. Anybody who is not the node cannot have such a port at that time, so
// nothing of what clients may send is reserved.
//
//   - HTTP and HTTPS: a session like any other, with its TLS, on a site that
//     answers every request with ProbeStatus. No client certificate is asked for.
//   - TCP, and TLS passed through: the loop sends ProbeWord and closes.
//   - UDP: the datagram comes back.

const (
	// ProbeWord is what a probe of TCP reads.
	ProbeWord = "pharos: served\n"
	// ProbeStatus is the status that a probe of HTTP gets.
	ProbeStatus = 204
)

// probes are the node's own, and what the loops owe its watchdog.
type probes struct {
	tcp, udp listener.Probes
	loops    atomic.Pointer[[]*beat]
}

// beat is one loop, and the call that it has been asked to answer.
type beat struct {
	loop  engine.Loop
	asked atomic.Int64 // on package clock; 0: it has answered
}

func (p *probes) watch(loops []engine.Loop) {
	beats := make([]*beat, len(loops))
	for i, l := range loops {
		beats[i] = &beat{loop: l}
	}
	p.loops.Store(&beats)
}

// ExpectProbe has what comes from a port of the loopback interface answered as a
// probe, until ForgetProbe. The port must be bound by the one who probes, and
// forgotten before it is given back.
func (p *Proxy) ExpectProbe(transport Transport, port uint16) { p.probesOf(transport).Expect(port) }

// ForgetProbe ends that.
func (p *Proxy) ForgetProbe(transport Transport, port uint16) { p.probesOf(transport).Forget(port) }

func (p *Proxy) probesOf(t Transport) *listener.Probes {
	if t == TransportUDP {
		return &p.probes.udp
	}
	return &p.probes.tcp
}

// Beat asks each event loop for an answer, unless it owes one, and tells how
// long the slowest has owed its. Call it at a steady pace, from one goroutine; it
// does not block.
func (p *Proxy) Beat() (owed time.Duration) {
	beats := p.probes.loops.Load()
	if beats == nil {
		return 0
	}
	for _, b := range *beats {
		now := clock.Now()
		if asked := b.asked.Load(); asked != 0 {
			owed = max(owed, now-time.Duration(asked))
			continue
		}
		b.asked.Store(int64(now))
		if !b.loop.Post(func() { b.asked.Store(0) }) {
			b.asked.Store(0) // it has ended, and owes nothing
		}
	}
	return owed
}

// probedSite answers every request itself, on the terms of s.
func probedSite(s *site.Site) *site.Site {
	out := &site.Site{
		Table: probeTable, HTTP: s.HTTP, TLS: withoutClientCertificates(s.TLS),
		Rules: []site.Rule{{Name: "probe", Respond: &site.Respond{Status: ProbeStatus}}},
	}
	out.HTTP.Log = false
	return out
}

// probeTable has one route, which every request falls under.
var probeTable = func() *route.Table {
	t, err := route.Compile([]route.Rule{{}})
	if err != nil {
		panic(err) // a rule without conditions
	}
	return t
}()

// withoutClientCertificates is TLS as c speaks it, but for clients that have none.
func withoutClientCertificates(c *cryptotls.Config) *cryptotls.Config {
	if c == nil || c.GetConfigForClient == nil {
		return c
	}
	out := c.Clone()
	out.GetConfigForClient = func(hello *cryptotls.ClientHelloInfo) (*cryptotls.Config, error) {
		config, err := c.GetConfigForClient(hello)
		if err != nil || config == nil || config.ClientAuth == cryptotls.NoClientCert {
			return config, err
		}
		config = config.Clone()
		config.ClientAuth, config.ClientCAs = cryptotls.NoClientCert, nil
		return config, nil
	}
	return out
}

// probed is the handler of a TCP probe: all is said when the loop has run once.
type probed struct{}

// answerProbe answers a probe of TCP. The answer comes of a call that the loop has
// to get round to, not of the accepting alone.
func answerProbe(loop engine.Loop, c engine.Conn) engine.Handler {
	loop.Post(func() {
		c.Send([]byte(ProbeWord))
		c.Close()
	})
	return probed{}
}

func (probed) Opened()      {}
func (probed) Data([]byte)  {}
func (probed) Drained()     {}
func (probed) EOF()         {}
func (probed) Closed(error) {}
