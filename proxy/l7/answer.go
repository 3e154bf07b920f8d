package l7

import (
	"strconv"

	"github.com/pharos-lb/pharos/proxy/l7/http1"
	"github.com/pharos-lb/pharos/proxy/site"
)

// answer is a response of the proxy's own.
type answer struct {
	status int
	fields []http1.Field // without the framing
	body   []byte
}

// reasonPhrase names the statuses that the proxy itself answers with.
func reasonPhrase(status int) string {
	switch status {
	case 200:
		return "OK"
	case 204:
		return "No Content"
	case 301:
		return "Moved Permanently"
	case 302:
		return "Found"
	case 303:
		return "See Other"
	case 307:
		return "Temporary Redirect"
	case 308:
		return "Permanent Redirect"
	case 400:
		return "Bad Request"
	case 403:
		return "Forbidden"
	case 404:
		return "Not Found"
	case 408:
		return "Request Timeout"
	case 410:
		return "Gone"
	case 413:
		return "Content Too Large"
	case 417:
		return "Expectation Failed"
	case 429:
		return "Too Many Requests"
	case 431:
		return "Request Header Fields Too Large"
	case 500:
		return "Internal Server Error"
	case 501:
		return "Not Implemented"
	case 502:
		return "Bad Gateway"
	case 503:
		return "Service Unavailable"
	case 504:
		return "Gateway Timeout"
	case 505:
		return "HTTP Version Not Supported"
	}
	return ""
}

var (
	nameType        = []byte("Content-Type")
	nameCache       = []byte("Cache-Control")
	nameProxyStatus = []byte("Proxy-Status")
	nameRetryAfter  = []byte("Retry-After")
	nameLocation    = []byte("Location")
	nameLength      = []byte("Content-Length")
	textPlain       = []byte("text/plain; charset=utf-8")
	noStore         = []byte("no-store")
)

// newAnswer begins an answer in the worker's scratch, which is valid until the
// next one.
func (w *worker) newAnswer(status int, h *site.HTTP) *answer {
	a := &w.answer
	a.status, a.body = status, nil
	a.fields = append(a.fields[:0], http1.Field{Name: nameDate, Value: w.date()})
	w.words = w.words[:0]
	if len(h.HSTS) > 0 {
		a.fields = append(a.fields, http1.Field{Name: nameHSTS, Value: h.HSTS})
	}
	return a
}

// add adds a field whose value is made of parts.
func (w *worker) add(a *answer, name []byte, parts ...string) {
	at := len(w.words)
	for _, p := range parts {
		w.words = append(w.words, p...)
	}
	a.fields = append(a.fields, http1.Field{Name: name, Value: w.words[at:len(w.words):len(w.words)]})
}

// failure is the answer that says why a request failed: in its status, in
// Proxy-Status (RFC 9209), and in the body for people, whose words are fixed,
// or the site's own page. retryAfter is in seconds; 0: none is said.
func (w *worker) failure(status int, why reason, retryAfter int, h *site.HTTP) *answer {
	a := w.newAnswer(status, h)
	a.fields = append(a.fields, http1.Field{Name: nameCache, Value: noStore})
	if c := causes[why]; c.kind != "" {
		w.add(a, nameProxyStatus, "pharos; error=", c.kind, "; details=\"", c.word, "\"")
	}
	if retryAfter > 0 {
		at := len(w.words)
		w.words = strconv.AppendInt(w.words, int64(retryAfter), 10)
		a.fields = append(a.fields, http1.Field{Name: nameRetryAfter, Value: w.words[at:len(w.words):len(w.words)]})
	}
	if page, ok := h.Pages[status]; ok {
		w.add(a, nameType, page.Type)
		a.body = page.Body
		return w.sized(a)
	}
	a.fields = append(a.fields, http1.Field{Name: nameType, Value: textPlain})
	at := len(w.words)
	w.words = strconv.AppendInt(w.words, int64(status), 10)
	w.words = append(w.words, ' ')
	w.words = append(w.words, reasonPhrase(status)...)
	w.words = append(w.words, '\n')
	a.body = w.words[at:len(w.words):len(w.words)]
	return w.sized(a)
}

// redirected is the answer that sends the client of the request in view
// elsewhere.
func (w *worker) redirected(r *site.Redirect, h *site.HTTP) *answer {
	a := w.newAnswer(r.Status, h)
	at := len(w.words)
	w.words = r.AppendLocation(w.words, &w.view, h.Secure)
	a.fields = append(a.fields, http1.Field{Name: nameLocation, Value: w.words[at:len(w.words):len(w.words)]})
	return w.sized(a)
}

// responded is an answer that the configuration gives.
func (w *worker) responded(r *site.Respond, h *site.HTTP) *answer {
	a := w.newAnswer(r.Status, h)
	if r.Type != "" {
		w.add(a, nameType, r.Type)
	}
	a.fields = append(a.fields, r.Headers...)
	a.body = r.Body
	return w.sized(a)
}

// sized adds the length of the answer's body (RFC 9110 section 8.6).
func (w *worker) sized(a *answer) *answer {
	if a.status == 204 || a.status == 304 {
		a.body = nil
		return a
	}
	at := len(w.words)
	w.words = strconv.AppendInt(w.words, int64(len(a.body)), 10)
	a.fields = append(a.fields, http1.Field{Name: nameLength, Value: w.words[at:len(w.words):len(w.words)], Kind: http1.ContentLength})
	return a
}
