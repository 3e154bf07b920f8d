package l4

import (
	"time"

	"github.com/pharos-lb/pharos/proxy/accesslog"
)

// flushLogEvery is how long a line waits at most before it is handed over.
const flushLogEvery = 500 * time.Millisecond

// record logs the end of the relay. Bytes are what each side has sent, PROXY
// headers left out: the last of them may not have reached the other one.
func (r *relay) record(why reason) {
	w := r.crew
	if w.accessed == nil || !r.site.Stream.Log {
		return
	}
	line := accesslog.Record{
		At: time.Now(), Listener: r.l.Name, Client: r.source, Proxied: r.proxied, Protocol: "tcp",
		Server: r.serverName, Tries: r.pick.tried, BytesIn: r.client.bytes, BytesOut: r.server.bytes,
		Wait: r.waited, Connect: r.connected, Total: w.loop.Now() - r.start, Why: why.String(),
	}
	if r.site.Stream.Names != nil {
		line.Protocol, line.Host = "tls", []byte(r.name)
	}
	if r.pool != nil {
		line.Pool = r.pool.Name()
	}
	w.accessed.Add(&line)
	if !w.logTimer.Armed() {
		w.loop.Arm(&w.logTimer, flushLogEvery)
	}
}

// flush hands over what is left to be logged.
func (w *crew) flush() {
	if w.accessed != nil {
		w.loop.Disarm(&w.logTimer)
		w.accessed.Flush()
	}
}
