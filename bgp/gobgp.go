package bgp

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	gobgplog "github.com/osrg/gobgp/v3/pkg/log"
	"github.com/osrg/gobgp/v3/pkg/server"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// This is the only file that knows GoBGP. One engine, that is one embedded
// BgpServer, serves one neighbor, so that the local ASN, next hops and
// attributes are the session's own, and no change touches an unrelated one.
//
// GoBGP v3.37.0 never talks to the router itself: it dials 1 to 2 s late, and
// holds a lost session in Idle for a fixed 5 s (fsm.go: holdtimeIdle; the
// setting idle-hold-time-after-reset counts for an administrative reset only).
// So a session here dials the router, and then hands GoBGP the connection as
// an incoming one, over loopback, to a peer that is made for that connection
// and deleted with it: there is no idle time left to wait for.

// engine is one GoBGP server. Its methods are not safe for concurrent use with
// stop, otherwise they are.
type engine struct {
	params params
	log    *slog.Logger
	server *server.BgpServer
	hook   *hook
	port   int           // where GoBGP listens, on 127.0.0.1
	served chan struct{} // closed when Serve has ended
}

// hook hears of every step of GoBGP's main goroutine, on that goroutine.
type hook struct {
	stepped chan struct{}         // of one slot: an FSM changed since last looked
	order   atomic.Pointer[order] // to be obeyed at the end of the step that armed it
	armed   bool                  // of the main goroutine alone
}

// orderKey names the policy whose deletion carries an order. GoBGP logs that
// deletion on its main goroutine and within the step: so the hook knows that
// the step which ends next is that call's own, and its caller has its answer.
// (An order obeyed at the end of any other step would leave that call
// unanswered for good.)
const orderKey = "pharos order"

// order stops GoBGP's main goroutine: until release is closed, or, without a
// release, for good.
type order struct {
	obeyed  chan struct{}
	release chan struct{}
}

func (h *hook) Observe(op server.FSMOperation, _, _ time.Duration) {
	switch op {
	case server.FSMMessage:
		select {
		case h.stepped <- struct{}{}:
		default:
		}
	case server.FSMMgmtOp:
		if !h.armed {
			return
		}
		h.armed = false
		o := h.order.Swap(nil)
		close(o.obeyed)
		if o.release == nil {
			// Serve has no other end: without this, every neighbor that was
			// ever removed would leave a goroutine behind.
			runtime.Goexit()
		}
		<-o.release
	}
}

// newEngine starts a GoBGP server for one neighbor, without a session yet.
// others are all engines that live: StartBgp writes variables that GoBGP
// shares between its servers, so they are held still meanwhile.
func newEngine(p params, others []*engine, log *slog.Logger) (*engine, error) {
	e := &engine{
		params: p,
		log:    log,
		hook:   &hook{stepped: make(chan struct{}, 1)},
		served: make(chan struct{}),
	}
	e.server = server.NewBgpServer(server.LoggerOption(gobgpLogger{log, e.hook}), server.TimingHookOption(e.hook))
	go func() {
		defer close(e.served)
		e.server.Serve()
	}()
	for _, o := range others {
		defer o.pause()()
	}
	if err := e.start(); err != nil {
		e.stop()
		return nil, fmt.Errorf("start a BGP engine for neighbor %s: %w", p.name, err)
	}
	if err := e.rejectAll(); err != nil {
		e.stop()
		return nil, fmt.Errorf("set the import policy for neighbor %s: %w", p.name, err)
	}
	return e, nil
}

