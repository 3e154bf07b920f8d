package http2

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	xhttp2 "golang.org/x/net/http2"

	"github.com/pharos-lb/pharos/proxy/l7/http1"
)

func request(method string, fields ...http1.Field) *Request {
	return &Request{Method: []byte(method), Scheme: []byte("http"), Authority: []byte("x"), Path: []byte("/a?b"), Fields: fields}
}

func TestRequestsAreWritten(t *testing.T) {
	field := func(name, value string, kind http1.Kind) http1.Field {
		return http1.Field{Name: []byte(name), Value: []byte(value), Kind: kind}
	}
	tests := []struct {
		name  string
		write func(c *ClientConn)
		want  []string
	}{
		{"no body", func(c *ClientConn) { c.NewStream(request("GET"), true) }, []string{"HEADERS 1 :method=GET :scheme=http :authority=x :path=/a?b end"}},
		{"fields of one hop are left out (8.2.2)", func(c *ClientConn) {
			c.NewStream(request("PUT",
				field("Host", "x", http1.Host), field("Connection", "close, X-A", http1.Connection), field("X-A", "1", http1.Dropped),
				field("Keep-Alive", "1", http1.HopByHop), field("Transfer-Encoding", "chunked", http1.TransferEncoding),
				field("Upgrade", "h2c", http1.Upgrade), field("Accept", "*/*", http1.Other), field("Content-Length", "0", http1.ContentLength)), true)
		}, []string{"HEADERS 1 :method=PUT :scheme=http :authority=x :path=/a?b accept=*/* content-length=0 end"}},
		{"body and trailers", func(c *ClientConn) {
			r := request("POST")
			r.Trailers = true
			s := c.NewStream(r, false)
			s.WriteData([]byte("abc"), false)
			s.WriteTrailers([]http1.Field{field("grpc-status", "0", 0)})
		}, []string{"HEADERS 1 :method=POST :scheme=http :authority=x :path=/a?b te=trailers", "DATA 1 abc", "HEADERS 1 grpc-status=0 end"}},
		{"canceled", func(c *ClientConn) { c.NewStream(request("GET"), true).Reset(Cancel) }, []string{"HEADERS 1 :method=GET :scheme=http :authority=x :path=/a?b end", "RST_STREAM 1 CANCEL"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := serverOf(t)
			tt.write(p.client)
			p.shared.Flush()
			if diff := cmp.Diff(tt.want, p.frames()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestResponses(t *testing.T) {
	h := func(p *peer, end bool, lines ...string) []byte { return p.head(1, end, lines...) }
	bad := func(err *Error) []string { return []string{fmt.Sprintf("1 reset %v: %s", err.Code, err.Reason)} }
	tests := []struct {
		name   string
		method string
		in     func(p *peer) []byte
		want   []string
	}{
		{"head only", "GET", func(p *peer) []byte { return h(p, true, ":status: 204", "a: b") }, []string{"1 204 a=b end"}},
		{"body", "GET", func(p *peer) []byte {
			return append(h(p, false, ":status: 200", "content-length: 3"), data(1, "abc", true)...)
		}, []string{"1 200 content-length=3", "1 data abc end"}},
		{"interim responses", "GET", func(p *peer) []byte {
			return append(append(h(p, false, ":status: 100"), h(p, false, ":status: 103", "link: a")...), h(p, true, ":status: 200")...)
		}, []string{"1 100", "1 103 link=a", "1 200 end"}},
		{"trailers", "POST", func(p *peer) []byte {
			return append(append(h(p, false, ":status: 200"), data(1, "abc", false)...), h(p, true, "grpc-status: 0", "grpc-message: ok")...)
		}, []string{"1 200", "1 data abc", "1 trailers grpc-status=0 grpc-message=ok"}},
		{"gRPC's trailers without a body", "POST", func(p *peer) []byte {
			return h(p, true, ":status: 200", "content-type: application/grpc", "grpc-status: 12")
		}, []string{"1 200 content-type=application/grpc grpc-status=12 end"}},
		{"to HEAD, with the length of what GET would get (8.1.1)", "HEAD", func(p *peer) []byte { return h(p, true, ":status: 200", "content-length: 3") }, []string{"1 200 content-length=3 end"}},
		{"to HEAD, ended by an empty frame", "HEAD", func(p *peer) []byte {
			return append(h(p, false, ":status: 200", "content-length: 3"), data(1, "", true)...)
		}, []string{"1 200 content-length=3", "1 data  end"}},
		{"to HEAD, with a body", "HEAD", func(p *peer) []byte {
			return append(h(p, false, ":status: 200"), data(1, "abc", true)...)
		}, append([]string{"1 200"}, bad(ErrBodyLength)...)},
		{"304 with a length", "GET", func(p *peer) []byte { return h(p, true, ":status: 304", "content-length: 3") }, []string{"1 304 content-length=3 end"}},
		{"expectation, which means nothing here", "GET", func(p *peer) []byte { return h(p, true, ":status: 200", "expect: magic") }, []string{"1 200 expect=magic end"}},
		{"no body where a length promises one", "GET", func(p *peer) []byte { return h(p, true, ":status: 200", "content-length: 3") }, bad(ErrBodyLength)},
		{"no status (8.3.2)", "GET", func(p *peer) []byte { return h(p, true, "a: b") }, bad(ErrPseudo)},
		{"path in a response (8.3)", "GET", func(p *peer) []byte { return h(p, true, ":status: 200", ":path: /") }, bad(ErrPseudo)},
		{"status of two digits", "GET", func(p *peer) []byte { return h(p, true, ":status: 20") }, bad(ErrStatus)},
		{"status with a reason", "GET", func(p *peer) []byte { return h(p, true, ":status: 200 OK") }, bad(ErrStatus)},
		{"status 600", "GET", func(p *peer) []byte { return h(p, true, ":status: 600") }, bad(ErrStatus)},
		{"101 (8.6)", "GET", func(p *peer) []byte { return h(p, false, ":status: 101") }, bad(ErrStatus)},
		{"interim response that ends (8.1)", "GET", func(p *peer) []byte { return h(p, true, ":status: 103") }, bad(ErrStatus)},
		{"field of a connection (8.2.2)", "GET", func(p *peer) []byte { return h(p, true, ":status: 200", "connection: close") }, bad(ErrConnectionField)},
		{"CR LF in a value (8.2.1)", "GET", func(p *peer) []byte { return h(p, true, ":status: 200", "a: b\r\nc: d") }, bad(ErrValue)},
		{"data before the head (8.1)", "GET", func(p *peer) []byte { return data(1, "abc", false) }, bad(ErrNoHead)},
		{"head larger than allowed", "GET", func(p *peer) []byte { return p.long(1, true, ":status: 200", "a: "+strings.Repeat("b", 33<<10)) }, bad(ErrTooLarge)},
		{"refused: nothing was done (8.7)", "POST", func(p *peer) []byte { return reset(1, RefusedStream) }, []string{"1 reset REFUSED_STREAM (unprocessed)"}},
		{"refused after the head, which cannot be", "POST", func(p *peer) []byte {
			return append(h(p, false, ":status: 200"), reset(1, RefusedStream)...)
		}, []string{"1 200", "1 reset REFUSED_STREAM"}},
		{"reset", "POST", func(p *peer) []byte { return reset(1, InternalError) }, []string{"1 reset INTERNAL_ERROR"}},
		{"answered early, and told to stop (8.1)", "POST-open", func(p *peer) []byte {
			return append(h(p, true, ":status: 413"), reset(1, NoError)...)
		}, []string{"1 413 end", "1 reset NO_ERROR"}},
	}
	for _, tt := range tests {
		bothWays(t, tt.name, func(t *testing.T, step int) {
			p := serverOf(t)
			p.step = step
			method, open := strings.CutSuffix(tt.method, "-open")
			p.client.NewStream(request(method), !open)
			p.want(p.feed(tt.in(p)), nil)
			if diff := cmp.Diff(tt.want, p.take()); diff != "" {
				t.Error(diff)
			}
			if p.client.Streams() != 0 {
				t.Error("the stream is still open")
			}
		})
	}
}

func TestClientConnectionErrors(t *testing.T) {
	tests := []struct {
		name string
		in   func(p *peer) []byte
		want *Error
	}{
		{"push (8.4)", func(p *peer) []byte { return raw(framePushPromise, flagEndHeaders, 1, []byte{0, 0, 0, 2, 0x82}) }, ErrPush},
		{"push switched on (6.5.2)", func(*peer) []byte {
			return settingsFrame(xhttp2.Setting{ID: xhttp2.SettingEnablePush, Val: 1})
		}, ErrSetting},
		{"head of a stream that was not opened", func(p *peer) []byte { return p.head(3, true, ":status: 200") }, ErrIdle},
		{"head of a pushed stream", func(p *peer) []byte { return p.head(2, true, ":status: 200") }, ErrStreamID},
		{"data of a stream that was not opened", func(*peer) []byte { return data(3, "a", false) }, ErrIdle},
		{"data after the end", func(p *peer) []byte {
			return append(p.head(1, true, ":status: 200"), data(1, "a", false)...)
		}, ErrClosed},
		{"another head after the end", func(p *peer) []byte {
			return append(p.head(1, true, ":status: 200"), p.head(1, true, "a: b")...)
		}, ErrClosed},
		{"endless interim responses", func(p *peer) (b []byte) {
			for range overheadBurst + 1 {
				b = append(b, p.head(1, false, ":status: 103")...)
			}
			return b
		}, ErrOverhead},
	}
	for _, tt := range tests {
		bothWays(t, tt.name, func(t *testing.T, step int) {
			p := serverOf(t)
			p.step = step
			p.client.NewStream(request("GET"), true)
			p.want(p.feed(tt.in(p)), tt.want)
			if n := p.client.Available(); n != 0 {
				t.Errorf("%d streams are available", n)
			}
			if p.client.NewStream(request("GET"), true) != nil {
				t.Error("a stream was opened")
			}
		})
	}
}

func TestServersLimitOfStreams(t *testing.T) {
	p := serverOf(t, xhttp2.Setting{ID: xhttp2.SettingMaxConcurrentStreams, Val: 2})
	if n := p.client.Available(); n != 2 {
		t.Fatalf("%d streams are available, want 2", n)
	}
	p.client.NewStream(request("GET"), true)
	p.client.NewStream(request("GET"), true)
	if p.client.Available() != 0 || p.client.NewStream(request("GET"), true) != nil {
		t.Fatal("more streams than the server allows")
	}
	p.want(p.feed(p.head(1, true, ":status: 200")), nil)
	if n := p.client.Available(); n != 1 {
		t.Errorf("%d streams are available, want 1", n)
	}
	p.want(p.feed(settingsFrame(xhttp2.Setting{ID: xhttp2.SettingMaxConcurrentStreams, Val: 0})), nil)
	if n := p.client.Available(); n != 0 {
		t.Errorf("%d streams are available, want 0", n)
	}
}

func TestServerGoesAway(t *testing.T) {
	p := serverOf(t)
	for range 3 {
		p.client.NewStream(request("POST"), true)
	}
	// The first of two: nothing new, all go on.
	p.want(p.feed(appendGoAway(nil, maxStreamID, NoError, "")), nil)
	if diff := cmp.Diff([]string{"goaway NO_ERROR"}, p.take()); diff != "" {
		t.Error(diff)
	}
	if p.client.Available() != 0 || p.client.Streams() != 3 || p.client.Finished() {
		t.Error("after the first GOAWAY: streams are available, or were ended")
	}
	// The second one says which were processed (section 6.8).
	p.want(p.feed(appendGoAway(nil, 1, NoError, "")), nil)
	if diff := cmp.Diff([]string{"5 reset NO_ERROR (unprocessed)", "3 reset NO_ERROR (unprocessed)", "goaway NO_ERROR"}, p.take()); diff != "" {
		t.Error(diff)
	}
	p.want(p.feed(p.head(1, true, ":status: 200")), nil)
	if !p.client.Finished() {
		t.Error("not finished")
	}
}

func TestPing(t *testing.T) {
	p := serverOf(t)
	if _, ok := p.client.Pinged(); !ok {
		t.Error("an answer is missing before anything was asked")
	}
	p.client.Ping(10)
	p.client.Ping(20)
	p.shared.Flush()
	if diff := cmp.Diff([]string{"PING 0000000000000001"}, p.frames()); diff != "" {
		t.Error(diff)
	}
	p.want(p.feed(raw(framePing, flagAck, 0, []byte("another1"))), nil)
	if _, ok := p.client.Pinged(); ok {
		t.Error("another's answer was taken")
	}
	p.now = 35
	p.want(p.feed(raw(framePing, flagAck, 0, []byte{7: 1})), nil)
	if rtt, ok := p.client.Pinged(); !ok || rtt != 25 {
		t.Errorf("Pinged = %v, %v; want 25, true", rtt, ok)
	}
	p.want(p.feed(raw(framePing, 0, 0, []byte("question"))), nil)
	if diff := cmp.Diff([]string{"PING 7175657374696f6e ack"}, p.frames()); diff != "" {
		t.Error(diff)
	}
}

// A graceful end of ours: first the warning, a round trip later the last id.
func TestWeGoAway(t *testing.T) {
	ack := raw(framePing, flagAck, 0, drainPing[:])
	p := clientOf(t)
	p.want(p.feed(p.get(1)), nil)
	p.server.GoAway()
	p.shared.Flush()
	if diff := cmp.Diff([]string{"GOAWAY 2147483647 NO_ERROR", "PING 647261696e696e67"}, p.frames()); diff != "" {
		t.Error(diff)
	}
	// What was on its way is taken.
	p.want(p.feed(p.post(3), ack, p.post(5), data(5, "x", true), data(3, "y", true)), nil)
	if diff := cmp.Diff([]string{"1 GET https://x/ end", "3 POST https://x/", "3 data y end"}, p.take()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"GOAWAY 3 NO_ERROR"}, p.frames()); diff != "" {
		t.Error(diff)
	}
	p.h.streams[1].WriteHeaders(200, nil, true)
	if p.server.Finished() {
		t.Error("finished while a stream is open")
	}
	p.h.streams[3].WriteHeaders(200, nil, true)
	if !p.server.Finished() {
		t.Error("not finished")
	}

	// A client that does not answer the PING.
	p = clientOf(t)
	p.want(p.feed(p.get(1)), nil)
	p.server.GoAway()
	p.server.GoAway()
	p.server.GoAway()
	p.shared.Flush()
	if diff := cmp.Diff([]string{"GOAWAY 2147483647 NO_ERROR", "PING 647261696e696e67", "GOAWAY 1 NO_ERROR"}, p.frames()); diff != "" {
		t.Error(diff)
	}

	// A client has no stream to tell of.
	s := serverOf(t)
	s.client.GoAway()
	s.shared.Flush()
	if diff := cmp.Diff([]string{"GOAWAY 0 NO_ERROR"}, s.frames()); diff != "" || !s.client.Finished() {
		t.Error(diff, s.client.Finished())
	}
}

func TestClientGoesAway(t *testing.T) {
	p := clientOf(t)
	p.want(p.feed(p.get(1), appendGoAway(nil, 0, NoError, "")), nil)
	p.h.streams[1].WriteHeaders(200, nil, true)
	if p.server.Finished() {
		t.Error("a client that says GOAWAY may still ask")
	}
}
