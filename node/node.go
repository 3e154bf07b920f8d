// Package node is the composition root of a Pharos node: it starts and stops
// the parts in order, translates the cluster's configuration into theirs, and
// is the only place that decides whether a VIP is announced.
package node

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/pharos-lb/pharos/bgp"
	"github.com/pharos-lb/pharos/cluster/api"
	"github.com/pharos-lb/pharos/cluster/fsm"
	"github.com/pharos-lb/pharos/cluster/lease/agent"
	"github.com/pharos-lb/pharos/cluster/member"
	"github.com/pharos-lb/pharos/cluster/security"
	"github.com/pharos-lb/pharos/cluster/store"
	"github.com/pharos-lb/pharos/node/handover"
	"github.com/pharos-lb/pharos/node/holder"
	"github.com/pharos-lb/pharos/node/probe"
	"github.com/pharos-lb/pharos/proxy"
	"github.com/pharos-lb/pharos/proxy/accesslog"
	"github.com/pharos-lb/pharos/proxy/l7/engine/choice"
	"github.com/pharos-lb/pharos/vip/addr"
)

// Options are what a node needs beside the files in its directory.
type Options struct {
	Dir     string // the data directory, made by `pharos init` or `pharos join`
	Version string // of the software, for status
	Logger  *slog.Logger
	// Process is this process's place among those that run the node one after
	// the other. nil: it is the only one, and cannot be upgraded.
	Process *handover.Process
}

// Node is one member of a cluster, in this process.
type Node struct {
	opts     Options
	config   Config
	logger   *slog.Logger
	identity *security.Identity
	started  time.Time

	speaker    *bgp.Speaker
	addrs      *addr.Manager
	proxy      *proxy.Proxy
	vigil      *probe.Vigil
	reconciler *reconciler
	holder     *holder.Holder

	port    *net.TCPListener // the control port; each control plane has a descriptor of its own
	mux     *security.Mux
	store   *store.Store
	known   bool // there was Raft state before: the node has been a member
	leases  *agent.Agent
	members *member.Membership
	api     *api.Server
	joins   *security.JoinServer

	upgrades chan upgradeOrder
	ended    chan struct{} // closed when Run takes no more upgrades

	failuresMu sync.Mutex
	failures   []string // parts of the control plane that have stopped, and why
}

// New reads and checks all that a node has on disk and takes its control port,
// so that what cannot work is told before anything runs. It starts nothing. A
// successor of a running process leaves the control plane to that one, until
// it is released.
func New(opts Options) (_ *Node, err error) {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	n := &Node{opts: opts, started: time.Now(), upgrades: make(chan upgradeOrder), ended: make(chan struct{})}
	defer func() {
		if err != nil {
			n.refuse(err)
		}
	}()
	if n.config, err = LoadConfig(opts.Dir); err != nil {
		return nil, err
	}
	n.logger = opts.Logger.With("node", n.config.Name)
	if n.identity, err = security.Load(opts.Dir); err != nil {
		return nil, err
	}
	if n.identity.Name() != n.config.Name {
		return nil, fmt.Errorf("the certificate in %s is of node %q, but the node file names %q: a node cannot be renamed, join it anew",
			security.Path(opts.Dir), n.identity.Name(), n.config.Name)
	}
	if err = n.newDataPlane(); err != nil {
		return nil, err
	}
	if n.predecessor() != nil {
		return n, nil
	}
	if err = n.takePort(nil); err != nil {
		return nil, err
	}
	if err = n.openControl(); err != nil {
		_ = n.port.Close()
		return nil, err
	}
	return n, nil
}

// predecessor is the process that runs the node now; nil: none does.
func (n *Node) predecessor() *handover.Conn {
	if n.opts.Process == nil {
		return nil
	}
	return n.opts.Process.Predecessor()
}

// takePort takes the control port: the given one, if it is of the address in
// the node file, or a new one.
func (n *Node) takePort(inherited *net.TCPListener) error {
	if inherited != nil {
		if inherited.Addr().String() == n.config.Address {
			n.port = inherited
			return nil
		}
		_ = inherited.Close()
	}
	l, err := net.Listen("tcp", n.config.Address)
	if err != nil {
		return fmt.Errorf("take the control port: %w: is a pharos running here already, or is the address not this machine's? (address in %s)",
			err, filepath.Join(n.opts.Dir, configFile))
	}
	n.port = l.(*net.TCPListener)
	return nil
}

// openControl makes the parts of the control plane, and starts none. It may be
// called again after they have stopped.
func (n *Node) openControl() (err error) {
	listener, err := again(n.port)
	if err != nil {
		return fmt.Errorf("take the control port: %w", err)
	}
	defer func() {
		if err != nil {
			_ = listener.Close()
		}
	}()
	n.mux = security.NewMux(security.MuxConfig{Listener: listener, Identity: n.identity, Logger: n.logger})
	n.leases = n.newLeases()
	if n.known, err = store.HasState(n.opts.Dir); err != nil {
		return err
	}
	if n.store, err = store.Open(n.storeConfig()); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = n.store.Close()
		}
	}()
	if err = gossipPortFree(n.config.Gossip); err != nil {
		return err
	}
	if n.members, err = member.New(n.memberConfig()); err != nil {
		return err
	}
	n.api, err = api.NewServer(api.Config{
		Identity: n.identity, Cluster: clusterAPI{n}, Node: nodeAPI{n}, Liveness: livenessAPI{n}, Logger: n.logger,
	})
	if err != nil {
		return err
	}
	n.joins = security.NewJoinServer(n.identity, n.api.Admitter(), n.logger)
	return nil
}

