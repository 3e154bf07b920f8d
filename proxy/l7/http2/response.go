package http2

// takeResponse takes a head from a server (RFC 9113 section 8.3.2).
func (c *conn) takeResponse(s *Stream, b *block) {
	if b.err == nil {
		b.makeResponse()
	}
	if b.err != nil {
		c.resetStream(s, b.err)
		return
	}
	res := &b.response
	if res.Status < 200 {
		c.overhead() // they could be endless
		c.ch.Response(s, res, false)
		return
	}
	if s.left = b.length; s.toHead || res.Status == 204 || res.Status == 304 {
		// Its Content-Length tells of another response's body (RFC 9110
		// section 8.6).
		s.left = 0
	} else if b.end && b.length > 0 {
		c.resetStream(s, ErrBodyLength)
		return
	}
	s.gotHead = true
	s.remoteEnded = b.end
	c.ch.Response(s, res, b.end)
	c.settle(s)
}

// makeResponse makes b.response of a complete block.
func (b *block) makeResponse() {
	for kind, seen := range b.seen {
		if seen != (kind == pseudoStatus) {
			b.err = ErrPseudo
			return
		}
	}
	v := b.pseudo[pseudoStatus]
	if len(v) != 3 || v[0] < '1' || v[0] > '5' || v[1] < '0' || v[1] > '9' || v[2] < '0' || v[2] > '9' {
		b.err = ErrStatus
		return
	}
	status := int(v[0]-'0')*100 + int(v[1]-'0')*10 + int(v[2]-'0')
	// 101 does not exist here (RFC 9113 section 8.6), and interim ones are not
	// the end (section 8.1).
	if status == 101 || status < 200 && b.end {
		b.err = ErrStatus
		return
	}
	b.response = Response{Status: status, Fields: b.fields, ContentLength: b.length}
}
