package site

import (
	"time"

	"github.com/pharos-lb/pharos/proxy/pool"
	"github.com/pharos-lb/pharos/proxy/sni"
)

// Stream is how connections and flows are forwarded that are not looked into.
type Stream struct {
	// Names says which pool takes the server name that a client of TLS asks
	// for; nil: nobody looks, and Site.Pool takes all. A nil pool refuses.
	Names *sni.Names[*pool.Pool]
	// Idle is how long nothing may move before it is closed. Above 0, but on
	// sites of HTTP.
	Idle time.Duration
	Log  bool // to the access log
}
