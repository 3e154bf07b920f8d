package check

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"sync"
)

// StatusError is an answer whose status was not among the expected ones.
type StatusError struct{ Status int }

func (e *StatusError) Error() string { return fmt.Sprintf("status %d", e.Status) }

const (
	// maxBody bounds how much of an answer's body is read, and matched.
	maxBody = 64 << 10
	// maxAnswer bounds an answer as a whole, its framing included.
	maxAnswer = 256 << 10
	// maxInterim bounds the interim answers (1xx) before the final one.
	maxInterim = 5
)

// httpCheck is a spec made ready: the request around its Host is laid out.
type httpCheck struct {
	Spec
	method       *http.Request // says how the answer is framed
	before, host string        // the request up to the value of Host, and that if configured
	after        string
	body         *regexp.Regexp // nil: any
}

// httpProbe passes when the request, on a new connection, is answered as
// expected. Redirects are not followed. The request is written by hand and the
// answer is read by net/http's parser: its transport, which is made to be
// kept, costs twice the CPU time for one request.
func httpProbe(s Spec) (Probe, error) {
	h := &httpCheck{Spec: s, host: s.Host}
	if h.Method == "" {
		h.Method = http.MethodGet
	}
	if h.Path == "" {
		h.Path = "/"
	}
	if len(h.Expect) == 0 {
		h.Expect = []StatusRange{{200, 399}}
	}
	if s.Body != "" {
		var err error
		if h.body, err = regexp.Compile(s.Body); err != nil {
			return nil, fmt.Errorf("check: body: %w", err)
		}
	}
	h.TLS = secure(s.TLS, "http/1.1")
	h.method = &http.Request{Method: h.Method}
	h.before = h.Method + " " + h.Path + " HTTP/1.1\r\nHost: "
	h.after = "\r\n" + h.fields() + "\r\n"
	return h.probe, nil
}

func (h *httpCheck) fields() string {
	var b strings.Builder
	line := func(name, value string) { b.WriteString(name + ": " + value + "\r\n") }
	has := func(name string) bool {
		for _, f := range h.Headers {
			if strings.EqualFold(f[0], name) {
				return true
			}
		}
		return false
	}
	if !has("User-Agent") {
		line("User-Agent", "pharos-check")
	}
	if !has("Accept") {
		line("Accept", "*/*")
	}
	for _, f := range h.Headers {
		line(f[0], f[1])
	}
	switch h.Method {
	case http.MethodPost, http.MethodPut, http.MethodPatch:
		line("Content-Length", "0") // RFC 9110 section 8.6
	}
	line("Connection", "close")
	return b.String()
}

// exchange is the memory of one check.
type exchange struct {
	request []byte
	bounded bounded
	reader  *bufio.Reader
	body    bytes.Buffer
}

var exchanges = sync.Pool{New: func() any { return &exchange{reader: bufio.NewReader(nil)} }}

func (h *httpCheck) probe(ctx context.Context, server netip.AddrPort) error {
	c, err := open(ctx, server, h.TLS, h.Greeting)
	if err != nil {
		return err
	}
	defer c.close()
	x := exchanges.Get().(*exchange)
	defer x.release()
	x.request = append(x.request[:0], h.before...)
	if h.host != "" {
		x.request = append(x.request, h.host...)
	} else {
		x.request = server.AppendTo(x.request)
	}
	x.request = append(x.request, h.after...)
	if _, err := c.Write(x.request); err != nil {
		return &failure{"http", reason(err)}
	}
	x.bounded = bounded{c, maxAnswer}
	x.reader.Reset(&x.bounded)
	return h.judge(x)
}

// release keeps the memory of x for another check, and nothing of this one.
func (x *exchange) release() {
	x.bounded.from = nil
	x.reader.Reset(nil)
	x.body.Reset()
	exchanges.Put(x)
}

func (h *httpCheck) judge(x *exchange) error {
	res, err := http.ReadResponse(x.reader, h.method)
	for i := 0; err == nil && res.StatusCode < 200; i++ {
		if i == maxInterim {
			return &failure{"http", errTooLong.Error()}
		}
		res, err = http.ReadResponse(x.reader, h.method)
	}
	if err != nil {
		return &failure{"http", reason(err)}
	}
	defer func() { _ = res.Body.Close() }()
	expected := false
	for _, r := range h.Expect {
		expected = expected || res.StatusCode >= r.From && res.StatusCode <= r.To
	}
	if !expected {
		return &StatusError{res.StatusCode}
	}
	// A server that sends a head and then dies is not healthy, so the body is
	// read also when nothing is asked of it.
	body := io.LimitReader(res.Body, maxBody)
	if h.body == nil {
		_, err = io.Copy(io.Discard, body)
	} else {
		_, err = x.body.ReadFrom(body)
	}
	switch {
	case err != nil:
		return &failure{"http body", reason(err)}
	case h.body != nil && !h.body.Match(x.body.Bytes()):
		return errBody
	}
	return nil
}

var errBody = &failure{"http body", "no match"}

// bounded fails after so many bytes.
type bounded struct {
	from io.Reader
	left int
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLong
	}
	n, err := b.from.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}
