package security

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second // for an event that ought to come at once

// sibling makes another node's identity in the same cluster.
func sibling(t *testing.T, id *Identity, name string) *Identity {
	t.Helper()
	token, err := NewToken(id.Fingerprint())
	if err != nil {
		t.Fatal(err)
	}
	_, address := startMux(t, MuxConfig{Identity: id}, acceptAll{})
	joined, err := Join(t.Context(), JoinConfig{Server: address, Token: token, Name: name, Address: "127.0.0.1:7443", Dir: filepath.Join(t.TempDir(), name)})
	if err != nil {
		t.Fatal(err)
	}
	return joined.Identity
}

type acceptAll struct{}

func (acceptAll) Admit(context.Context, string, []byte, string, string) error { return nil }
func (acceptAll) Members() map[string]string                                  { return map[string]string{"n1": "127.0.0.1:1"} }

// startMux runs a Mux on loopback, with a join server if there is an admitter.
func startMux(t *testing.T, config MuxConfig, admitter Admitter) (*Mux, string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	config.Listener = listener
	mux := NewMux(config)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- mux.Run(ctx) }()
	servers := 1
	if admitter != nil {
		servers++
		join := NewJoinServer(config.Identity, admitter, nil)
		go func() { done <- join.Run(ctx, mux.Join()) }()
	}
	t.Cleanup(func() {
		cancel()
		for range servers {
			select {
			case err := <-done:
				if err != nil {
					t.Errorf("Run: %v", err)
				}
			case <-time.After(patience):
				t.Error("Run did not return after its context ended")
			}
		}
	})
	return mux, listener.Addr().String()
}

// echo answers the first connection of a listener with the peer's name.
func echo(t *testing.T, listener net.Listener) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			name := "stranger"
			if cs := conn.(*tls.Conn).ConnectionState(); len(cs.PeerCertificates) > 0 {
				name, _ = PeerName(cs)
			}
			_, _ = io.WriteString(conn, name)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = listener.Close(); <-done })
}

// said connects and gives what the server says, or the first error.
func said(t *testing.T, address string, config *tls.Config) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	// With TLS 1.3 the server's verdict on our certificate comes after our
	// handshake is done: with the first bytes.
	text, err := io.ReadAll(conn)
	if err == nil && len(text) == 0 {
		err = io.EOF
	}
	return string(text), err
}

func TestMuxSplitsByProtocol(t *testing.T) {
	_, id := create(t, "n1")
	n2 := sibling(t, id, "n2")
	_, stranger := create(t, "n2")
	refused := "n3"
	n3 := sibling(t, id, refused)

	mux, address := startMux(t, MuxConfig{Identity: id, Authorize: func(proto, node string) bool {
		return proto == ProtoRaft || node != refused
	}}, nil)
	for _, listener := range []net.Listener{mux.GRPC(), mux.Raft(), mux.Join()} {
		echo(t, listener)
	}
	bare := func(protos ...string) *tls.Config {
		return &tls.Config{InsecureSkipVerify: true, NextProtos: protos}
	}
	otherCA := stranger.ClientTLS("", ProtoGRPC)
	otherCA.RootCAs = id.pool // it trusts us: do we trust it?
	otherCA.ServerName = memberDNS(id.ClusterID(), "")
	otherCA.VerifyConnection = nil
	old := n2.ClientTLS("", ProtoGRPC)
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12

	cases := []struct {
		name   string
		config *tls.Config
		want   string // empty: refused
	}{
		{"a member's gRPC", n2.ClientTLS("", ProtoGRPC), "n2"},
		{"a member's raft", n2.ClientTLS("", ProtoRaft), "n2"},
		{"a member to this node by name", n2.ClientTLS("n1", ProtoGRPC), "n2"},
		{"a member to another node by name", n2.ClientTLS("n7", ProtoGRPC), ""},
		{"join without a certificate", bare(ProtoJoin), "stranger"},
		{"gRPC without a certificate", bare(ProtoGRPC), ""},
		{"raft without a certificate", bare(ProtoRaft), ""},
		{"gRPC and join without a certificate", bare(ProtoJoin, ProtoGRPC), ""},
		{"no protocol, no certificate", bare(), ""},
		{"no protocol, a member", n2.ClientTLS(""), ""},
		{"unknown protocol", n2.ClientTLS("", "http/1.1"), ""},
		{"another cluster's certificate", otherCA, ""},
		{"another cluster's node, by its own rules", stranger.ClientTLS("", ProtoGRPC), ""},
		{"TLS 1.2", old, ""},
		{"a removed member's gRPC", n3.ClientTLS("", ProtoGRPC), ""},
		{"raft is left to raft", n3.ClientTLS("", ProtoRaft), "n3"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := said(t, address, c.config)
			if got != c.want || (err == nil) != (c.want != "") {
				t.Errorf("the server said %q (%v), want %q", got, err, c.want)
			}
		})
	}
	t.Run("expired certificate", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "n4")
		token, _ := NewToken(id.Fingerprint())
		_, joinAt := startMux(t, MuxConfig{Identity: id}, acceptAll{})
		joined, err := Join(t.Context(), JoinConfig{Server: joinAt, Token: token, Name: "n4", Address: "127.0.0.1:7443", Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		issueAt(t, dir, time.Now().Add(-nodeLife-time.Hour))
		joined.Identity.stamp = fileStamp{}
		if got, err := said(t, address, joined.Identity.ClientTLS("", ProtoGRPC)); err == nil {
			t.Errorf("the server said %q to an expired certificate", got)
		}
	})
}

func TestMuxHandshakesAreBoundedInTime(t *testing.T) {
	_, id := create(t, "n1")
	mux, address := startMux(t, MuxConfig{Identity: id, HandshakeTimeout: 50 * time.Millisecond, Handshakes: 2}, nil)
	echo(t, mux.GRPC())
	// Silent clients take both places; a member gets through all the same.
	for range 5 {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	// The bound is generous to a slow machine: the member tries until it is in.
	deadline := time.Now().Add(patience)
	for {
		got, err := said(t, address, id.ClientTLS("", ProtoGRPC))
		if got == "n1" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("silent clients kept a member out: %v", err)
		}
	}
}

func TestMuxListenersEndWithRun(t *testing.T) {
	_, id := create(t, "n1")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	mux := NewMux(MuxConfig{Listener: listener, Identity: id})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- mux.Run(ctx) }()
	accepted := make(chan error, 1)
	go func() { _, err := mux.Raft().Accept(); accepted <- err }()
	cancel()
	for what, c := range map[string]chan error{"Run": done, "Accept": accepted} {
		select {
		case err := <-c:
			if what == "Accept" && !errors.Is(err, net.ErrClosed) {
				t.Errorf("Accept: %v, want net.ErrClosed", err)
			}
			if what == "Run" && err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(patience):
			t.Fatalf("%s did not return", what)
		}
	}
}

func TestDialRaft(t *testing.T) {
	_, id := create(t, "n1")
	mux, address := startMux(t, MuxConfig{Identity: id}, nil)
	echo(t, mux.Raft())
	conn, err := id.DialRaft(t.Context(), address, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if text, err := io.ReadAll(conn); string(text) != "n1" || err != nil {
		t.Errorf("got %q, %v", text, err)
	}
}
