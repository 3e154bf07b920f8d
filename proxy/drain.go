package proxy

import (
	"context"
	"sync"
	"time"
)

// A drain has two steps, because the router needs time to converge between
// them: new connections that it still sends must be served.
//
//  1. BeginDrain: nothing is refused. HTTP clients are told to go (their idle
//     connections are closed, and the next response on each other one says
//     Connection: close). The caller withdraws the VIP meanwhile.
//  2. FinishDrain: the listeners close, what is in flight may finish until a
//     deadline, and the rest is cut.

// drainState is how far a drain has come.
type drainState struct {
	begun    bool
	finished bool // nothing is accepted until the next Apply
	since    time.Time
	inFlight int // when it began
}

// takeRunning takes the turn if Run runs.
func (p *Proxy) takeRunning() bool {
	return p.running() && p.take(context.Background()) == nil
}

// BeginDrain tells clients to go elsewhere, and refuses nobody. It does
// nothing if a drain has begun already, or if Run does not run. CancelDrain
// revokes it.
func (p *Proxy) BeginDrain() {
	if !p.takeRunning() {
		return
	}
	defer func() { <-p.turn }()
	p.beginDrain()
}

func (p *Proxy) beginDrain() {
	p.mu.Lock()
	if p.state.drain.begun {
		p.mu.Unlock()
		return
	}
	p.state.drain = drainState{begun: true, since: time.Now(), inFlight: p.inFlight()}
	p.http.Mark()
	for _, l := range p.state.listeners {
		l.SetClosing(true)
	}
	p.log.Info("drain began", "in_flight", p.state.drain.inFlight)
	p.mu.Unlock()
	p.closeIdle()
	p.changed()
}

// CancelDrain revokes a drain that BeginDrain began and FinishDrain has not
// taken up: clients may stay again. After FinishDrain it does nothing; there
// Apply serves again.
func (p *Proxy) CancelDrain() {
	if !p.takeRunning() {
		return
	}
	defer func() { <-p.turn }()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.state.drain.begun || p.state.drain.finished {
		return
	}
	p.state.drain = drainState{}
	for _, l := range p.state.listeners {
		l.SetClosing(false)
	}
	p.log.Info("drain cancelled")
	p.changed()
}

// FinishDrain stops listening, once the VIP is withdrawn and the router has
// converged; connections waiting to be accepted are still taken. It then
// waits until everything in flight has finished, or ctx ends, cuts the rest,
// and says how it went. It begins the drain if BeginDrain did not. Checks go
// on. After it, the next Apply serves again; an Apply that comes while it
// waits waits for it.
func (p *Proxy) FinishDrain(ctx context.Context) DrainReport {
	if !p.takeRunning() {
		return DrainReport{} // nothing is left to drain
	}
	defer func() { <-p.turn }()
	p.beginDrain()
	p.mu.Lock()
	p.state.drain.finished = true
	drain := p.state.drain
	p.mu.Unlock()
	p.stopListening()
	p.changed()
	cut, older := p.finishConnections(ctx)
	report := DrainReport{Finished: max(drain.inFlight-older, 0), Cut: cut}
	p.log.Info("drain finished", "finished", report.Finished, "cut", report.Cut)
	p.changed()
	return report
}

// Drain is BeginDrain and FinishDrain in one, for when nothing routes to this
// node any more.
func (p *Proxy) Drain(ctx context.Context) DrainReport { return p.FinishDrain(ctx) }

// finishConnections waits for what is in flight until ctx ends, and cuts the
// rest. It returns the number cut, and how many of those were in flight when
// the drain began.
func (p *Proxy) finishConnections(ctx context.Context) (cut, older int) {
	p.mu.RLock()
	since := p.state.drain.since
	p.mu.RUnlock()
	var others sync.WaitGroup
	var httpCut, httpOlder, udpCut, udpOlder int
	others.Go(func() { httpCut, httpOlder = p.http.Drain(ctx) })
	others.Go(func() { udpCut, udpOlder = p.datagrams.Drain(ctx, since) })
	cut, older = p.forward.Drain(ctx, since)
	others.Wait()
	return cut + httpCut + udpCut, older + httpOlder + udpOlder
}

// closeIdle closes the idle client connections of listeners that are closing.
func (p *Proxy) closeIdle() { p.http.CloseIdle() }
