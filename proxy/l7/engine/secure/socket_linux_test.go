package secure

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pharos-lb/pharos/proxy/l7/engine"
	"github.com/pharos-lb/pharos/proxy/l7/engine/epoll"
)

const patience = 20 * time.Second

// sockets are loops on epoll that accept TLS.
type sockets struct {
	t          testing.TB
	loops      []engine.Driver
	secure     map[engine.Driver]*Loop
	handshakes *Handshakes
}

func newSockets(t testing.TB, loops int, limits Limits) *sockets {
	t.Helper()
	s := &sockets{t: t, secure: map[engine.Driver]*Loop{}, handshakes: NewHandshakes(limits)}
	var done atomic.Bool
	var running sync.WaitGroup
	for range loops {
		l, err := epoll.New()
		if err != nil {
			t.Fatal(err)
		}
		s.loops = append(s.loops, l)
		s.secure[l] = NewLoop(l, s.handshakes)
		running.Go(func() {
			if err := l.Run(done.Load); err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
	t.Cleanup(func() {
		done.Store(true)
		for _, l := range s.loops {
			l.Post(func() {})
		}
		running.Wait()
		s.handshakes.Close()
	})
	return s
}

// listen accepts TLS connections, each with a handler of its own.
func (s *sockets) listen(config *tls.Config, handler func(engine.Conn, tls.ConnectionState) engine.Handler) net.Addr {
	s.t.Helper()
	return s.listenFor(config, handler, false)
}

// listenFor accepts connections, without TLS if so asked.
func (s *sockets) listenFor(config *tls.Config, handler func(engine.Conn, tls.ConnectionState) engine.Handler, plain bool) net.Addr {
	s.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = ln.Close() }() // the acceptor has its own descriptor
	file, err := ln.(*net.TCPListener).File()
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		s.t.Fatal(err)
	}
	with := &Acceptor{Config: config, Accepted: handler}
	a := engine.NewAcceptor(fd, s.loops, func(l engine.Driver) func(engine.Conn) engine.Handler {
		return func(raw engine.Conn) engine.Handler {
			if plain {
				return handler(raw, tls.ConnectionState{})
			}
			return s.secure[l].Accept(raw, with)
		}
	}, func(err error) { s.t.Errorf("accept: %v", err) })
	a.Start()
	s.t.Cleanup(a.Stop)
	return ln.Addr()
}

// echoer sends back what comes, and stops reading while the peer does.
type echoer struct{ c engine.Conn }

func (e *echoer) Opened() {}
func (e *echoer) Data(b []byte) {
	if e.c.Send(b); e.c.Pending() > 0 {
		e.c.Pause()
	}
}
func (e *echoer) Drained()     { e.c.Resume() }
func (e *echoer) EOF()         { e.c.Close() }
func (e *echoer) Closed(error) {}

func echoes(c engine.Conn, _ tls.ConnectionState) engine.Handler { return &echoer{c} }

func TestManyClientsOnSockets(t *testing.T) {
	versions(t, func(t *testing.T, version uint16) {
		s := newSockets(t, 2, Limits{Running: 2})
		addr := s.listen(serverConfig(), echoes)
		config := clientConfig(version)
		config.ClientSessionCache = tls.NewLRUClientSessionCache(0)
		var clients sync.WaitGroup
		for i := range 20 {
			clients.Go(func() {
				for _, size := range []int{1 + i, 1000, 200 << 10} {
					if err := echoOnce(addr.String(), config, size); err != nil {
						t.Errorf("client %d, %d bytes: %v", i, size, err)
					}
				}
			})
		}
		clients.Wait()
		n := s.handshakes.Counts()
		if n.Full()+n.Resumed() != 60 || n.Resumed() == 0 {
			t.Errorf("%d full, %d resumed", n.Full(), n.Resumed())
		}
	})
}

// echoOnce sends, reads while it sends, and ends in order.
func echoOnce(addr string, config *tls.Config, size int) error {
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", addr, config)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(patience))
	sent := bytes.Repeat([]byte("0123456789"), size/10+1)[:size]
	failed := make(chan error, 1)
	go func() {
		_, err := c.Write(sent)
		failed <- errors.Join(err, c.CloseWrite())
	}()
	got, err := io.ReadAll(c)
	if err := errors.Join(err, <-failed); err != nil {
		return err
	}
	if !bytes.Equal(got, sent) {
		return fmt.Errorf("%d bytes came back for %d", len(got), size)
	}
	return nil
}

// caller asks a server once.
type caller struct {
	c    *Conn
	ask  []byte
	got  bytes.Buffer
	done chan error
	want int
}

func (k *caller) Opened() { k.c.Send(k.ask) }
func (k *caller) Data(b []byte) {
	if k.got.Write(b); k.got.Len() == k.want {
		k.c.Close()
		k.done <- nil
	}
}
func (k *caller) Drained()         {}
func (k *caller) EOF()             { k.done <- io.ErrUnexpectedEOF }
func (k *caller) Closed(err error) { k.done <- err }

// call asks over a new connection, and returns the answer of so many bytes.
func (s *sockets) call(addr netip.AddrPort, config *tls.Config, ask []byte, want int) (string, error) {
	k := &caller{ask: ask, done: make(chan error, 1), want: want}
	l := s.loops[0]
	l.Post(func() { k.c = s.secure[l].Dial(addr, config, k) })
	select {
	case err := <-k.done:
		return k.got.String(), err
	case <-time.After(patience):
		return "", fmt.Errorf("no answer within %v", patience)
	}
}

func TestGoServerOnSockets(t *testing.T) {
	versions(t, func(t *testing.T, version uint16) {
		ln, err := tls.Listen("tcp", "127.0.0.1:0", serverConfig())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = ln.Close() }()
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
			}
		}()
		s := newSockets(t, 1, Limits{})
		config := clientConfig(version)
		config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		ask := bytes.Repeat([]byte("ask"), 50000)
		for range 3 {
			got, err := s.call(ln.Addr().(*net.TCPAddr).AddrPort(), config, ask, len(ask))
			if err != nil || got != string(ask) {
				t.Fatalf("%d bytes, %v", len(got), err)
			}
		}
		if n := s.handshakes.Counts(); n.Full() != 1 || n.Resumed() != 2 {
			t.Errorf("%d full, %d resumed", n.Full(), n.Resumed())
		}
	})
}

