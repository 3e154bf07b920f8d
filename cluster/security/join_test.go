package security

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/cluster/fsm"
)

// door is an Admitter with a fixed list of tokens.
type door struct {
	mu     sync.Mutex
	hashes map[string][]byte // by id
	used   map[string]string
	err    error // answered in place of a decision
	asked  int
}

func (d *door) Admit(_ context.Context, id string, hash []byte, node, _ string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	switch {
	case d.err != nil:
		return fmt.Errorf("ask the leader: %w", d.err)
	case !bytes.Equal(d.hashes[id], hash):
		return fsm.ErrTokenUnknown
	case d.used[id] != "":
		return fsm.ErrTokenUsed
	}
	d.used[id] = node
	return nil
}

func (d *door) Members() map[string]string { return map[string]string{"n1": "127.0.0.1:7443"} }

func openDoor(tokens ...Token) *door {
	d := &door{hashes: map[string][]byte{}, used: map[string]string{}}
	for _, token := range tokens {
		d.hashes[token.ID()] = token.Hash()
	}
	return d
}

func tokenFor(t *testing.T, id *Identity) Token {
	t.Helper()
	token, err := NewToken(id.Fingerprint())
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestJoin(t *testing.T) {
	_, id := create(t, "n1")
	token := tokenFor(t, id)
	d := openDoor(token)
	_, address := startMux(t, MuxConfig{Identity: id}, d)
	dir := filepath.Join(t.TempDir(), "data")
	joined, err := Join(t.Context(), JoinConfig{Server: address, Token: token, Name: "n2", Address: "127.0.0.1:7444", Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if joined.Members["n1"] != "127.0.0.1:7443" {
		t.Errorf("members: %v", joined.Members)
	}
	if off := joined.ClockOffset.Abs(); off > time.Minute {
		t.Errorf("a clock offset of %v to itself", off)
	}
	n2, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if n2.Name() != "n2" || n2.ClusterID() != id.ClusterID() || !bytes.Equal(n2.GossipKey(), id.GossipKey()) || n2.Fingerprint() != id.Fingerprint() {
		t.Error("the new node is not of the same cluster")
	}
	if d.used[token.ID()] != "n2" {
		t.Errorf("the token was used by %q", d.used[token.ID()])
	}
	// The new member is a full one: it can admit the next.
	next := tokenFor(t, n2)
	_, address2 := startMux(t, MuxConfig{Identity: n2}, openDoor(next))
	if _, err := Join(t.Context(), JoinConfig{Server: address2, Token: next, Name: "n3", Address: "127.0.0.1:7445", Dir: filepath.Join(t.TempDir(), "data")}); err != nil {
		t.Errorf("join through the new member: %v", err)
	}
	// And a second join in the same place is refused before anything is asked.
	if _, err := Join(t.Context(), JoinConfig{Server: address, Token: token, Name: "n2", Address: "127.0.0.1:7444", Dir: dir}); !errors.Is(err, ErrExists) {
		t.Errorf("join where there is an identity: %v, want ErrExists", err)
	}
}

func TestJoinRefused(t *testing.T) {
	_, id := create(t, "n1")
	_, other := create(t, "n1")
	good := tokenFor(t, id)
	tampered := good
	tampered.secret[0] ^= 1
	wrongCA := good
	wrongCA.fingerprint = other.Fingerprint()

	cases := []struct {
		name   string
		token  Token
		node   string
		at     string
		state  func(*door)
		want   error
		text   string // that the error must show
		unseen bool   // the cluster must not have been asked
	}{
		{name: "used token", token: good, state: func(d *door) { d.used[good.ID()] = "n9" }, want: fsm.ErrTokenUsed, text: "pharos token create"},
		{name: "expired token", token: good, state: func(d *door) { d.err = fsm.ErrTokenExpired }, want: fsm.ErrTokenExpired, text: "pharos token create"},
		{name: "unknown token", token: tokenFor(t, id), want: fsm.ErrTokenUnknown, text: "pharos token create"},
		{name: "wrong secret", token: tampered, want: fsm.ErrTokenUnknown},
		{name: "another cluster's token", token: wrongCA, want: ErrFingerprint, unseen: true},
		{name: "name taken", token: good, state: func(d *door) { d.err = fsm.ErrNameTaken }, want: fsm.ErrNameTaken, text: "--name"},
		{name: "outcome unknown", token: good, state: func(d *door) { d.err = ErrUncertain }, want: ErrUncertain, text: "pharos token create"},
		{name: "an inner error is not told to strangers", token: good, state: func(d *door) { d.err = errors.New("secret detail") }, text: "internal error"},
		{name: "bad name", token: good, node: "N2!", text: "node name", unseen: true},
		{name: "bad address", token: good, at: "0.0.0.0:7443", text: "cannot connect", unseen: true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			d := openDoor(good)
			if c.state != nil {
				c.state(d)
			}
			_, address := startMux(t, MuxConfig{Identity: id}, d)
			config := JoinConfig{Server: address, Token: c.token, Name: "n2", Address: "127.0.0.1:7444", Dir: filepath.Join(t.TempDir(), "data")}
			if c.node != "" {
				config.Name = c.node
			}
			if c.at != "" {
				config.Address = c.at
			}
			_, err := Join(t.Context(), config)
			if err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Fatalf("Join: %v, want %v", err, c.want)
			}
			if !strings.Contains(err.Error(), c.text) || strings.Contains(err.Error(), "secret detail") {
				t.Errorf("the error is %q, want a word of %q", err, c.text)
			}
			if c.unseen && d.asked != 0 {
				t.Error("the cluster was asked to spend the token")
			}
			if _, err := os.Stat(config.Dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the refused join left %s behind", config.Dir)
			}
		})
	}
}

func TestJoinWaitsForALeader(t *testing.T) {
	_, id := create(t, "n1")
	token := tokenFor(t, id)
	d := &electing{door: openDoor(token), refusals: 2}
	_, address := startMux(t, MuxConfig{Identity: id}, d)
	if _, err := Join(t.Context(), JoinConfig{Server: address, Token: token, Name: "n2", Address: "127.0.0.1:7444", Dir: filepath.Join(t.TempDir(), "data")}); err != nil {
		t.Errorf("Join over an election: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	never := &electing{door: openDoor(token), refusals: 1 << 30, then: cancel}
	_, address = startMux(t, MuxConfig{Identity: id}, never)
	_, err := Join(ctx, JoinConfig{Server: address, Token: token, Name: "n2", Address: "127.0.0.1:7444", Dir: filepath.Join(t.TempDir(), "data")})
	if err == nil {
		t.Error("joined a cluster without a leader")
	}
}

// electing has no leader for the first so many requests.
type electing struct {
	*door
	refusals int
	then     func() // called at each refusal
}

func (e *electing) Admit(ctx context.Context, id string, hash []byte, node, address string) error {
	e.mu.Lock()
	e.refusals--
	left := e.refusals
	e.mu.Unlock()
	if left >= 0 {
		if e.then != nil {
			e.then()
		}
		return fmt.Errorf("no leader: %w", ErrRetry)
	}
	return e.door.Admit(ctx, id, hash, node, address)
}

func TestJoinAtADeadAddress(t *testing.T) {
	_, id := create(t, "n1")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	dir := filepath.Join(t.TempDir(), "data")
	_, err = Join(t.Context(), JoinConfig{Server: address, Token: tokenFor(t, id), Name: "n2", Address: "127.0.0.1:7444", Dir: dir})
	if err == nil || !strings.Contains(err.Error(), "pharos serve") || !strings.Contains(err.Error(), address) {
		t.Errorf("Join: %v, want the address and advice", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the failed join left %s behind", dir)
	}
}

// A member that dies in the middle of an exchange may have spent the token.
func TestJoinCutOff(t *testing.T) {
	_, id := create(t, "n1")
	mux, address := startMux(t, MuxConfig{Identity: id}, nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := mux.Join().Accept()
		if err != nil {
			return
		}
		var request joinRequest
		_ = readMessage(conn, &request)
		_ = conn.Close()
	}()
	dir := filepath.Join(t.TempDir(), "data")
	_, err := Join(t.Context(), JoinConfig{Server: address, Token: tokenFor(t, id), Name: "n2", Address: "127.0.0.1:7444", Dir: dir})
	if !errors.Is(err, ErrUncertain) {
		t.Errorf("Join: %v, want ErrUncertain", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the failed join left %s behind", dir)
	}
	<-done
}

func TestJoinServerOnMalformedRequests(t *testing.T) {
	_, id := create(t, "n1")
	token := tokenFor(t, id)
	d := openDoor(token)
	_, address := startMux(t, MuxConfig{Identity: id}, d)
	frame := func(body string) []byte {
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
	}
	for name, bytes := range map[string][]byte{
		"claims 4 GiB": {0xff, 0xff, 0xff, 0xff},
		"empty":        {0, 0, 0, 0},
		"not JSON":     frame("hello"),
		"wrong types":  frame(`{"node": 7}`),
		"no key":       frame(`{"node":"n2","address":"127.0.0.1:1"}`),
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := tls.Dial("tcp", address, joinTLS(id.Fingerprint()))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(patience))
			if _, err := conn.Write(bytes); err != nil {
				t.Fatal(err)
			}
			var answer joinAnswer
			if err := readMessage(conn, &answer); err == nil && answer.Code != codeInvalid {
				t.Errorf("answered %q", answer.Code)
			} else if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the server left the connection open")
			}
		})
	}
	if d.asked != 0 {
		t.Error("a malformed request reached the cluster")
	}
}

func TestJoinServerRefusesForeignKeys(t *testing.T) {
	_, id := create(t, "n1")
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, p384)
	if err != nil {
		t.Fatal(err)
	}
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	spoilt, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, p256)
	if err != nil {
		t.Fatal(err)
	}
	spoilt[len(spoilt)-1] ^= 1
	d := openDoor()
	server := NewJoinServer(id, d, nil)
	for name, csr := range map[string][]byte{"P-384": other, "signature spoilt": spoilt, "none": nil} {
		_, err := server.admit(t.Context(), joinRequest{TokenID: strings.Repeat("0", 16), Secret: make([]byte, 16), Node: "n2", Address: "127.0.0.1:1", CSR: csr})
		if !errors.Is(err, ErrInvalidRequest) || d.asked != 0 {
			t.Errorf("%s: %v, want ErrInvalidRequest before the token is spent", name, err)
		}
	}
}

