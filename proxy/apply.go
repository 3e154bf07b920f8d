package proxy

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/pharos-lb/pharos/proxy/listener"
	"github.com/pharos-lb/pharos/proxy/policy/sticky"
	"github.com/pharos-lb/pharos/proxy/pool"
	"github.com/pharos-lb/pharos/proxy/site"
)

// bindKey identifies a listening socket: its transport and address, so that it
// survives a listener's change of name or protocol. For port 0 every address of
// every listener is a socket of its own.
type bindKey struct {
	udp      bool // else TCP
	address  netip.AddrPort
	listener string // with port 0 only
	index    int    // with port 0 only
}

func keyOf(l Listener, i int) bindKey {
	if a := l.Addresses[i]; a.Port() != 0 {
		return bindKey{udp: l.Protocol == UDP, address: a}
	}
	return bindKey{l.Protocol == UDP, l.Addresses[i], l.Name, i}
}

// binding is a socket, and who accepts on it for whom.
type binding struct {
	socket   *listener.Socket
	owner    *listener.Listener
	protocol Protocol
	accept   acceptor
}

// acceptor takes connections from one socket for one listener.
type acceptor interface {
	// start begins accepting; it cannot fail.
	start()
	// stop ends it, and returns when no further connection will be taken. An
	// acceptor that was never started only gives back what it holds.
	stop()
	// yield is stop where another process has the socket as well.
	yield()
}

// Apply makes config what is served, all of it or nothing: it validates,
// binds every new address, and only then switches over. A request or
// connection sees either the old pool of its listener or the new one.
//
//   - A failed bind is a *BindError, and nothing has changed.
//   - Sockets of addresses that stay are never closed, also when the listener
//     changes its name or protocol.
//   - Servers that stay (same pool, name and address) keep their health and
//     counters.
//   - Addresses that went stop listening after the connections waiting in
//     their queues were taken; established connections live on: TCP ones and
//     UDP flows until they end, HTTP ones until the response in flight is done.
//
// Apply waits until Run has started. Between BeginDrain and FinishDrain it
// changes what is served without ending the drain; after FinishDrain it ends
// the drain: it binds everything anew and serves.
func (p *Proxy) Apply(ctx context.Context, config Config) error {
	if err := config.Validate(); err != nil {
		return fmt.Errorf("proxy configuration: %w", err)
	}
	if err := p.take(ctx); err != nil {
		return fmt.Errorf("apply proxy configuration: %w", err)
	}
	defer func() { <-p.turn }()

	warnings, err := p.loadCertificates(config)
	var made parts
	if err == nil {
		made, err = p.build(config)
	}
	if err != nil {
		// What was served before was loaded once: it is again.
		_, _ = p.loadCertificates(p.state.config)
		return fmt.Errorf("apply proxy configuration: %w", err)
	}
	for _, w := range warnings {
		p.log.Warn("there is something about a certificate", "warning", w)
	}
	p.commit(config, made)
	p.dropInherited()
	p.mu.Lock()
	p.state.warnings = warnings
	p.mu.Unlock()
	p.changed()
	return nil
}

// parts are what has to be made of a configuration before it can be served, and
// may fail to be.
type parts struct {
	drafts   map[string]*draft      // by listener
	terms    map[string]*pool.Terms // by pool
	probers  map[string]*prober     // by pool that has a check
	jars     map[string]*sticky.Jar // by pool that keeps sessions
	bindings map[bindKey]*binding
}

// build makes the parts of config on the certificates that are loaded. It changes
// nothing that is served.
func (p *Proxy) build(config Config) (made parts, err error) {
	if made.drafts, err = p.drafts(config); err != nil {
		return made, err
	}
	if made.terms, err = p.terms(config); err != nil {
		return made, err
	}
	if made.probers, err = p.probers(config, made.terms); err != nil {
		return made, err
	}
	if made.jars, err = p.jars(config); err != nil {
		return made, err
	}
	made.bindings, err = p.prepare(config)
	return made, err
}

// prepare makes the bindings: the sockets and acceptors of those
// that are new or change hands. It changes nothing that is served.
func (p *Proxy) prepare(config Config) (map[bindKey]*binding, error) {
	next := make(map[bindKey]*binding)
	var bound []*listener.Socket
	fail := func(l Listener, i int, err error) error {
		for key, b := range next {
			if b != p.state.bindings[key] {
				b.accept.stop()
			}
		}
		for _, s := range bound {
			_ = s.Close()
		}
		return &BindError{Listener: l.Name, Address: l.Addresses[i], Err: err}
	}
	for _, l := range config.Listeners {
		owner := p.state.listeners[l.Name]
		if owner == nil {
			owner = listener.New(l.Name, &site.Site{HTTP: site.DefaultHTTP()})
		}
		for i := range l.Addresses {
			key := keyOf(l, i)
			old := p.state.bindings[key]
			if old != nil && old.owner == owner && old.protocol == l.Protocol {
				next[key] = old
				continue
			}
			b := &binding{owner: owner, protocol: l.Protocol}
			if old != nil {
				b.socket = old.socket
			} else {
				s, err := p.bind(&l, i)
				if err != nil {
					return nil, fail(l, i, err)
				}
				bound = append(bound, s)
				b.socket = s
			}
			accept, err := p.newAcceptor(b)
			if err != nil {
				return nil, fail(l, i, err)
			}
			b.accept = accept
			next[key] = b
		}
	}
	return next, nil
}

