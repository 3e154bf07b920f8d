package check

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net/netip"
	"strconv"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"
)

// The gRPC health checking protocol is one unary call of
// grpc.health.v1.Health/Check (github.com/grpc/grpc/blob/master/doc/health-checking.md)
// over HTTP/2 (RFC 9113). Its one request is written, and its answer read,
// frame by frame: grpc-go's client, made for lasting channels, takes about
// eight times as long for one call (BenchmarkGRPC, BenchmarkGRPCClient).

// grpcCheck is a spec made ready.
type grpcCheck struct {
	host     string // :authority; empty: the server's address
	tls      *tls.Config
	greeting string
	message  []byte // the length-prefixed HealthCheckRequest
}

// maxFrames bounds the frames of an answer.
const maxFrames = 100

// grpcProbe passes when the server says SERVING.
func grpcProbe(s Spec) Probe {
	g := &grpcCheck{host: s.Host, tls: secure(s.TLS, http2.NextProtoTLS), greeting: s.Greeting}
	var request []byte
	if s.Service != "" {
		request = protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), s.Service)
	}
	g.message = append([]byte{0}, binary.BigEndian.AppendUint32(nil, uint32(len(request)))...)
	g.message = append(g.message, request...)
	return g.probe
}

func (g *grpcCheck) probe(ctx context.Context, server netip.AddrPort) error {
	c, err := open(ctx, server, g.tls, g.greeting)
	if err != nil {
		return err
	}
	defer c.close()
	if !c.speaks(http2.NextProtoTLS) {
		return &failure{"tls", "the server does not offer HTTP/2"}
	}
	host := g.host
	if host == "" {
		host = server.String()
	}
	if _, err := c.Write(g.call(host)); err != nil {
		return &failure{"grpc", reason(err)}
	}
	return judgeCall(newFramer(c, c))
}

// newFramer reads an answer from r, and writes what it asks for to w.
func newFramer(w io.Writer, r io.Reader) *http2.Framer {
	framer := http2.NewFramer(w, &bounded{r, maxAnswer})
	framer.SetReuseFrames()
	framer.SetMaxReadFrameSize(16 << 10) // what RFC 9113 section 6.5.2 lets a server send unasked
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	framer.MaxHeaderListSize = 16 << 10
	return framer
}

// call is all that the client has to say before the answer: the preface
// (RFC 9113 section 3.4), its settings, the call's fields, and the message.
func (g *grpcCheck) call(host string) []byte {
	var out, block bytes.Buffer
	fields := hpack.NewEncoder(&block)
	for _, f := range [][2]string{
		{":method", "POST"},
		{":scheme", g.scheme()},
		{":path", "/grpc.health.v1.Health/Check"},
		{":authority", host},
		{"content-type", "application/grpc"},
		{"user-agent", "pharos-check"},
		{"te", "trailers"},
	} {
		_ = fields.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}) // to memory: cannot fail
	}
	out.WriteString(http2.ClientPreface)
	framer := http2.NewFramer(&out, nil)
	_ = framer.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 0})
	_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true})
	_ = framer.WriteData(1, true, g.message)
	return out.Bytes()
}

func (g *grpcCheck) scheme() string {
	if g.tls == nil {
		return "http"
	}
	return "https"
}

// judgeCall reads the answer to the call on stream 1.
func judgeCall(framer *http2.Framer) error {
	var message []byte
	for range maxFrames {
		frame, err := framer.ReadFrame()
		if err != nil {
			return &failure{"grpc", reason(err)}
		}
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				err = framer.WriteSettingsAck() // RFC 9113 section 6.5.3
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				err = framer.WritePing(true, f.Data)
			}
		case *http2.GoAwayFrame:
			if f.LastStreamID < 1 {
				return &failure{"grpc", "refused by the server"}
			}
		case *http2.RSTStreamFrame:
			return &failure{"grpc", "stream reset"}
		case *http2.DataFrame:
			message = append(message, f.Data()...)
			if f.StreamEnded() {
				return &failure{"grpc", errMalformed.Error()} // the trailers are missing
			}
		case *http2.MetaHeadersFrame:
			if err := judgeFields(f); err != nil {
				return err
			}
			if f.StreamEnded() {
				return judgeMessage(message)
			}
		}
		if err != nil {
			return &failure{"grpc", reason(err)}
		}
	}
	return &failure{"grpc", errTooLong.Error()}
}

// judgeFields looks at the fields before or after the message.
func judgeFields(f *http2.MetaHeadersFrame) error {
	if f.Truncated {
		return &failure{"grpc", errTooLong.Error()}
	}
	for _, field := range f.Fields {
		switch field.Name {
		case ":status":
			if status, err := strconv.Atoi(field.Value); err != nil {
				return &failure{"grpc", errMalformed.Error()}
			} else if status != 200 {
				return &StatusError{status}
			}
		case "grpc-status":
			if status, err := strconv.ParseUint(field.Value, 10, 8); err != nil {
				return &failure{"grpc", errMalformed.Error()}
			} else if code := codes.Code(status); code != codes.OK {
				return &failure{"grpc", code.String()}
			}
		}
	}
	return nil
}

// judgeMessage looks at the HealthCheckResponse, whose field 1 is the
// ServingStatus; left out, it is UNKNOWN.
func judgeMessage(b []byte) error {
	malformed := &failure{"grpc", errMalformed.Error()}
	if len(b) < 5 || b[0] != 0 || int64(binary.BigEndian.Uint32(b[1:])) != int64(len(b)-5) {
		return malformed
	}
	var status uint64
	for b = b[5:]; len(b) > 0; {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return malformed
		}
		b = b[n:]
		if number == 1 && kind == protowire.VarintType {
			status, n = protowire.ConsumeVarint(b)
		} else {
			n = protowire.ConsumeFieldValue(number, kind, b)
		}
		if n < 0 {
			return malformed
		}
		b = b[n:]
	}
	switch status {
	case 1:
		return nil
	case 2:
		return &failure{"grpc", "not serving"}
	case 3:
		return &failure{"grpc", "service unknown"}
	}
	return &failure{"grpc", "status unknown"}
}