// Loops that end take the goroutines of handshakes along.
func TestLoopsThatEndDuringHandshakes(t *testing.T) {
	s := newSockets(t, 1, Limits{})
	addr := s.listen(serverConfig(), echoes)
	whole := hello(t)
	for range 5 {
		c, err := net.Dial("tcp", addr.String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		_, _ = io.WriteString(c, whole)
		_ = c.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatalf("no answer to the hello: %v", err)
		}
	} // the cleanup would hang if one were left
}

var errNoOpenSSL = errors.New("openssl is not installed")

// openssl returns a command with the test's certificate in cert.pem.
func openssl(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip(errNoOpenSSL)
	}
	dir := t.TempDir()
	own := identity()
	out := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: own.Certificate[0]})
	out = append(out, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(own.PrivateKey))})...)
	if err := os.WriteFile(filepath.Join(dir, "cert.pem"), out, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = dir
	return cmd
}

// lineEcho answers each line with "got: " and the line.
type lineEcho struct {
	c     engine.Conn
	state tls.ConnectionState
	line  []byte
}

func (e *lineEcho) Opened() {}
func (e *lineEcho) Data(b []byte) {
	e.line = append(e.line, b...)
	for {
		line, rest, whole := bytes.Cut(e.line, []byte("\n"))
		if !whole {
			return
		}
		e.c.Send(fmt.Appendf(nil, "got: %s\n", line))
		if bytes.Equal(line, []byte("quit")) {
			e.c.Close()
			return
		}
		e.line = rest
	}
}
func (e *lineEcho) Drained()     {}
func (e *lineEcho) EOF()         { e.c.Close() }
func (e *lineEcho) Closed(error) {}

// OpenSSL's client, with what Go's cannot do: renewing keys and
// renegotiating in the middle.
func TestOpenSSLClient(t *testing.T) {
	tests := []struct {
		name string
		args []string
		// input is written line by line, each after the answer to the one
		// before has come.
		input []string
		want  []string // in the output
		not   string
	}{
		{"TLS 1.2", []string{"-tls1_2"}, []string{"hello"}, []string{"got: hello", "Protocol  : TLSv1.2"}, ""},
		{"TLS 1.3", []string{"-tls1_3"}, []string{"hello"}, []string{"got: hello", "TLSv1.3"}, ""},
		{"ChaCha20", []string{"-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"}, []string{"hello"}, []string{"got: hello", "TLS_CHACHA20_POLY1305_SHA256"}, ""},
		{"small records", []string{"-tls1_2", "-max_send_frag", "512"}, []string{strings.Repeat("x", 3000)}, []string{"got: xxxx"}, ""},
		{"protocol", []string{"-alpn", "h2,http/1.1"}, []string{"hello"}, []string{"ALPN protocol: http/1.1"}, ""},
		{"client certificate", []string{"-cert", "cert.pem"}, []string{"hello"}, []string{"got: hello"}, ""},
		{"new keys", []string{"-tls1_3"}, []string{"hello", "k", "one", "k", "two"}, []string{"KEYUPDATE", "got: one", "got: two"}, ""},
		{"new keys for both", []string{"-tls1_3"}, []string{"hello", "K", "one", "K", "two"}, []string{"KEYUPDATE", "got: one", "got: two"}, ""},
		{"renegotiation", []string{"-tls1_2"}, []string{"hello", "R", "more"}, []string{"got: hello", "RENEGOTIATING"}, "got: more"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSockets(t, 1, Limits{})
			config := serverConfig()
			config.ClientAuth, config.ClientCAs = tls.VerifyClientCertIfGiven, pool()
			withCert := make(chan bool, 1)
			addr := s.listen(config, func(c engine.Conn, state tls.ConnectionState) engine.Handler {
				withCert <- len(state.VerifiedChains) > 0
				return &lineEcho{c: c, state: state}
			})
			cmd := openssl(t, append([]string{"s_client", "-connect", addr.String(), "-servername", "a.example"}, tt.args...)...)
			out := talkTo(t, cmd, tt.input)
			for _, want := range tt.want {
				if !strings.Contains(out, want) {
					t.Errorf("%q is not in the output:\n%s", want, out)
				}
			}
			if tt.not != "" && strings.Contains(out, tt.not) {
				t.Errorf("%q is in the output:\n%s", tt.not, out)
			}
			if with := <-withCert; with != (tt.name == "client certificate") {
				t.Errorf("with a client certificate: %v", with)
			}
		})
	}
}