// start lets GoBGP listen on a free port of the loopback interface. GoBGP
// takes a port number only, so a free one is found first, and another one if
// somebody else was faster.
func (e *engine) start() error {
	const attempts = 10
	var err error
	for range attempts {
		var l net.Listener
		if l, err = net.Listen("tcp4", "127.0.0.1:0"); err != nil {
			return err
		}
		e.port = l.Addr().(*net.TCPAddr).Port
		if err = l.Close(); err != nil {
			return err
		}
		err = e.server.StartBgp(context.Background(), &api.StartBgpRequest{Global: &api.Global{
			Asn:             e.params.localASN,
			RouterId:        e.params.routerID.String(),
			ListenPort:      int32(e.port),
			ListenAddresses: []string{"127.0.0.1"},
		}})
		if err == nil {
			return nil
		}
	}
	return err
}

// rejectAll makes GoBGP refuse every route but our own, which pass its import
// policy too. The relay lets no UPDATE through in the first place: this is the
// second line.
func (e *engine) rejectAll() error {
	own := &api.Policy{Name: "own", Statements: []*api.Statement{{
		Name:       "own",
		Conditions: &api.Conditions{RouteType: api.Conditions_ROUTE_TYPE_LOCAL},
		Actions:    &api.Actions{RouteAction: api.RouteAction_ACCEPT},
	}}}
	if err := e.server.AddPolicy(context.Background(), &api.AddPolicyRequest{Policy: own}); err != nil {
		return err
	}
	return e.server.SetPolicyAssignment(context.Background(), &api.SetPolicyAssignmentRequest{
		Assignment: &api.PolicyAssignment{
			Name:          "global",
			Direction:     api.PolicyDirection_IMPORT,
			Policies:      []*api.Policy{{Name: "own"}},
			DefaultAction: api.RouteAction_REJECT,
		},
	})
}

// pause holds GoBGP's main goroutine still until the returned function is called.
func (e *engine) pause() (resume func()) {
	o := &order{obeyed: make(chan struct{}), release: make(chan struct{})}
	e.give(o)
	return func() { close(o.release) }
}

func (e *engine) give(o *order) {
	e.hook.order.Store(o)
	p := &api.Policy{Name: orderKey}
	_ = e.server.AddPolicy(context.Background(), &api.AddPolicyRequest{Policy: p})
	_ = e.server.DeletePolicy(context.Background(), &api.DeletePolicyRequest{Policy: p, All: true})
	<-o.obeyed
}

// stop ends the server and its goroutines.
func (e *engine) stop() {
	// StopBgp waits until GoBGP has freed all peers, also those that detach
	// removed a moment ago, but only if it has one to remove itself.
	_ = e.addPeer(context.Background(), randomLoopback())             // fails if start did: then there is nothing to wait for
	_ = e.server.StopBgp(context.Background(), &api.StopBgpRequest{}) // never fails on a request
	e.give(&order{obeyed: make(chan struct{})})
	<-e.served
}

// announce puts r into what the session announces, in place of an older route
// to the same prefix. If there is a session, its UPDATE is queued on return.
func (e *engine) announce(r Route) error {
	path, err := e.path(r)
	if err != nil {
		return fmt.Errorf("encode route %s: %w", r.Prefix, err)
	}
	if _, err := e.server.AddPath(context.Background(), &api.AddPathRequest{TableType: api.TableType_GLOBAL, Path: path}); err != nil {
		return fmt.Errorf("announce %s to neighbor %s: %w", r.Prefix, e.params.name, err)
	}
	return nil
}

// withdraw takes r's prefix out again.
func (e *engine) withdraw(r Route) error {
	path, err := e.path(r)
	if err != nil {
		return fmt.Errorf("encode route %s: %w", r.Prefix, err)
	}
	path.IsWithdraw = true
	// Path must be set: without it GoBGP withdraws everything.
	if err := e.server.DeletePath(context.Background(), &api.DeletePathRequest{TableType: api.TableType_GLOBAL, Path: path}); err != nil {
		return fmt.Errorf("withdraw %s from neighbor %s: %w", r.Prefix, e.params.name, err)
	}
	return nil
}

