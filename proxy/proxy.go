package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/pharos-lb/pharos/proxy/accesslog"
	"github.com/pharos-lb/pharos/proxy/check"
	"github.com/pharos-lb/pharos/proxy/l4"
	"github.com/pharos-lb/pharos/proxy/l7"
	"github.com/pharos-lb/pharos/proxy/l7/engine/choice"
	"github.com/pharos-lb/pharos/proxy/listener"
	"github.com/pharos-lb/pharos/proxy/tls"
)

// Options are what a Proxy needs beside its Config. Fields left at zero take
// the default.
type Options struct {
	Logger *slog.Logger // nil: discard

	ConnectTimeout time.Duration // to one server, where its pool says nothing; default 2 s
	TCPIdleTimeout time.Duration // of a forwarded TCP connection, either way, where its listener says nothing; default 1 h
	Loops          int           // event loops for TCP and HTTP; default: one for each core that Go uses

	// Engine moves the bytes of TCP and HTTP; default choice.Epoll.
	Engine choice.Kind

	// AccessLog takes a line for each request, connection or flow of the
	// listeners that log; nil: none is kept. The proxy runs it.
	AccessLog *accesslog.Log
}

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.ConnectTimeout == 0 {
		o.ConnectTimeout = 2 * time.Second
	}
	if o.TCPIdleTimeout == 0 {
		o.TCPIdleTimeout = tcpIdle
	}
	if o.Engine == "" {
		o.Engine = choice.Epoll
	}
	if o.Loops == 0 {
		o.Loops = runtime.GOMAXPROCS(0)
	}
	return o
}

// Proxy serves one Config at a time. Make one with [New], start it with Run,
// then give it work with Apply.
type Proxy struct {
	opts    Options
	log     *slog.Logger
	http    *l7.Server    // made by Run
	forward *l4.Forwarder // on the loops of http; made by Run

	datagrams *l4.Datagrams // made by Run

	probes probes

	certificates *tls.Store
	nonces       nonces // of cookies

	changes chan struct{}
	started chan struct{} // closed when Run has set all up
	stopped chan struct{} // closed when Run begins to end

	// turn is held (by a value in it) by whoever changes what is served:
	// Apply, BeginDrain, FinishDrain, Run's end. A channel, because waiting
	// for it must end with a context.
	turn chan struct{}
	// group has every goroutine that Apply started: acceptors and pools.
	group  sync.WaitGroup
	checks *check.Runner

	// inherited are sockets of the process before that no Apply has
	// taken up yet. Guarded by turn.
	inherited map[bindKey]*listener.Socket

	mu    sync.RWMutex // guards state for readers; writers also hold turn
	state state
}

// state is what is being served.
type state struct {
	config    Config
	listeners map[string]*listener.Listener
	bindings  map[bindKey]*binding
	pools     map[string]*servedPool
	drain     drainState
	warnings  []string // of the certificates
}

// New returns a Proxy that does nothing until Run.
func New(opts Options) (*Proxy, error) {
	if opts.ConnectTimeout < 0 || opts.TCPIdleTimeout < 0 || opts.Loops < 0 {
		return nil, errors.New("proxy options: a timeout or the number of loops is negative")
	}
	opts = opts.withDefaults()
	log := opts.Logger
	return &Proxy{
		opts:         opts,
		log:          log,
		checks:       check.NewRunner(0),
		certificates: tls.NewStore(nil),
		changes:      make(chan struct{}, 1),
		started:      make(chan struct{}),
		stopped:      make(chan struct{}),
		turn:         make(chan struct{}, 1),
		state: state{
			listeners: make(map[string]*listener.Listener),
			bindings:  make(map[bindKey]*binding),
			pools:     make(map[string]*servedPool),
		},
	}, nil
}

// Run serves until ctx ends, then closes every listener and connection at
// once (for an end without loss, drain first), and returns when all
// goroutines have ended. It may be called once. It fails if the event loops
// cannot be made, or break.
func (p *Proxy) Run(ctx context.Context) error {
	http, err := l7.New(p.log, l7.DefaultTimeouts(), p.opts.Loops, l7.WithAccessLog(p.opts.AccessLog), l7.WithEngine(p.opts.Engine))
	if err != nil {
		close(p.stopped)
		return fmt.Errorf("start the proxy: %w", err)
	}
	p.http = http
	p.forward = l4.New(p.log, p.opts.AccessLog, http.Loops())
	p.datagrams = l4.NewDatagrams(p.log, p.opts.AccessLog, l4.DefaultFlows)
	p.datagrams.Probes = &p.probes.udp
	p.probes.watch(http.Loops())
	stopLoops, cancel := context.WithCancel(context.Background())
	defer cancel()
	loops := make(chan error, 1)
	go func() { loops <- http.Run(stopLoops) }()
	if l := p.opts.AccessLog; l != nil {
		stopLog, cancelLog := context.WithCancel(context.Background())
		written := make(chan struct{})
		go func() {
			defer close(written)
			l.Run(stopLog, func(err error) { p.log.Error("writing the access log failed", "error", err) })
		}()
		// After the loops have ended, and handed their last lines over.
		defer func() { cancelLog(); <-written }()
	}
	close(p.started)

	select {
	case <-ctx.Done():
	case err = <-loops:
		loops <- err
	}
	p.turn <- struct{}{}
	close(p.stopped)
	<-p.turn
	// Nobody gets the turn any more: the state is ours.
	p.stopListening()
	p.dropInherited()
	p.stopPools()
	cutNow, cutNowDone := context.WithCancel(context.Background())
	cutNowDone()
	p.finishConnections(cutNow)
	cancel()
	if err = <-loops; err != nil {
		err = fmt.Errorf("proxy event loop: %w", err)
	}
	p.forward.Close()
	p.group.Wait()
	return err
}

// take waits for the turn to change what is served. The caller gives it back
// by receiving from p.turn.
func (p *Proxy) take(ctx context.Context) error {
	select {
	case <-p.started:
	case <-p.stopped:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case p.turn <- struct{}{}:
	case <-p.stopped:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-p.stopped:
		<-p.turn
		return ErrStopped
	default:
		return nil
	}
}

// Changes receives a value after the health of a server, the state of a
// listener, or the configuration changed. Changes that come before the value
// is received are one: read Status on each.
func (p *Proxy) Changes() <-chan struct{} { return p.changes }

func (p *Proxy) changed() {
	select {
	case p.changes <- struct{}{}:
	default:
	}
}
