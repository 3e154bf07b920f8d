package traffic

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// maxAnswer bounds an answer, head and body: probes ask for little, and what
// sends more is not what was asked.
const maxAnswer = 64 << 10

var (
	errMalformed = errors.New("malformed answer")
	errTruncated = errors.New("the stream ended inside the answer")
)

// answer is what a probe takes from an HTTP/1.1 response.
type answer struct {
	status  int
	peer    string // the address part of the body's "peer"
	backend string // the body's "backend"
	node    string // the value of the header that names the node
	closes  bool   // the connection ends with this answer
	size    int    // bytes of the buffer that the answer took
}

// parseAnswer reads one response (RFC 9112 section 6) from the beginning of
// buf. done is false while more bytes are needed; eof says that none will
// come. nodeHeader is the header that names the carrying node, if not empty.
func parseAnswer(buf []byte, eof bool, nodeHeader string) (a answer, done bool, err error) {
	head, rest, whole := bytes.Cut(buf, []byte("\r\n\r\n"))
	if !whole {
		return answer{}, false, short(buf, eof)
	}
	lines := strings.Split(string(head), "\r\n")
	// status-line = HTTP-version SP status-code SP [ reason-phrase ]
	version, code, ok := strings.Cut(lines[0], " ")
	if !ok || (version != "HTTP/1.1" && version != "HTTP/1.0") || len(code) < 3 {
		return answer{}, true, fmt.Errorf("%w: status line %q", errMalformed, clip(lines[0]))
	}
	if a.status, err = strconv.Atoi(code[:3]); err != nil || a.status < 200 || a.status > 599 {
		return answer{}, true, fmt.Errorf("%w: status line %q", errMalformed, clip(lines[0]))
	}
	a.closes = version == "HTTP/1.0"
	length, chunked := -1, false
	for _, l := range lines[1:] {
		name, value, ok := strings.Cut(l, ":")
		if !ok {
			return answer{}, true, fmt.Errorf("%w: header line %q", errMalformed, clip(l))
		}
		value = strings.Trim(value, " \t")
		switch {
		case strings.EqualFold(name, "Content-Length"):
			n, err := strconv.ParseUint(value, 10, 31)
			if err != nil || length >= 0 {
				return answer{}, true, fmt.Errorf("%w: Content-Length %q", errMalformed, clip(value))
			}
			length = int(n)
		case strings.EqualFold(name, "Transfer-Encoding"):
			if chunked = strings.EqualFold(value, "chunked"); !chunked {
				return answer{}, true, fmt.Errorf("%w: Transfer-Encoding %q", errMalformed, clip(value))
			}
		case strings.EqualFold(name, "Connection"):
			a.closes = a.closes || strings.EqualFold(value, "close")
		case nodeHeader != "" && strings.EqualFold(name, nodeHeader):
			a.node = value
		}
	}
	if chunked && length >= 0 {
		return answer{}, true, fmt.Errorf("%w: both Content-Length and Transfer-Encoding", errMalformed)
	}
	var body []byte
	switch {
	case chunked:
		var n int
		if body, n, done, err = unchunk(rest); err != nil {
			return answer{}, true, err
		} else if !done {
			return answer{}, false, short(buf, eof)
		}
		a.size = len(buf) - len(rest) + n
	case length >= 0:
		if length > maxAnswer {
			return answer{}, true, fmt.Errorf("%w: a body of %d bytes", errMalformed, length)
		}
		if len(rest) < length {
			return answer{}, false, short(buf, eof)
		}
		body = rest[:length]
		a.size = len(buf) - len(rest) + length
	default: // until the end of the stream
		if !eof {
			return answer{}, false, short(buf, false)
		}
		body, a.size, a.closes = rest, len(buf), true
	}
	a.identify(body)
	return a, true, nil
}

// short says why an answer that is not whole yet never will be; nil while it may.
func short(buf []byte, eof bool) error {
	if len(buf) > maxAnswer {
		return fmt.Errorf("%w: longer than %d bytes", errMalformed, maxAnswer)
	}
	if eof {
		return errTruncated
	}
	return nil
}

// unchunk decodes a chunked body (RFC 9112 section 7.1) without extensions or
// trailers, and says how many bytes it took.
func unchunk(in []byte) (body []byte, size int, done bool, err error) {
	rest := in
	for {
		line, after, ok := bytes.Cut(rest, []byte("\r\n"))
		if !ok {
			return nil, 0, false, nil
		}
		n, err := strconv.ParseUint(string(line), 16, 24)
		if err != nil || n > maxAnswer {
			return nil, 0, false, fmt.Errorf("%w: chunk size %q", errMalformed, clip(string(line)))
		}
		if len(after) < int(n)+2 {
			return nil, 0, false, nil
		}
		if after[n] != '\r' || after[n+1] != '\n' {
			return nil, 0, false, fmt.Errorf("%w: a chunk without its end", errMalformed)
		}
		body = append(body, after[:n]...)
		rest = after[n+2:]
		if n == 0 {
			return body, len(in) - len(rest), true, nil
		}
	}
}

// identify takes from a JSON body who answered and through whom. A body that
// says nothing of it is no fault here: whoever needs it looks at peer.
func (a *answer) identify(body []byte) {
	var who struct {
		Backend string `json:"backend"`
		Peer    string `json:"peer"`
	}
	if len(body) == 0 || body[0] != '{' || json.Unmarshal(body, &who) != nil {
		return
	}
	a.backend, a.peer = who.Backend, hostOf(who.Peer)
}

// hostOf returns the address of "host:port", or all of it if it has no port.
func hostOf(peer string) string {
	if host, _, err := net.SplitHostPort(peer); err == nil {
		return host
	}
	return peer
}

func clip(s string) string {
	if len(s) > 60 {
		return s[:60] + "…"
	}
	return s
}