// path translates a route. ORIGIN is always IGP: the routes of all nodes must
// be equal for ECMP.
func (e *engine) path(r Route) (*api.Path, error) {
	var err error
	pack := func(m proto.Message) *anypb.Any {
		a, packErr := anypb.New(m)
		err = errors.Join(err, packErr)
		return a
	}
	family := &api.Family{Afi: api.Family_AFI_IP, Safi: api.Family_SAFI_UNICAST}
	nlri := pack(&api.IPAddressPrefix{Prefix: r.Prefix.Addr().String(), PrefixLen: uint32(r.Prefix.Bits())})
	attrs := []*anypb.Any{pack(&api.OriginAttribute{Origin: 0})}
	if r.Prepend > 0 {
		numbers := slices.Repeat([]uint32{e.params.localASN}, r.Prepend)
		attrs = append(attrs, pack(&api.AsPathAttribute{Segments: []*api.AsSegment{
			{Type: api.AsSegment_AS_SEQUENCE, Numbers: numbers},
		}}))
	}
	if r.Prefix.Addr().Is4() {
		attrs = append(attrs, pack(&api.NextHopAttribute{NextHop: r.NextHop.String()}))
	} else {
		family.Afi = api.Family_AFI_IP6
		attrs = append(attrs, pack(&api.MpReachNLRIAttribute{
			Family: family, NextHops: []string{r.NextHop.String()}, Nlris: []*anypb.Any{nlri},
		}))
	}
	if r.MED != nil {
		attrs = append(attrs, pack(&api.MultiExitDiscAttribute{Med: *r.MED}))
	}
	if r.LocalPref != nil {
		attrs = append(attrs, pack(&api.LocalPrefAttribute{LocalPref: *r.LocalPref}))
	}
	if len(r.Communities) > 0 {
		attrs = append(attrs, pack(&api.CommunitiesAttribute{Communities: r.Communities}))
	}
	if len(r.LargeCommunities) > 0 {
		large := make([]*api.LargeCommunity, len(r.LargeCommunities))
		for i, c := range r.LargeCommunities {
			large[i] = &api.LargeCommunity{GlobalAdmin: c.ASN, LocalData1: c.Function, LocalData2: c.Value}
		}
		attrs = append(attrs, pack(&api.LargeCommunitiesAttribute{Communities: large}))
	}
	return &api.Path{Family: family, Nlri: nlri, Pattrs: attrs}, err
}

// attach makes a GoBGP peer for one connection and returns our end of it. The
// peer must be removed with detach.
func (e *engine) attach(ctx context.Context) (net.Conn, netip.Addr, error) {
	// GoBGP tells its peers by address. A random one of 127.0.0.0/8 keeps
	// other local processes from passing for the router.
	addr := randomLoopback()
	err := e.addPeer(ctx, addr)
	if err != nil {
		return nil, netip.Addr{}, fmt.Errorf("add a BGP peer for neighbor %s: %w", e.params.name, err)
	}
	conn, err := e.connect(ctx, addr)
	if err != nil {
		e.detach(addr)
		return nil, netip.Addr{}, fmt.Errorf("reach the BGP engine of neighbor %s: %w", e.params.name, err)
	}
	return conn, addr, nil
}

// addPeer makes a GoBGP peer that waits to be connected to.
func (e *engine) addPeer(ctx context.Context, addr netip.Addr) error {
	seconds := uint64(e.params.holdTime / time.Second)
	return e.server.AddPeer(ctx, &api.AddPeerRequest{Peer: &api.Peer{
		Conf:      &api.PeerConf{NeighborAddress: addr.String(), PeerAsn: e.params.asn, LocalAsn: e.params.localASN},
		Transport: &api.Transport{PassiveMode: true},
		Timers:    &api.Timers{Config: &api.TimersConfig{HoldTime: seconds, KeepaliveInterval: max(seconds/3, 1), ConnectRetry: 1}},
		AfiSafis: []*api.AfiSafi{
			{Config: &api.AfiSafiConfig{Family: &api.Family{Afi: api.Family_AFI_IP, Safi: api.Family_SAFI_UNICAST}, Enabled: true}},
			{Config: &api.AfiSafiConfig{Family: &api.Family{Afi: api.Family_AFI_IP6, Safi: api.Family_SAFI_UNICAST}, Enabled: true}},
		},
		// Never graceful restart: the router would keep a dead node's route.
	}})
}

