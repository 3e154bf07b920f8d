// Package accesslog writes one line of JSON for each request or connection.
// Event loops fill buffers of their own; a goroutine writes them out, so that a
// slow disk never delays traffic: what it cannot keep up with is dropped, and
// counted in the log itself.
package accesslog

import (
	"net/netip"
	"strconv"
	"time"
	"unicode/utf8"
)

// Record is one request, or one connection of a listener that knows no
// requests. Byte slices are used during the call alone.
type Record struct {
	At       time.Time // of its end
	Listener string
	Client   netip.AddrPort
	// Proxied is the other end of the connection, if it speaks for Client.
	Proxied netip.Addr

	Protocol string // HTTP/1.1, HTTP/2.0, tcp, ...
	Secure   bool   // by TLS
	Method   []byte
	Host     []byte
	Target   []byte // path and query, as the client sent them
	Agent    []byte // User-Agent
	Status   int    // 0: nothing was answered

	Route  string
	Pool   string
	Server string
	Tries  int // servers that the request or connection was sent to

	BytesIn, BytesOut int64 // of bodies, or of the connection

	// Wait is the time in a queue, Connect until the server's connection stood
	// (0 on a kept one), First until the first byte of its answer, Total until the end.
	Wait, Connect, First, Total time.Duration

	// Why is the reason of an answer of the proxy's own or of a cut, of a fixed
	// set of words; empty: all went well.
	Why string
}

// Append appends the record as a line of JSON.
func Append(dst []byte, r *Record) []byte {
	dst = append(dst, `{"time":"`...)
	dst = r.At.UTC().AppendFormat(dst, "2006-01-02T15:04:05.000Z")
	dst = append(dst, `","listener":"`...)
	dst = append(dst, r.Listener...)
	dst = append(dst, `","client":"`...)
	dst = r.Client.AppendTo(dst)
	dst = append(dst, '"')
	if r.Proxied.IsValid() {
		dst = append(dst, `,"proxied_by":"`...)
		dst = r.Proxied.AppendTo(dst)
		dst = append(dst, '"')
	}
	dst = append(dst, `,"protocol":"`...)
	dst = append(dst, r.Protocol...)
	dst = append(dst, '"')
	if r.Secure {
		dst = append(dst, `,"tls":true`...)
	}
	dst = appendText(dst, `,"method":`, r.Method)
	dst = appendText(dst, `,"host":`, r.Host)
	dst = appendText(dst, `,"target":`, r.Target)
	dst = appendText(dst, `,"agent":`, r.Agent)
	if r.Status > 0 {
		dst = appendInt(dst, `,"status":`, int64(r.Status))
	}
	dst = appendName(dst, `,"route":"`, r.Route)
	dst = appendName(dst, `,"pool":"`, r.Pool)
	dst = appendName(dst, `,"server":"`, r.Server)
	if r.Tries > 1 {
		dst = appendInt(dst, `,"tries":`, int64(r.Tries))
	}
	dst = appendInt(dst, `,"bytes_in":`, r.BytesIn)
	dst = appendInt(dst, `,"bytes_out":`, r.BytesOut)
	dst = appendTime(dst, `,"wait_ms":`, r.Wait)
	dst = appendTime(dst, `,"connect_ms":`, r.Connect)
	dst = appendTime(dst, `,"first_ms":`, r.First)
	dst = append(dst, `,"total_ms":`...)
	dst = appendMillis(dst, r.Total)
	dst = appendName(dst, `,"why":"`, r.Why)
	return append(dst, '}', '\n')
}

func appendInt(dst []byte, key string, v int64) []byte {
	return strconv.AppendInt(append(dst, key...), v, 10)
}

// appendName appends one of the configuration's names, or of our own words,
// which need no escape; nothing if it is empty.
func appendName(dst []byte, key, name string) []byte {
	if name == "" {
		return dst
	}
	dst = append(dst, key...)
	dst = append(dst, name...)
	return append(dst, '"')
}

func appendTime(dst []byte, key string, d time.Duration) []byte {
	if d <= 0 {
		return dst
	}
	return appendMillis(append(dst, key...), d)
}

// appendMillis appends a duration in milliseconds, to the microsecond.
func appendMillis(dst []byte, d time.Duration) []byte {
	us := max(d.Microseconds(), 0)
	dst = strconv.AppendInt(dst, us/1000, 10)
	f := us % 1000
	return append(dst, '.', byte('0'+f/100), byte('0'+f/10%10), byte('0'+f%10))
}

// appendText appends what a client sent, as a JSON string (RFC 8259 section
// 7); nothing if it is empty. What is no UTF-8 shows as U+FFFD.
func appendText(dst []byte, key string, b []byte) []byte {
	if len(b) == 0 {
		return dst
	}
	dst = append(dst, key...)
	dst = append(dst, '"')
	for len(b) > 0 {
		plain := 0
		for plain < len(b) && b[plain] >= ' ' && b[plain] < utf8.RuneSelf && b[plain] != '"' && b[plain] != '\\' && b[plain] != 0x7f {
			plain++
		}
		dst = append(dst, b[:plain]...)
		if b = b[plain:]; len(b) == 0 {
			break
		}
		switch c := b[0]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < ' ' || c == 0x7f:
			const hex = "0123456789abcdef"
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			r, n := utf8.DecodeRune(b)
			dst = utf8.AppendRune(dst, r)
			b = b[n:]
			continue
		}
		b = b[1:]
	}
	return append(dst, '"')
}
