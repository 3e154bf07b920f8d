package check

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// grpcServer is grpc-go's own, with its health service unless bare.
func grpcServer(t testing.TB, bare bool, options ...grpc.ServerOption) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(options...)
	if !bare {
		h := health.NewServer()
		h.SetServingStatus("up", healthpb.HealthCheckResponse_SERVING)
		h.SetServingStatus("down", healthpb.HealthCheckResponse_NOT_SERVING)
		h.SetServingStatus("odd", healthpb.HealthCheckResponse_UNKNOWN)
		h.SetServingStatus("lost", healthpb.HealthCheckResponse_SERVICE_UNKNOWN)
		healthpb.RegisterHealthServer(s, h)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.Serve(ln)
	}()
	t.Cleanup(func() {
		s.Stop()
		<-ended
	})
	return addrOf(t, ln.Addr().String())
}

func TestGRPC(t *testing.T) {
	full, bare := grpcServer(t, false), grpcServer(t, true)
	secured := grpcServer(t, false, grpc.Creds(credentials.NewTLS(serverTLS(nil))))
	web := serve(t, func(c net.Conn) {
		_, _ = c.Read(make([]byte, 1000))
		_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
	})
	old := serve(t, func(c net.Conn) { // TLS without ALPN
		s := tls.Server(c, serverTLS(nil))
		_ = s.HandshakeContext(t.Context())
		_, _ = s.Read(make([]byte, 1))
	})
	tests := []struct {
		name   string
		server netip.AddrPort
		spec   Spec
		want   string
	}{
		{"the server as a whole", full, Spec{}, ""},
		{"a service that serves", full, Spec{Service: "up"}, ""},
		{"an authority of one's own", full, Spec{Service: "up", Host: "grpc.example"}, ""},
		{"a service that does not", full, Spec{Service: "down"}, "grpc: not serving"},
		{"a service that does not know", full, Spec{Service: "odd"}, "grpc: status unknown"},
		{"a service that was forgotten", full, Spec{Service: "lost"}, "grpc: service unknown"},
		{"a service that is not there", full, Spec{Service: "nowhere"}, "grpc: NotFound"},
		{"no health service", bare, Spec{}, "grpc: Unimplemented"},
		{"over TLS", secured, Spec{TLS: clientTLS(t, "web.example")}, ""},
		{"over TLS, another name", secured, Spec{TLS: clientTLS(t, "b.example")}, "tls: certificate for another name"},
		{"a web server", web, Spec{}, "grpc: malformed answer"},
		{"a TLS server that knows no protocols", old, Spec{TLS: &tls.Config{}}, "tls: the server does not offer HTTP/2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.spec.Kind = KindGRPC
			if got := ask(t, compile(t, tt.spec), tt.server); got != tt.want {
				t.Errorf("probe = %q, want %q", got, tt.want)
			}
		})
	}
}

// answer lays out frames as a server would send them.
func answer(frames func(f *http2.Framer, fields func(...string) []byte)) []byte {
	var out, block bytes.Buffer
	e := hpack.NewEncoder(&block)
	frames(http2.NewFramer(&out, nil), func(pairs ...string) []byte {
		block.Reset()
		for i := 0; i < len(pairs); i += 2 {
			_ = e.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]})
		}
		return bytes.Clone(block.Bytes())
	})
	return out.Bytes()
}

var serving = []byte{0, 0, 0, 0, 2, 8, 1}

// whole is a complete answer with some message.
func whole(message []byte) []byte {
	return answer(func(f *http2.Framer, fields func(...string) []byte) {
		_ = f.WriteSettings()
		_ = f.WritePing(false, [8]byte{1})
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: fields(":status", "200", "content-type", "application/grpc"), EndHeaders: true})
		_ = f.WriteData(1, false, message)
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: fields("grpc-status", "0"), EndHeaders: true, EndStream: true})
	})
}

func oneHead(pairs ...string) []byte {
	return answer(func(f *http2.Framer, fields func(...string) []byte) {
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: fields(pairs...), EndHeaders: true, EndStream: true})
	})
}

func judgeBytes(b []byte) error {
	return judgeCall(newFramer(io.Discard, bytes.NewReader(b)))
}

func TestGRPCAnswers(t *testing.T) {
	tests := []struct {
		name   string
		answer []byte
		want   string
	}{
		{"serving", whole(serving), ""},
		{"with fields of a later protocol", whole([]byte{0, 0, 0, 0, 6, 18, 2, 'h', 'i', 8, 1}), ""},
		{"an empty message is UNKNOWN", whole([]byte{0, 0, 0, 0, 0}), "grpc: status unknown"},
		{"no message", whole(nil), "grpc: malformed answer"},
		{"compressed without leave", whole([]byte{1, 0, 0, 0, 2, 8, 1}), "grpc: malformed answer"},
		{"a length that lies", whole([]byte{0, 255, 255, 255, 255, 8, 1}), "grpc: malformed answer"},
		{"half a field", whole([]byte{0, 0, 0, 0, 1, 8}), "grpc: malformed answer"},
		{"a proxy's own status", oneHead(":status", "503"), "status 503"},
		{"an error without a message", oneHead(":status", "200", "grpc-status", "14"), "grpc: Unavailable"},
		{"a status that is none", oneHead(":status", "200", "grpc-status", "x"), "grpc: malformed answer"},
		{"reset", answer(func(f *http2.Framer, _ func(...string) []byte) { _ = f.WriteRSTStream(1, http2.ErrCodeRefusedStream) }), "grpc: stream reset"},
		{"sent away", answer(func(f *http2.Framer, _ func(...string) []byte) { _ = f.WriteGoAway(0, http2.ErrCodeNo, nil) }), "grpc: refused by the server"},
		{"data without trailers", answer(func(f *http2.Framer, _ func(...string) []byte) { _ = f.WriteData(1, true, serving) }), "grpc: malformed answer"},
		{"pings without end", bytes.Repeat(answer(func(f *http2.Framer, _ func(...string) []byte) { _ = f.WritePing(false, [8]byte{}) }), 1000), "grpc: answer too long"},
		{"nothing", nil, "grpc: closed by the server"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := ""
			if err := judgeBytes(tt.answer); err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("judged %q, want %q", got, tt.want)
			}
		})
	}
}

func FuzzGRPCAnswer(f *testing.F) {
	f.Add(whole(serving))
	f.Add(whole([]byte{0, 0, 0, 0, 6, 18, 2, 'h', 'i', 8, 2}))
	f.Add(oneHead(":status", "503"))
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := judgeBytes(b); err != nil && len(err.Error()) > 60 {
			t.Errorf("the reason is no short text: %q", err.Error())
		}
	})
}

func FuzzGRPCMessage(f *testing.F) {
	f.Add(serving)
	f.Add([]byte{0, 0, 0, 0, 6, 18, 2, 'h', 'i', 8, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if judgeMessage(b) == nil && !bytes.Contains(b, []byte{8}) {
			t.Errorf("%x passed without the field of the status", b)
		}
	})
}