// connect dials GoBGP as addr once its peer is ready, for in Idle it closes
// what comes.
func (e *engine) connect(ctx context.Context, addr netip.Addr) (net.Conn, error) {
	for {
		active := false
		err := e.server.ListPeer(ctx, &api.ListPeerRequest{Address: addr.String()}, func(p *api.Peer) {
			active = p.GetState().GetSessionState() == api.PeerState_ACTIVE
		})
		if err != nil {
			return nil, err
		}
		if active {
			break
		}
		select {
		case <-e.hook.stepped:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, 0))}
	return d.DialContext(ctx, "tcp4", fmt.Sprintf("127.0.0.1:%d", e.port))
}

// detach removes the peer that attach made. GoBGP closes its end.
func (e *engine) detach(peer netip.Addr) {
	if err := e.server.DeletePeer(context.Background(), &api.DeletePeerRequest{Address: peer.String()}); err != nil {
		e.log.Error("cannot remove a BGP peer", "error", err)
	}
}

// shutdown makes GoBGP end an established session with CEASE, administrative
// shutdown (RFC 4486), behind all UPDATEs that are queued.
func (e *engine) shutdown(peer netip.Addr, communication string) {
	if err := e.server.ShutdownPeer(context.Background(), &api.ShutdownPeerRequest{Address: peer.String(), Communication: communication}); err != nil {
		e.log.Error("cannot shut down a BGP peer", "error", err)
	}
}

func randomLoopback() netip.Addr {
	b := [4]byte{127}
	_, _ = rand.Read(b[1:]) // never fails (crypto/rand)
	// Neither 127.0.0.x, which is in common use, nor a broadcast address.
	b[1] |= 1
	b[3] = b[3]&0x7f | 1
	return netip.AddrFrom4(b)
}

// gobgpLogger passes GoBGP's log on to slog. Sessions log their own events, so
// what GoBGP calls information is debugging here.
type gobgpLogger struct {
	log  *slog.Logger
	hook *hook
}

func (l gobgpLogger) Panic(msg string, f gobgplog.Fields) {
	l.write(slog.LevelError, msg, f)
	panic("gobgp: " + msg) // its state is unknown from here: a dead process at least draws no traffic
}
func (l gobgpLogger) Fatal(msg string, f gobgplog.Fields) { l.Panic(msg, f) }
func (l gobgpLogger) Error(msg string, f gobgplog.Fields) { l.write(slog.LevelError, msg, f) }
func (l gobgpLogger) Warn(msg string, f gobgplog.Fields)  { l.write(slog.LevelDebug, msg, f) }
func (l gobgpLogger) Info(msg string, f gobgplog.Fields)  { l.write(slog.LevelDebug, msg, f) }
func (l gobgpLogger) SetLevel(gobgplog.LogLevel)          {}

func (l gobgpLogger) Debug(msg string, f gobgplog.Fields) {
	if f["Key"] == orderKey {
		l.hook.armed = true
		return
	}
	l.write(slog.LevelDebug, msg, f)
}

func (l gobgpLogger) GetLevel() gobgplog.LogLevel {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		return gobgplog.DebugLevel
	}
	return gobgplog.WarnLevel
}

func (l gobgpLogger) write(level slog.Level, msg string, f gobgplog.Fields) {
	ctx := context.Background()
	if !l.log.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{slog.String("event", msg)}
	for _, k := range slices.Sorted(maps.Keys(f)) {
		attrs = append(attrs, slog.Any(k, f[k]))
	}
	l.log.LogAttrs(ctx, level, "gobgp", attrs...)
}
