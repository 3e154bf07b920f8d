package http2

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// chat is a gRPC service: Talk answers each message with itself, until the
// client ends.
type chat struct{ canceled chan struct{} }

func (c *chat) talk(stream grpc.ServerStream) error {
	md, _ := metadata.FromIncomingContext(stream.Context())
	stream.SetTrailer(metadata.Pairs("x-trailer", "late", "x-bin", string([]byte{0, 1, 0xff})))
	if v := md.Get("x-fail"); len(v) > 0 {
		return status.Error(codes.NotFound, v[0]) // trailers only
	}
	for {
		var m wrapperspb.BytesValue
		err := stream.RecvMsg(&m)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			c.canceled <- struct{}{}
			return err
		}
		if err := stream.SendMsg(&m); err != nil {
			return err
		}
	}
}

func startChat(t *testing.T) (*chat, *grpc.ClientConn) {
	c := &chat{canceled: make(chan struct{}, 1)}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	s.RegisterService(&grpc.ServiceDesc{ServiceName: "Chat", HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{{
		StreamName: "Talk", ServerStreams: true, ClientStreams: true,
		Handler: func(srv any, stream grpc.ServerStream) error { return srv.(*chat).talk(stream) },
	}}}, c)
	var done sync.WaitGroup
	done.Go(func() { _ = s.Serve(ln) })
	conn, err := grpc.NewClient("passthrough:///"+startRelay(t, ln.Addr().String(), small), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		s.Stop()
		done.Wait()
	})
	return c, conn
}

var talk = &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}

func TestGRPC(t *testing.T) {
	c, conn := startChat(t)
	t.Run("messages to and fro, many streams", func(t *testing.T) {
		var group sync.WaitGroup
		for worker := range 20 {
			group.Go(func() {
				stream, err := conn.NewStream(t.Context(), talk, "/Chat/Talk")
				if err != nil {
					t.Error(err)
					return
				}
				for i := range 30 {
					sent := wrapperspb.Bytes(bytes.Repeat([]byte{byte(worker)}, i*1000))
					if err := stream.SendMsg(sent); err != nil {
						t.Error(err)
						return
					}
					var got wrapperspb.BytesValue
					if err := stream.RecvMsg(&got); err != nil || !bytes.Equal(got.Value, sent.Value) {
						t.Errorf("message %d: %d bytes of %d, %v", i, len(got.Value), len(sent.Value), err)
						return
					}
				}
				if err := stream.CloseSend(); err != nil {
					t.Error(err)
				}
				if err := stream.RecvMsg(&wrapperspb.BytesValue{}); !errors.Is(err, io.EOF) {
					t.Errorf("the end: %v", err)
				}
				if got := fmt.Sprintf("%q", map[string][]string(stream.Trailer())); got != `map["x-bin":["\x00\x01\xff"] "x-trailer":["late"]]` {
					t.Errorf("trailers %s", got)
				}
			})
		}
		group.Wait()
	})
	t.Run("a stream of many small messages, not in step", func(t *testing.T) {
		stream, err := conn.NewStream(t.Context(), talk, "/Chat/Talk")
		if err != nil {
			t.Fatal(err)
		}
		var sender sync.WaitGroup
		sender.Go(func() {
			for range 20_000 {
				if err := stream.SendMsg(wrapperspb.Bytes([]byte("hello"))); err != nil {
					t.Error(err)
					return
				}
			}
			_ = stream.CloseSend()
		})
		n := 0
		for ; ; n++ {
			var m wrapperspb.BytesValue
			if err := stream.RecvMsg(&m); err != nil {
				if !errors.Is(err, io.EOF) {
					t.Error(err)
				}
				break
			}
		}
		sender.Wait()
		if n != 20_000 {
			t.Errorf("%d messages", n)
		}
	})
	t.Run("trailers only", func(t *testing.T) {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "x-fail", "no such thing")
		stream, err := conn.NewStream(ctx, talk, "/Chat/Talk")
		if err != nil {
			t.Fatal(err)
		}
		err = stream.RecvMsg(&wrapperspb.BytesValue{})
		if st := status.Convert(err); st.Code() != codes.NotFound || st.Message() != "no such thing" {
			t.Errorf("%v", err)
		}
	})
	t.Run("no such method", func(t *testing.T) {
		err := conn.Invoke(t.Context(), "/Chat/Nothing", wrapperspb.Bytes(nil), &wrapperspb.BytesValue{})
		if status.Code(err) != codes.Unimplemented {
			t.Errorf("%v", err)
		}
	})
	t.Run("client cancels", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		stream, err := conn.NewStream(ctx, talk, "/Chat/Talk")
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.SendMsg(wrapperspb.Bytes([]byte("hello"))); err != nil {
			t.Fatal(err)
		}
		if err := stream.RecvMsg(&wrapperspb.BytesValue{}); err != nil {
			t.Fatal(err)
		}
		cancel()
		<-c.canceled
	})
}
