// Package listener is what a proxy listens with: the sockets, which outlive
// configuration changes, and the run-time state of configured listeners,
// which the engines read on every request.
package listener

import (
	"sync/atomic"

	"github.com/pharos-lb/pharos/proxy/site"
)

// Listener is the run-time state of one configured listener. It lives as long
// as a listener of this name is configured, across configuration changes, and
// beyond that as long as connections that it accepted. All is safe for
// concurrent use.
type Listener struct {
	Name string
	// Probe: it stands for another one towards the node's own probes, which are
	// no traffic: nothing of them is counted or logged.
	Probe bool

	// Open counts client connections open now.
	Open atomic.Int64
	// Accepted counts client connections since start.
	Accepted atomic.Uint64
	// Handshakes counts TLS handshakes that did not succeed.
	Handshakes atomic.Uint64
	// Unintroduced counts connections that were closed since they did not begin
	// with a PROXY protocol header, as their source has to.
	Unintroduced atomic.Uint64
	// Requests counts HTTP requests answered, or TCP connections ended.
	Requests atomic.Uint64
	// Failed counts those of Requests that the proxy had to refuse or cut.
	Failed atomic.Uint64

	site    atomic.Pointer[site.Site]
	closing atomic.Bool
	probed  *Listener
}

// New returns the state of a new listener that serves s.
func New(name string, s *site.Site) *Listener {
	l := &Listener{Name: name, probed: &Listener{Name: name, Probe: true}}
	l.site.Store(s)
	l.probed.site.Store(s)
	return l
}

// Probed stands for the listener towards the node's own probes. It has counters
// and a site of its own.
func (l *Listener) Probed() *Listener { return l.probed }

// Site says what becomes of new work at this moment.
func (l *Listener) Site() *site.Site { return l.site.Load() }

// SetSite makes s what becomes of new work from now on.
func (l *Listener) SetSite(s *site.Site) { l.site.Store(s) }

// Closing reports whether clients are to be sent away after what they have in
// flight: the node drains, or the listener was removed.
func (l *Listener) Closing() bool { return l.closing.Load() }

// SetClosing begins or revokes that.
func (l *Listener) SetClosing(closing bool) { l.closing.Store(closing) }