// again gives a further listener on the same socket: what waits in its queue
// is lost only when the last one is closed.
func again(l *net.TCPListener) (net.Listener, error) {
	file, err := l.File()
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // FileListener duplicates it
	return net.FileListener(file)
}

// openAccessLog opens what the node file names; nil for none.
func openAccessLog(dir, path string) (*accesslog.Log, error) {
	if path == switchedOff {
		return nil, nil
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	l, err := accesslog.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w: mend that, or name another file as access_log in the node file, or %q for none", err, switchedOff)
	}
	return l, nil
}

func (n *Node) newDataPlane() (err error) {
	n.speaker = bgp.New(bgp.Config{Logger: n.logger})
	n.addrs = addr.New(addr.Config{StateFile: filepath.Join(n.opts.Dir, "addresses.json"), Logger: n.logger})
	access, err := openAccessLog(n.opts.Dir, n.config.AccessLog)
	if err != nil {
		return err
	}
	if n.proxy, err = proxy.New(proxy.Options{Logger: n.logger, Engine: choice.Kind(n.config.Engine), AccessLog: access}); err != nil {
		return err
	}
	draining, err := loadDraining(n.opts.Dir)
	if err != nil {
		return err
	}
	n.vigil = newVigil(n.proxy, n.opts.Dir, n.logger)
	n.holder = n.newHolder()
	n.reconciler = newReconciler(n.config, n.speaker, n.addrs, n.proxy, stateFiles{
		secrets:      n.identity,
		saveApplied:  func(d fsm.Desired) error { return store.SaveApplied(n.opts.Dir, d) },
		saveDraining: func(d bool) error { return saveDraining(n.opts.Dir, d) },
		draining:     draining,
		vitals:       n.vigil,
		answers:      n.holder,
	}, n.logger)
	return nil
}

func (n *Node) storeConfig() store.Config {
	return store.Config{
		Dir: n.opts.Dir, Name: n.config.Name, Address: n.config.Address,
		Transport: raftTransport{n.mux.Raft(), n.identity}, Logger: n.logger,
	}
}

// raftTransport carries Raft over the control port.
type raftTransport struct {
	net.Listener
	identity *security.Identity
}

func (t raftTransport) Dial(address string, timeout time.Duration) (net.Conn, error) {
	return t.identity.DialRaft(context.Background(), address, timeout)
}

// noteFailure has status tell of a part that stopped.
func (n *Node) noteFailure(part string, err error) {
	n.failuresMu.Lock()
	defer n.failuresMu.Unlock()
	n.failures = append(n.failures, fmt.Sprintf("%s has stopped, and starts again only with the node; serving goes on: %v", part, err))
}

// serveLastApplied makes a restarted node serve before it has found anybody.
func (n *Node) serveLastApplied() {
	desired, ok, err := store.LoadApplied(n.opts.Dir)
	if err != nil {
		n.logger.Error("the last applied configuration cannot be read, waiting for the cluster's", "error", err)
	}
	if ok {
		n.logger.Info("serving the last applied configuration", "version", desired.Snapshot.Version)
		n.reconciler.Offer(desired)
	}
}

// followStore hands each change of what the cluster wants to the reconciler.
// Before the first configuration there is nothing to do.
func (n *Node) followStore(ctx context.Context) error {
	for {
		state, next := n.store.Watch()
		if state.Snapshot.Version > 0 {
			n.reconciler.Offer(state.Desired)
		}
		select {
		case <-next:
		case <-ctx.Done():
			return nil
		}
	}
}

// register makes this node a voter at its present address, if it is not one.
func (n *Node) register(ctx context.Context) error {
	if n.known {
		if _, _, err := n.store.WaitLeader(ctx); err != nil {
			return err
		}
		self := store.Voter{Name: n.config.Name, Address: n.config.Address}
		if slices.Contains(n.store.Voters(), self) {
			return nil
		}
	}
	return n.api.RegisterAt(ctx, n.config.Address, n.peerAddresses)
}

// peerAddresses lists control addresses of the other members.
func (n *Node) peerAddresses() []string {
	seen := map[string]bool{n.config.Address: true}
	var out []string
	add := func(address string) {
		if !seen[address] {
			seen[address] = true
			out = append(out, address)
		}
	}
	for _, m := range n.store.State().Members {
		add(m.Address)
	}
	for _, v := range n.store.Voters() {
		add(v.Address)
	}
	for _, p := range n.config.Peers {
		add(p)
	}
	return out
}

// gossipSeeds are where the other members' heartbeats are found. Members
// gossip on the port that this node does, at their control address.
func (n *Node) gossipSeeds() []string {
	own, err := parseHostPort(n.config.Gossip)
	if err != nil {
		return nil // Validate has refused it long ago
	}
	var out []string
	for _, control := range n.peerAddresses() {
		if ap, err := parseHostPort(control); err == nil {
			out = append(out, netip.AddrPortFrom(ap.Addr(), own.Port()).String())
		}
	}
	return out
}
