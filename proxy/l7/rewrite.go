package l7

import (
	"strconv"

	"github.com/pharos-lb/pharos/proxy/l7/http1"
)

// appendRequestHead appends the head of req as it goes to a server (RFC 9110
// section 7.6): fields of this hop are left out, the framing is written anew,
// and the client is named.
//
// X-Forwarded-For is continued; -Proto and -Host are replaced, since without
// a list of trusted sources a client could lie in them.
func appendRequestHead(dst []byte, req *http1.Request, peer []byte, upgrade bool) []byte {
	dst = append(dst, req.Method...)
	dst = append(dst, ' ')
	dst = append(dst, req.Target...)
	dst = append(dst, " HTTP/1.1\r\nHost: "...)
	dst = append(dst, req.Host...)
	dst = append(dst, '\r', '\n')
	forwarded := false
	for i := range req.Fields {
		switch f := &req.Fields[i]; f.Kind {
		case http1.Other:
			dst = http1.AppendField(dst, f.Name, f.Value)
		case http1.Expect:
			if req.Continue {
				dst = http1.AppendField(dst, f.Name, f.Value)
			}
		case http1.ForwardedFor:
			forwarded = true
		}
	}
	dst = append(dst, "X-Forwarded-For: "...)
	if forwarded {
		for i := range req.Fields {
			if f := &req.Fields[i]; f.Kind == http1.ForwardedFor && len(f.Value) > 0 {
				dst = append(dst, f.Value...)
				dst = append(dst, ',', ' ')
			}
		}
	}
	dst = append(dst, peer...)
	dst = append(dst, "\r\nX-Forwarded-Proto: http\r\n"...)
	if len(req.Host) > 0 {
		dst = append(dst, "X-Forwarded-Host: "...)
		dst = append(dst, req.Host...)
		dst = append(dst, '\r', '\n')
	}
	switch {
	case req.Body == http1.Chunked:
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
	case req.HasLength():
		dst = append(dst, "Content-Length: "...)
		dst = strconv.AppendInt(dst, req.ContentLength, 10)
		dst = append(dst, '\r', '\n')
	}
	if upgrade {
		dst = append(dst, "Connection: Upgrade\r\nUpgrade: "...)
		dst = append(dst, req.Upgrade...)
		dst = append(dst, '\r', '\n')
	}
	return append(dst, '\r', '\n')
}

// outFraming is how a response's body goes to the client.
type outFraming uint8

const (
	asIs     outFraming = iota // none, or as long as Content-Length says
	chunked                    // chunked anew
	untilEnd                   // until the connection ends, for HTTP/1.0
)

// appendResponseHead appends the head of res as it goes to the client.
func appendResponseHead(dst []byte, res *http1.Response, out outFraming, connection string) []byte {
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(res.Status), 10)
	dst = append(dst, ' ')
	dst = append(dst, res.Reason...)
	dst = append(dst, '\r', '\n')
	for i := range res.Fields {
		switch f := &res.Fields[i]; f.Kind {
		case http1.Connection, http1.HopByHop, http1.Dropped, http1.TransferEncoding:
		case http1.Upgrade:
			if res.Status == 101 || res.Status == 426 {
				dst = http1.AppendField(dst, f.Name, f.Value)
			}
		case http1.ContentLength:
			// Kept on HEAD and 304, where it describes a body that does not
			// come; not allowed on 1xx and 204 (RFC 9110 section 8.6).
			if res.Status >= 200 && res.Status != 204 {
				dst = http1.AppendField(dst, f.Name, f.Value)
			}
		default:
			dst = http1.AppendField(dst, f.Name, f.Value)
		}
	}
	if out == chunked {
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
	}
	if connection != "" {
		dst = append(dst, "Connection: "...)
		dst = append(dst, connection...)
		dst = append(dst, '\r', '\n')
	}
	return append(dst, '\r', '\n')
}

// reasonPhrase names the statuses that the proxy itself answers with.
func reasonPhrase(status int) string {
	switch status {
	case 400:
		return "Bad Request"
	case 408:
		return "Request Timeout"
	case 413:
		return "Content Too Large"
	case 417:
		return "Expectation Failed"
	case 431:
		return "Request Header Fields Too Large"
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
	return "Error"
}

// appendReply appends a response of the proxy's own. The body repeats the
// status, for people; its words are fixed. Proxy-Status says why (RFC 9209).
func appendReply(dst []byte, status int, why reason, head bool, connection string) []byte {
	phrase := reasonPhrase(status)
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(status), 10)
	dst = append(dst, ' ')
	dst = append(dst, phrase...)
	dst = append(dst, "\r\nContent-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(len(phrase)+5), 10)
	dst = append(dst, '\r', '\n')
	if c := causes[why]; c.kind != "" {
		dst = append(dst, "Proxy-Status: pharos; error="...)
		dst = append(dst, c.kind...)
		dst = append(dst, "; details=\""...)
		dst = append(dst, c.word...)
		dst = append(dst, "\"\r\n"...)
	}
	if connection != "" {
		dst = append(dst, "Connection: "...)
		dst = append(dst, connection...)
		dst = append(dst, '\r', '\n')
	}
	dst = append(dst, '\r', '\n')
	if head {
		return dst
	}
	dst = strconv.AppendInt(dst, int64(status), 10)
	dst = append(dst, ' ')
	dst = append(dst, phrase...)
	return append(dst, '\n')
}
