package l7

import (
	"math/rand/v2"

	"github.com/pharos-lb/pharos/proxy/l7/http1"
)

// mirror is the copy of a request that goes to another pool: an exchange whose
// response nobody gets. It never slows the original: a body that its server
// does not take as fast is kept up to a bound, and beyond it the copy is given
// up.
type mirror struct {
	x     exchange
	ahead []byte // of the body, that the server has not taken
	whole bool   // the body is complete
}

// maxMirror bounds what is kept of a body for a slow mirror, and maxMirrors
// the copies in flight on one loop.
const (
	maxMirror  = 64 << 10
	maxMirrors = 1000
)

// mirrored begins the copy of x's request, if its rule asks for one.
func (x *exchange) mirrored() {
	m := x.rule.Mirror
	if rand.Float64()*100 >= m.Percent || x.protocol != nil || len(x.w.mirrors) >= maxMirrors {
		return
	}
	c := &mirror{whole: x.requestDone}
	c.x = exchange{w: x.w, l: x.l, down: c, peer: x.peer, request: append([]byte(nil), x.request...)}
	c.x.timer.Fire = c.x.expired
	c.x.progress = progress{
		active: true, isCopy: true, site: x.site, pool: m.Pool, client: x.client, generation: x.generation,
		began: x.began, moved: x.moved, isHead: x.isHead, replayable: x.replayable, chunked: x.chunked, requestDone: x.requestDone,
		withBody: x.withBody, grpc: x.grpc,
	}
	x.w.mirrors[c] = struct{}{}
	x.mirror = c
	c.x.start(m.Pool)
}

// feed passes a piece of the body on.
func (c *mirror) feed(b []byte, done bool, trailer []http1.Field) {
	switch {
	case !c.x.active:
	case len(c.ahead) == 0 && c.x.takesBody() && (!done || len(trailer) == 0):
		c.x.body(b, done, nil)
	case len(c.ahead)+len(b) > maxMirror:
		c.x.cancel()
		c.gone()
	default:
		c.ahead, c.whole = append(c.ahead, b...), done
	}
}

// drop gives the copy up: the original's client left in the middle of the body.
func (c *mirror) drop() {
	if c.x.active && !c.x.requestDone && !c.whole {
		c.x.cancel()
		c.gone()
	}
}

func (c *mirror) gone() {
	c.ahead = nil
	delete(c.x.w.mirrors, c)
}

// more implements downstream.
func (c *mirror) more() {
	if c.x.requestDone || !c.x.takesBody() || len(c.ahead) == 0 && !c.whole {
		return
	}
	b := c.ahead
	c.ahead = nil
	c.x.body(b, c.whole, nil)
}

// The response goes nowhere.

func (c *mirror) interim(*http1.Response)  {}
func (c *mirror) head(*http1.Response)     {}
func (c *mirror) data([]byte)              {}
func (c *mirror) end([]http1.Field)        {}
func (c *mirror) flush()                   {}
func (c *mirror) switched(*http1.Response) {}
func (c *mirror) endTunnel()               {}
func (c *mirror) protocol() string         { return "" }
func (c *mirror) pending() int             { return 0 }
func (c *mirror) reply(*answer)            { c.gone() }
func (c *mirror) cut()                     { c.gone() }
func (c *mirror) done()                    { c.gone() }