// commit switches over to config with the parts that were made of it. It cannot
// fail.
func (p *Proxy) commit(config Config, made parts) {
	p.mu.Lock()
	old := p.state
	if old.drain.finished {
		p.state.drain = drainState{}
	}
	p.state.config = config
	p.state.bindings = made.bindings
	p.state.pools = p.applyPools(config.Pools, made)
	p.state.listeners = make(map[string]*listener.Listener, len(config.Listeners))
	for _, l := range config.Listeners {
		owner := made.bindings[keyOf(l, 0)].owner
		owner.SetSite(made.drafts[l.Name].site(p.state.pools, owner.Site()))
		owner.Probed().SetSite(probedSite(owner.Site()))
		owner.SetClosing(p.state.drain.begun)
		p.state.listeners[l.Name] = owner
	}
	p.mu.Unlock()

	// Sockets that change hands: nobody may be left accepting for the old
	// owner. Meanwhile connections wait in the kernel's queue.
	for key, b := range made.bindings {
		was := old.bindings[key]
		if was == b {
			continue
		}
		if was != nil {
			was.accept.stop()
		}
		b.accept.start()
		p.log.Info("listening", "listener", b.owner.Name, "address", b.socket.Address(), "protocol", string(b.protocol))
	}
	for key, b := range old.bindings {
		if made.bindings[key] == nil {
			p.closeBinding(b)
		}
	}
	for name, l := range old.listeners {
		if p.state.listeners[name] == nil {
			l.SetClosing(true)
		}
	}
	p.closeIdle()
}

// closeBinding stops listening on an address. Whom the kernel let in already
// is still served.
func (p *Proxy) closeBinding(b *binding) {
	b.accept.stop()
	for b.protocol != UDP {
		fd, ok := b.socket.AcceptQueued()
		if !ok {
			break
		}
		p.adopt(fd, b)
	}
	if err := b.socket.Close(); err != nil {
		p.log.Error("closing a listening socket failed", "address", b.socket.Address(), "error", err)
	}
	p.log.Info("stopped listening", "listener", b.owner.Name, "address", b.socket.Address())
}

// stopListening closes every listening socket, and then forgets them: Status
// must not say that nothing is accepted while something still is. The caller
// holds the turn, so that nobody else changes the bindings.
func (p *Proxy) stopListening() {
	p.mu.RLock()
	bindings := p.state.bindings
	p.mu.RUnlock()
	for _, b := range bindings {
		p.closeBinding(b)
	}
	p.mu.Lock()
	p.state.bindings = make(map[bindKey]*binding)
	p.mu.Unlock()
}

// servedPool is a pool, what draws its consequences, and the checks of its
// servers.
type servedPool struct {
	pool   *pool.Pool
	stop   context.CancelFunc // ends pool.Run
	checks map[*pool.Server]*runningCheck
}

// applyPools updates, makes and retires pools, and returns those of the new
// configuration. The caller holds p.mu and the turn.
func (p *Proxy) applyPools(config []Pool, made parts) map[string]*servedPool {
	served := make(map[string]*servedPool, len(config))
	for _, c := range config {
		s := p.state.pools[c.Name]
		if s == nil {
			s = p.newPool(c.Name)
		}
		spec := pool.Spec{Checked: c.Check != nil, Health: c.Health, FailOpen: !c.FailClosed, Balance: c.Balance, Limits: c.Limits}
		for _, server := range c.Servers {
			spec.Servers = append(spec.Servers, pool.ServerSpec(server))
		}
		s.pool.SetTerms(made.terms[c.Name])
		s.pool.Update(spec)
		s.pool.SetJar(made.jars[c.Name])
		served[c.Name] = s
	}
	p.applyChecks(config, served, made.probers)
	for name, s := range p.state.pools {
		if served[name] == nil {
			s.retire()
		}
	}
	return served
}

func (p *Proxy) newPool(name string) *servedPool {
	ctx, stop := context.WithCancel(context.Background())
	s := &servedPool{pool: pool.New(name, p.log, p.changed), stop: stop, checks: make(map[*pool.Server]*runningCheck)}
	p.group.Go(func() { s.pool.Run(ctx) })
	return s
}

// retire ends a pool's checks, and leaves it to the requests that it has.
func (s *servedPool) retire() {
	for server, running := range s.checks {
		running.task.Stop()
		delete(s.checks, server)
	}
	s.stop()
}