// talkTo writes lines, each after what the one before must bring has come,
// and returns all output.
func talkTo(t *testing.T, cmd *exec.Cmd, input []string) string {
	t.Helper()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out watched
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out.await(t, "Verify return code", 1)
	commands := 0
	for _, line := range append(input, "quit") {
		if _, err := io.WriteString(stdin, line+"\n"); err != nil {
			break // it has ended: the test looks at the output
		}
		switch line {
		case "k", "K": // it must be read alone to be taken for a command
			commands++
			out.await(t, "KEYUPDATE", commands)
		case "R":
			out.await(t, "RENEGOTIATING", 1)
		default:
			if !out.await(t, "got: "+line[:min(len(line), 10)], 1) {
				goto done
			}
		}
	}
done:
	_ = stdin.Close()
	_ = cmd.Wait() // fails where the connection was refused
	return out.String()
}

// watched is output that can be waited for.
type watched struct {
	mu   sync.Mutex
	b    bytes.Buffer
	news chan struct{}
}

func (w *watched) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.b.Write(b)
	if w.news != nil {
		close(w.news)
		w.news = nil
	}
	return len(b), nil
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

// await waits until what has come so many times. It reports false when the
// program says that its connection has ended.
func (w *watched) await(t *testing.T, what string, times int) bool {
	t.Helper()
	limit := time.After(patience)
	for {
		w.mu.Lock()
		found, ended := strings.Count(w.b.String(), what) >= times, regexp.MustCompile(`(?m)^closed|:error:|no peer certificate`).MatchString(w.b.String())
		if w.news == nil {
			w.news = make(chan struct{})
		}
		news := w.news
		w.mu.Unlock()
		switch {
		case found:
			return true
		case ended:
			return false
		}
		select {
		case <-news:
		case <-limit:
			t.Fatalf("waited %v in vain for %q:\n%s", patience, what, w.String())
		}
	}
}

func TestOpenSSLResumption(t *testing.T) {
	for _, version := range []string{"-tls1_2", "-tls1_3"} {
		t.Run(version, func(t *testing.T) {
			s := newSockets(t, 1, Limits{})
			addr := s.listen(serverConfig(), func(c engine.Conn, state tls.ConnectionState) engine.Handler { return &lineEcho{c: c} })
			file := filepath.Join(t.TempDir(), "session")
			args := []string{"s_client", "-connect", addr.String(), "-servername", "a.example", version}
			first := openssl(t, append(args, "-sess_out", file)...)
			talkTo(t, first, []string{"hello"})
			if out := talkTo(t, openssl(t, append(args, "-sess_in", file)...), []string{"hello"}); !strings.Contains(out, "Reused, TLSv1") {
				t.Errorf("not resumed:\n%s", out)
			}
			if n := s.handshakes.Counts(); n.Full() != 1 || n.Resumed() != 1 {
				t.Errorf("%d full, %d resumed", n.Full(), n.Resumed())
			}
		})
	}
}

// OpenSSL's server sends each line back reversed.
func TestOpenSSLServer(t *testing.T) {
	for _, version := range []string{"-tls1_2", "-tls1_3"} {
		t.Run(version, func(t *testing.T) {
			cmd := openssl(t, "s_server", "-accept", "127.0.0.1:0", "-cert", "cert.pem", "-key", "cert.pem", "-rev", version)
			var out watched
			cmd.Stdout, cmd.Stderr = &out, &out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
			}()
			out.await(t, "ACCEPT 127.0.0.1:", 1)
			port := regexp.MustCompile(`ACCEPT (127\.0\.0\.1:\d+)`).FindStringSubmatch(out.String())
			s := newSockets(t, 1, Limits{})
			config := clientConfig(0)
			config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
			for range 2 {
				got, err := s.call(netip.MustParseAddrPort(port[1]), config, []byte("abc\n"), 4)
				if err != nil || got != "cba\n" {
					t.Fatalf("%q, %v", got, err)
				}
			}
			if n := s.handshakes.Counts(); n.Full() != 1 || n.Resumed() != 1 {
				t.Errorf("%d full, %d resumed", n.Full(), n.Resumed())
			}
		})
	}
}
