package http2

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What makes a request malformed ends its stream, and only that.
func TestRequestRefusals(t *testing.T) {
	with := func(more ...string) []string { return append(append([]string{}, getLines...), more...) }
	tests := []struct {
		section string // of RFC 9113, if not said otherwise
		name    string
		lines   []string
		want    *Error
	}{
		{"8.2", "name with a capital", with("X-a: b"), ErrName},
		{"8.2.1", "name with a space", with("x a: b"), ErrName},
		{"8.2.1", "name with a control character", with("x\x01a: b"), ErrName},
		{"8.2.1", "name with DEL", with("x\x7f: b"), ErrName},
		{"8.2.1", "name with a byte above 127", with("x\xe4: b"), ErrName},
		{"8.2.1", "name with CR LF", with("x\r\ny: b"), ErrName},
		{"8.2.1", "value with CR", with("a: b\rc"), ErrValue},
		{"8.2.1", "value with LF", with("a: b\nc"), ErrValue},
		{"8.2.1", "value with CR LF, far in", with("a: 0123456789abcdef0123\r\nevil: 1"), ErrValue},
		{"8.2.1", "value with NUL", with("a: b\x00"), ErrValue},
		{"8.2.1", "value with DEL", with("a: 12345678\x7f"), ErrValue},
		{"8.2.1", "value with another control character", with("a: \x1b[31mred"), ErrValue},
		{"8.2.1", "value begins in a space", with("a:  b"), ErrValue},
		{"8.2.1", "value begins in a tab", with("a: \tb"), ErrValue},
		{"8.2.1", "value ends in a space", with("a: b "), ErrValue},
		{"8.2.2", "connection", with("connection: close"), ErrConnectionField},
		{"8.2.2", "keep-alive", with("keep-alive: timeout=5"), ErrConnectionField},
		{"8.2.2", "proxy-connection", with("proxy-connection: keep-alive"), ErrConnectionField},
		{"8.2.2", "transfer-encoding", with("transfer-encoding: chunked"), ErrConnectionField},
		{"8.2.2", "upgrade", with("upgrade: websocket"), ErrConnectionField},
		{"8.2.2", "te other than trailers", with("te: gzip"), ErrTE},
		{"8.2.2", "te with more than trailers", with("te: trailers, gzip"), ErrTE},
		{"8.3", "unknown pseudo-header field", with(":evil: 1"), ErrPseudo},
		{"RFC 8441", ":protocol, which is not offered", with(":protocol: websocket"), ErrPseudo},
		{"8.3", "status in a request", with(":status: 200"), ErrPseudo},
		{"8.3", "pseudo-header field after others", with("a: b", ":path: /"), ErrPseudo},
		{"8.3.1", "method twice", with(":method: GET"), ErrPseudo},
		{"8.3.1", "path twice, equal", with(":path: /"), ErrPseudo},
		{"8.3.1", "authority twice", with(":authority: x"), ErrPseudo},
		{"8.3.1", "nothing", nil, ErrPseudo},
		{"8.3.1", "no method", []string{":scheme: https", ":authority: x", ":path: /"}, ErrPseudo},
		{"8.3.1", "no scheme", []string{":method: GET", ":authority: x", ":path: /"}, ErrPseudo},
		{"8.3.1", "no path", []string{":method: GET", ":scheme: https", ":authority: x"}, ErrPseudo},
		{"8.3.1", "empty path", []string{":method: GET", ":scheme: https", ":authority: x", ":path: "}, ErrPath},
		{"8.3.1", "path without a slash", []string{":method: GET", ":scheme: https", ":authority: x", ":path: a"}, ErrPath},
		{"8.3.1", "absolute path", []string{":method: GET", ":scheme: https", ":authority: x", ":path: https://y/"}, ErrPath},
		{"8.3.1", "star with GET", []string{":method: GET", ":scheme: https", ":authority: x", ":path: *"}, ErrPath},
		{"FACTS", "path with a space", []string{":method: GET", ":scheme: https", ":authority: x", ":path: /a b"}, ErrPath},
		{"FACTS", "path with a request in it", []string{":method: GET", ":scheme: https", ":authority: x", ":path: / HTTP/1.1\r\nHost: y\r\n\r\n"}, ErrPath},
		{"FACTS", "path with a fragment", []string{":method: GET", ":scheme: https", ":authority: x", ":path: /a#b"}, ErrPath},
		{"FACTS", "path with a byte above 127", []string{":method: GET", ":scheme: https", ":authority: x", ":path: /\xc3\xa4"}, ErrPath},
		{"FACTS", "method with a space", []string{":method: GET /evil HTTP/1.1", ":scheme: https", ":authority: x", ":path: /"}, ErrMethod},
		{"FACTS", "empty method", []string{":method: ", ":scheme: https", ":authority: x", ":path: /"}, ErrMethod},
		{"FACTS", "another scheme", []string{":method: GET", ":scheme: ftp", ":authority: x", ":path: /"}, ErrScheme},
		{"FACTS", "scheme with an address in it", []string{":method: GET", ":scheme: http://y/", ":authority: x", ":path: /"}, ErrScheme},
		{"8.3.1", "no authority and no host", []string{":method: GET", ":scheme: https", ":path: /"}, ErrAuthority},
		{"8.3.1", "empty authority", []string{":method: GET", ":scheme: https", ":authority: ", ":path: /"}, ErrAuthority},
		{"8.3.1", "userinfo", []string{":method: GET", ":scheme: https", ":authority: u@x", ":path: /"}, ErrAuthority},
		{"FACTS", "authority with a path", []string{":method: GET", ":scheme: https", ":authority: x/y", ":path: /"}, ErrAuthority},
		{"FACTS", "authority with a list", []string{":method: GET", ":scheme: https", ":authority: x,y", ":path: /"}, ErrAuthority},
		{"FACTS", "authority with a bad port", []string{":method: GET", ":scheme: https", ":authority: x:8a", ":path: /"}, ErrAuthority},
		{"FACTS", "authority with a port only", []string{":method: GET", ":scheme: https", ":authority: :80", ":path: /"}, ErrAuthority},
		{"FACTS", "authority with an open bracket", []string{":method: GET", ":scheme: https", ":authority: [::1", ":path: /"}, ErrAuthority},
		{"FACTS", "authority with a stray bracket", []string{":method: GET", ":scheme: https", ":authority: x]", ":path: /"}, ErrAuthority},
		{"8.3.1", "host disagrees", with("host: y"), ErrAuthority},
		{"8.3.1", "host disagrees in the port", with("host: x:443"), ErrAuthority},
		{"8.3.1", "two hosts", with("host: x", "host: x"), ErrAuthority},
		{"8.3.1", "two hosts, no authority", []string{":method: GET", ":scheme: https", ":path: /", "host: x", "host: y"}, ErrAuthority},
		{"8.5", "CONNECT", []string{":method: CONNECT", ":authority: x:443"}, ErrNotOffered},
		{"FACTS", "TRACE", []string{":method: TRACE", ":scheme: https", ":authority: x", ":path: /"}, ErrNotOffered},
		{"8.1.1", "length without a body", with("content-length: 3"), ErrBodyLength},
		{"8.1.1", "two lengths, equal", with("content-length: 0", "content-length: 0"), ErrLength},
		{"8.1.1", "list of lengths", with("content-length: 0, 0"), ErrLength},
		{"8.1.1", "signed length", with("content-length: +3"), ErrLength},
		{"8.1.1", "length that does not fit", with("content-length: 9999999999999999999"), ErrLength},
		{"RFC 9110 10.1.1", "another expectation", with("expect: magic"), ErrExpect},
		{"10.5.1", "line too long", with("a: " + strings.Repeat("b", 8<<10)), ErrTooLarge},
		{"10.5.1", "head too large", with("a: "+strings.Repeat("b", 8000), "b: "+strings.Repeat("b", 8000), "c: "+strings.Repeat("b", 8000)), ErrTooLarge},
		{"10.5.1", "cookie too long when joined", with("cookie: "+strings.Repeat("b", 5000), "cookie: "+strings.Repeat("b", 5000)), ErrTooLarge},
		{"10.5.1", "path too long", []string{":method: GET", ":scheme: https", ":authority: x", ":path: /" + strings.Repeat("b", 8<<10)}, ErrTooLarge},
	}
	for _, tt := range tests {
		bothWays(t, tt.section+" "+tt.name, func(t *testing.T, step int) {
			p := clientOf(t)
			p.step = step
			p.want(p.feed(p.long(1, true, tt.lines...)), nil)
			if diff := cmp.Diff([]string{"refused: " + tt.want.Reason}, p.take()); diff != "" {
				t.Fatal(diff)
			}
			want := fmt.Sprintf("RST_STREAM 1 %v", tt.want.Code)
			if tt.want.Status != 0 {
				want = fmt.Sprintf("HEADERS 1 :status=%d content-length=0 end", tt.want.Status)
			}
			if diff := cmp.Diff([]string{want}, p.frames()); diff != "" {
				t.Fatal(diff)
			}
			// The connection goes on.
			p.want(p.feed(p.get(3)), nil)
			if diff := cmp.Diff([]string{"3 GET https://x/ end"}, p.take()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// long is a header block in as many frames as it needs.
func (p *peer) long(stream uint32, end bool, lines ...string) []byte {
	b := p.encode(lines...)
	n := min(len(b), maxFrame)
	out := raw(frameHeaders, endFlag(end), stream, b[:n])
	if n == len(b) {
		out[4] |= byte(flagEndHeaders)
		return out
	}
	for b = b[n:]; len(b) > 0; b = b[n:] {
		n = min(len(b), maxFrame)
		flags := frameFlags(0)
		if n == len(b) {
			flags = flagEndHeaders
		}
		out = append(out, raw(frameContinuation, flags, stream, b[:n])...)
	}
	return out
}

func TestRequests(t *testing.T) {
	head := func(lines ...string) func(p *peer) []byte {
		return func(p *peer) []byte { return p.head(1, true, lines...) }
	}
	tests := []struct {
		name string
		in   func(p *peer) []byte
		want []string
	}{
		{"fields in their order", head(":method: GET", ":path: /a?b", ":scheme: http", ":authority: x:80", "b: 1", "a: 2", "b: 3"), []string{"1 GET http://x:80/a?b b=1 a=2 b=3 end"}},
		{"cookie crumbs are joined (8.2.3)", head(append(getLines, "cookie: a=1", "x: y", "cookie: b=2", "cookie: c=3")...), []string{"1 GET https://x/ cookie=a=1; b=2; c=3 x=y end"}},
		{"host instead of authority (8.3.1)", head(":method: GET", ":scheme: https", ":path: /", "host: x"), []string{"1 GET https://x/ host=x end"}},
		{"host that agrees", head(":method: GET", ":scheme: https", ":path: /", ":authority: EXAMPLE", "host: example"), []string{"1 GET https://EXAMPLE/ host=example end"}},
		{"IPv6 authority", head(":method: GET", ":scheme: https", ":path: /", ":authority: [2001:db8::1]:8443"), []string{"1 GET https://[2001:db8::1]:8443/ end"}},
		{"OPTIONS of the server", head(":method: OPTIONS", ":scheme: https", ":path: *", ":authority: x"), []string{"1 OPTIONS https://x* end"}},
		{"te trailers (8.2.2)", head(append(getLines, "te: trailers")...), []string{"1 GET https://x/ te=trailers end"}},
		{"empty value, tab and bytes above 127 within", head(append(getLines, "a: ", "b: 1\t2", "c: 12345678\xe4")...), []string{"1 GET https://x/ a= b=1\t2 c=12345678\xe4 end"}},
		{"length of nothing", head(append(getLines, "content-length: 0")...), []string{"1 GET https://x/ content-length=0 end"}},
		{"padding and priority (6.2)", func(p *peer) []byte {
			b := append([]byte{3, 0, 0, 0, 9, 200}, p.encode(getLines...)...)
			return raw(frameHeaders, flagEndHeaders|flagEndStream|flagPadded|flagPriority, 1, append(b, 0, 0, 0))
		}, []string{"1 GET https://x/ end"}},
		{"continuations, one of them empty (6.10)", func(p *peer) []byte {
			b := p.encode(append(getLines, "a: 0123456789")...)
			out := raw(frameHeaders, flagEndStream, 1, b[:7])
			out = append(out, raw(frameContinuation, 0, 1, nil)...)
			out = append(out, raw(frameContinuation, 0, 1, b[7:9])...)
			return append(out, raw(frameContinuation, flagEndHeaders, 1, b[9:])...)
		}, []string{"1 GET https://x/ a=0123456789 end"}},
		{"body of the promised length (8.1.1)", func(p *peer) []byte {
			return append(append(p.post(1, "content-length: 5"), data(1, "ab", false)...), data(1, "cde", true)...)
		}, []string{"1 POST https://x/ content-length=5", "1 data abcde end"}},
		{"body that is shorter", func(p *peer) []byte {
			return append(p.post(1, "content-length: 5"), data(1, "abcd", true)...)
		}, []string{"1 POST https://x/ content-length=5", "1 reset PROTOCOL_ERROR: " + ErrBodyLength.Reason}},
		{"body that is longer", func(p *peer) []byte {
			return append(p.post(1, "content-length: 5"), data(1, "abcdef", false)...)
		}, []string{"1 POST https://x/ content-length=5", "1 reset PROTOCOL_ERROR: " + ErrBodyLength.Reason}},
		{"body that is shorter, with trailers", func(p *peer) []byte {
			return append(append(p.post(1, "content-length: 5"), data(1, "abcd", false)...), p.head(1, true, "a: b")...)
		}, []string{"1 POST https://x/ content-length=5", "1 data abcd", "1 reset PROTOCOL_ERROR: " + ErrBodyLength.Reason}},
		{"padded body (6.1)", func(p *peer) []byte {
			return append(p.post(1), raw(frameData, flagPadded|flagEndStream, 1, []byte("\x02abc\x00\x00"))...)
		}, []string{"1 POST https://x/", "1 data abc end"}},
		{"body that ends in an empty frame", func(p *peer) []byte {
			return append(append(p.post(1), data(1, "abc", false)...), data(1, "", true)...)
		}, []string{"1 POST https://x/", "1 data abc end"}},
		{"trailers; what must not come late is dropped", func(p *peer) []byte {
			return append(append(p.post(1), data(1, "abc", false)...), p.head(1, true, "grpc-status: 0", "content-length: 9", "host: y", "authorization: z", "x_y: 1")...)
		}, []string{"1 POST https://x/", "1 data abc", "1 trailers grpc-status=0 x_y=1"}},
		{"trailers that are not the end (8.1)", func(p *peer) []byte {
			return append(p.post(1), p.head(1, false, "a: b")...)
		}, []string{"1 POST https://x/", "1 reset PROTOCOL_ERROR: " + ErrTrailers.Reason}},
		{"pseudo-header field in trailers (8.1)", func(p *peer) []byte {
			return append(p.post(1), p.head(1, true, ":path: /")...)
		}, []string{"1 POST https://x/", "1 reset PROTOCOL_ERROR: " + ErrPseudo.Reason}},
		{"capital in trailers (8.2)", func(p *peer) []byte {
			return append(p.post(1), p.head(1, true, "A: b")...)
		}, []string{"1 POST https://x/", "1 reset PROTOCOL_ERROR: " + ErrName.Reason}},
		{"data after the end (5.1)", func(p *peer) []byte {
			return append(p.get(1), data(1, "abc", false)...)
		}, []string{"1 GET https://x/ end", "1 reset STREAM_CLOSED: " + ErrHalfClosed.Reason}},
		{"head after the end (5.1)", func(p *peer) []byte {
			return append(p.get(1), p.head(1, true, "a: b")...)
		}, []string{"1 GET https://x/ end", "1 reset STREAM_CLOSED: " + ErrHalfClosed.Reason}},
		{"reset by the client", func(p *peer) []byte {
			return append(p.post(1), reset(1, Cancel)...)
		}, []string{"1 POST https://x/", "1 reset CANCEL"}},
		{"stream that depends on itself (RFC 7540 5.3.1)", func(p *peer) []byte {
			return raw(frameHeaders, flagEndHeaders|flagEndStream|flagPriority, 1, append([]byte{0, 0, 0, 1, 0}, p.encode(getLines...)...))
		}, []string{"refused: " + ErrDependency.Reason}},
	}
	for _, tt := range tests {
		bothWays(t, tt.name, func(t *testing.T, step int) {
			p := clientOf(t)
			p.step = step
			p.want(p.feed(tt.in(p)), nil)
			if diff := cmp.Diff(tt.want, p.take()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestKindsAndMarks(t *testing.T) {
	p := clientOf(t)
	var got []string
	p.h.onHead = nil
	h := &kindHandler{recorder: p.h, got: &got}
	p.server.h, p.server.sh = h, h
	p.want(p.feed(p.post(1, "x-forwarded-for: 1", "x-forwarded-proto: 1", "x-forwarded-host: 1", "a_b: 1", "a: 1", "te: trailers", "expect: 100-continue", "content-length: 7", "host: x")), nil)
	want := []string{"x-forwarded-for ForwardedFor", "x-forwarded-proto ForwardedProto", "x-forwarded-host ForwardedHost", "a_b Underscore", "a Other", "te HopByHop", "expect Expect", "content-length ContentLength", "host Host", "7 true true"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

type kindHandler struct {
	*recorder
	got *[]string
}

func (h *kindHandler) Request(_ *Stream, req *Request, _ bool) {
	names := [...]string{"Other", "Host", "ContentLength", "TransferEncoding", "Connection", "HopByHop", "Upgrade", "Expect", "ForwardedFor", "ForwardedProto", "ForwardedHost", "Forwarded", "RealIP", "Cookie", "SetCookie", "Date", "Underscore", "Dropped"}
	for _, f := range req.Fields {
		*h.got = append(*h.got, string(f.Name)+" "+names[f.Kind])
	}
	*h.got = append(*h.got, fmt.Sprint(req.ContentLength, req.Trailers, req.Continue))
}
