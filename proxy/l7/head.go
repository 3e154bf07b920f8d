package l7

import (
	"net/http"
	"strconv"
	"time"

	"github.com/pharos-lb/pharos/proxy/l7/http1"
)

// outFraming is how a response's body goes to the client.
type outFraming uint8

const (
	asIs     outFraming = iota // none, or as long as Content-Length says
	chunked                    // chunked anew
	untilEnd                   // until the connection ends, for HTTP/1.0
	empty                      // there is none, and nothing else says so: a server of HTTP/2 need not
)

// fieldsOut lists the fields of a response as they go to the client, but for
// those that its connection's protocol writes itself. The list and what it
// points at are valid until the next call.
func (x *exchange) fieldsOut(res *http1.Response) []http1.Field {
	w := x.w
	out := w.fields[:0]
	rewrite := x.rewrite()
	dated := false
	x.bond.theirs = false
	for i := range res.Fields {
		f := &res.Fields[i]
		switch f.Kind {
		case http1.Connection, http1.HopByHop, http1.Dropped, http1.TransferEncoding:
			continue
		case http1.Upgrade:
			if res.Status != 101 && res.Status != 426 {
				continue
			}
		case http1.ContentLength:
			// Kept on HEAD and 304, where it describes a body that does not
			// come; not allowed on 1xx and 204 (RFC 9110 section 8.6).
			if res.Status < 200 || res.Status == 204 {
				continue
			}
		case http1.Date:
			dated = true
		}
		if rewrite != nil && rewrite.Response.Drops(f.Name) {
			continue
		}
		if f.Kind == http1.SetCookie && x.bond.replaces(f.Value) {
			continue
		}
		out = append(out, *f)
	}
	if res.Status >= 200 || res.Status == 101 {
		out = x.appendCookie(out)
	}
	if res.Status >= 200 {
		if !dated {
			out = append(out, http1.Field{Name: nameDate, Value: w.date(), Kind: http1.Date})
		}
		out = x.appendOwn(out)
		if h := &x.site.HTTP; h.Via != "" {
			w.viaText = appendVia(w.viaText[:0], h.Via, res.Minor)
			out = append(out, http1.Field{Name: nameVia, Value: w.viaText})
		}
	}
	if rewrite != nil {
		out = append(append(out, rewrite.Response.Set...), rewrite.Response.Add...)
	}
	w.fields = out
	return out
}

// appendOwn appends what this proxy adds to every final response of a site.
func (x *exchange) appendOwn(out []http1.Field) []http1.Field {
	if h := &x.site.HTTP; len(h.HSTS) > 0 {
		out = append(out, http1.Field{Name: nameHSTS, Value: h.HSTS})
	}
	return out
}

var (
	nameDate = []byte("Date")
	nameVia  = []byte("Via")
	nameHSTS = []byte("Strict-Transport-Security")
)

// date is the value of Date now (RFC 9110 section 6.6.1), made anew once a
// second.
func (w *worker) date() []byte {
	if now := w.loop.Now(); len(w.dateText) == 0 || now >= w.dateUntil {
		wall := time.Now().UTC()
		w.dateText = wall.AppendFormat(w.dateText[:0], http.TimeFormat)
		w.dateUntil = now + time.Second - time.Duration(wall.Nanosecond())
	}
	return w.dateText
}

// appendHead appends a response's head in HTTP/1.1.
func appendHead(dst []byte, status int, reason []byte, fields []http1.Field, out outFraming, connection string) []byte {
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(status), 10)
	dst = append(dst, ' ')
	dst = append(dst, reason...)
	dst = append(dst, '\r', '\n')
	for i := range fields {
		dst = http1.AppendField(dst, fields[i].Name, fields[i].Value)
	}
	switch out {
	case chunked:
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
	case empty:
		dst = append(dst, "Content-Length: 0\r\n"...)
	}
	if connection != "" {
		dst = append(dst, "Connection: "...)
		dst = append(dst, connection...)
		dst = append(dst, '\r', '\n')
	}
	return append(dst, '\r', '\n')
}