func FuzzReadMessage(f *testing.F) {
	var good bytes.Buffer
	if err := writeMessage(&good, joinRequest{TokenID: "00", Node: "n1"}); err != nil {
		f.Fatal(err)
	}
	f.Add(good.Bytes())
	f.Add([]byte{0, 0, 0, 2, '{', '}'})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, '{'})
	f.Fuzz(func(t *testing.T, data []byte) {
		var request joinRequest
		r := bytes.NewReader(data)
		if err := readMessage(r, &request); err != nil {
			return
		}
		if used := len(data) - r.Len(); used > 4+maxJoinMessage {
			t.Fatalf("read %d bytes", used)
		}
		var buffer bytes.Buffer
		if err := writeMessage(&buffer, request); err != nil {
			return // JSON escapes can make it longer than the limit
		}
		var again joinRequest
		if err := readMessage(&buffer, &again); err != nil {
			t.Fatalf("cannot read what was written: %v", err)
		}
		if again.Node != request.Node || !bytes.Equal(again.Secret, request.Secret) {
			t.Fatalf("%+v became %+v", request, again)
		}
	})
}

func TestReadMessageEndsEarly(t *testing.T) {
	var whole bytes.Buffer
	if err := writeMessage(&whole, joinAnswer{Code: codeUsed}); err != nil {
		t.Fatal(err)
	}
	for n := range whole.Len() {
		var answer joinAnswer
		err := readMessage(bytes.NewReader(whole.Bytes()[:n]), &answer)
		if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d bytes of %d: %v, want an early end", n, whole.Len(), err)
		}
	}
}
