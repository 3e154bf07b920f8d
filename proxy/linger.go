package proxy

// Lingering is the number of requests and connections that were in flight when
// the drain began and still are. 0 if no drain has begun. Between BeginDrain and
// the withdrawal of the VIP it says when withdrawing cuts nothing but what began
// since.
func (p *Proxy) Lingering() int {
	p.mu.RLock()
	drain := p.state.drain
	p.mu.RUnlock()
	if !drain.begun {
		return 0
	}
	return p.forward.OpenSince(drain.since) + p.datagrams.OpenSince(drain.since) + p.http.Older()
}
