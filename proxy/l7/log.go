package l7

import (
	"net/netip"
	"time"

	"github.com/pharos-lb/pharos/proxy/accesslog"
	"github.com/pharos-lb/pharos/proxy/l7/http1"
)

// asked is what the access log says of a request, kept until its end: the
// views that it came with are gone by then.
type asked struct {
	text                       []byte // method, host, target and agent, one behind the other
	method, host, target, name int    // where each ends
}

// keep copies what the log needs of req. User agents are cut at 256 bytes.
func (a *asked) keep(req *http1.Request) {
	a.text = append(a.text[:0], req.Method...)
	a.method = len(a.text)
	a.text = append(a.text, req.Host...)
	a.host = len(a.text)
	a.text = append(a.text, req.Target...)
	a.target = len(a.text)
	for i := range req.Fields {
		if f := &req.Fields[i]; len(f.Name) == len("user-agent") && http1.EqualFold(f.Name, "user-agent") {
			a.text = append(a.text, f.Value[:min(len(f.Value), 256)]...)
			break
		}
	}
	a.name = len(a.text)
}

// flushLogEvery is how long a line waits at most before it is handed over.
const flushLogEvery = 500 * time.Millisecond

// logs reports whether the exchange is to be logged.
func (x *exchange) logs() bool { return x.w.accessed != nil && x.site.HTTP.Log && !x.isCopy }

// record logs the end of the exchange.
func (x *exchange) record(why reason) {
	if !x.logs() {
		return
	}
	w, a, now := x.w, &x.asked, x.w.loop.Now()
	r := accesslog.Record{
		At: w.wall(), Listener: x.l.Name, Client: netip.AddrPortFrom(x.client, 0), Protocol: x.spoken, Secure: x.site.HTTP.Secure,
		Method: a.text[:a.method], Host: a.text[a.method:a.host], Target: a.text[a.host:a.target], Agent: a.text[a.target:a.name],
		Status: x.status, Tries: x.tried, BytesIn: x.bytesIn, BytesOut: x.bytesOut,
		Wait: x.waited, Total: now - x.began,
	}
	if x.client == x.peer.Addr() {
		r.Client = x.peer
	} else {
		r.Proxied = x.peer.Addr()
	}
	if x.rule != nil {
		r.Route = x.rule.Name
	}
	if x.pool != nil {
		r.Pool = x.pool.Name()
	}
	if x.server != nil {
		r.Server = x.server.Name
	}
	if x.sent > 0 {
		r.Connect = x.sent - x.began
	}
	if x.first > 0 {
		r.First = x.first - x.began
	}
	if why != noReason {
		r.Why = why.String()
	}
	w.accessed.Add(&r)
	if !w.logTimer.Armed() {
		w.loop.Arm(&w.logTimer, flushLogEvery)
	}
}

// wall is the time of day in this round, to the millisecond or so.
func (w *worker) wall() time.Time {
	if now := w.loop.Now(); now != w.wallAt || w.wallTime.IsZero() {
		w.wallAt, w.wallTime = now, time.Now()
	}
	return w.wallTime
}
