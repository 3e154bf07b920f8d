package proxy

import (
	cryptotls "crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/pharos-lb/pharos/proxy/proxytest"
)

// helloBytes is a whole ClientHello record.
func (s *siege) helloBytes() string {
	s.t.Helper()
	var sent recorder
	_ = cryptotls.Client(&sent, s.trust).Handshake() // fails: nobody answers
	return sent.String()
}

// recorder is a connection on which nothing comes.
type recorder struct {
	net.Conn
	strings.Builder
}

func (r *recorder) Write(b []byte) (int, error) { return r.Builder.Write(b) }
func (r *recorder) Read([]byte) (int, error)    { return 0, io.EOF }

// servedByTLS checks that another client completes a handshake, and is served.
func (s *siege) servedByTLS() {
	s.t.Helper()
	tr := &http.Transport{TLSClientConfig: s.trust.Clone(), DisableKeepAlives: true}
	c := &http.Client{Transport: tr, Timeout: patience}
	if status, body := get(s.t, c, "https://"+s.secure+"/"); status != 200 || body != "ok" {
		s.t.Fatalf("another client got %d %q by TLS", status, body)
	}
}

// failed is how many handshakes were counted as such.
func (s *siege) failed() uint64 {
	for _, l := range s.Status().Listeners {
		if l.Name == "secure" {
			return l.Handshakes
		}
	}
	return 0
}

func TestBadTLS(t *testing.T) {
	s := besiege(t)
	whole := s.helloBytes()
	const alert = "\x15\x03" // the beginning of a record with an alert
	tests := []struct {
		name   string
		begin  string
		more   string // again and again after begin
		finish bool   // the client then closes its side
		reset  bool
		want   string // the answer's beginning; "" for none
	}{
		{"FIN at once", "", "", true, false, ""},
		{"reset at once", "", "", false, true, ""},
		{"a truncated ClientHello", whole[:len(whole)/2], "", true, false, ""},
		{"a reset within the ClientHello", whole[:len(whole)/2], "", false, true, ""},
		{"FIN after the ClientHello", whole, "", true, false, "\x16\x03"},
		{"garbage", "\x00\x01\x02\x03\x04\x05\x06\x07", "", false, false, ""},
		{"garbage without an end", "", strings.Repeat("\xa5", 512), false, false, ""},
		{"plain HTTP", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "", false, false, ""},
		{"HTTP/2 without TLS", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "", false, false, ""},
		{"SSL 2", "\x80\x2e\x01\x00\x02", "", false, false, ""},
		{"a version of records that there is not", "\x16\x09\x00\x00\x10" + strings.Repeat("x", 16), "", false, false, ""},
		{"a record beyond the largest", "\x16\x03\x01\xff\xff", strings.Repeat("\x00", 512), false, false, ""},
		{"empty records without an end", "", "\x16\x03\x01\x00\x00", false, false, ""},
		{"a ClientHello that says it is 16 MB", "\x16\x03\x01\x40\x00\x01\xff\xff\xff\x03\x03", strings.Repeat("\x00", 512), false, false, alert},
		{"a malformed ClientHello", "\x16\x03\x01\x00\x04\x01\x00\x00\x00", "", false, false, alert},
		{"application data before the handshake", "\x17\x03\x03\x00\x05hello", "", false, false, ""},
		{"garbage after the ClientHello", whole, strings.Repeat("\xa5", 512), false, false, "\x16\x03"},
		{"change_cipher_spec without an end", whole, "\x14\x03\x03\x00\x01\x01", false, false, "\x16\x03"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s.t = t
			before := s.failed()
			c := dial(t, s.secure)
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				_, err := io.WriteString(c, tt.begin)
				for more := strings.Repeat(tt.more, 64); err == nil && more != ""; {
					_, err = io.WriteString(c, more)
				}
				if tt.finish {
					_ = c.CloseWrite()
				}
			}()
			s.served()
			s.servedByTLS()
			s.holds(32 << 10)
			if tt.reset {
				<-sent
				reset(c)
			} else if got := rest(t, c); !strings.HasPrefix(got, tt.want) || tt.want == "" && got != "" {
				t.Errorf("answer %.50q, want %q", got, tt.want)
			}
			<-sent
			_ = c.Close()
			proxytest.Eventually(t, "the handshake is counted as failed", func() bool { return s.failed() == before+1 })
			s.over()
		})
	}
}

func TestOldVersionsOfTLSAreRefused(t *testing.T) {
	s := besiege(t)
	for _, version := range []uint16{cryptotls.VersionTLS10, cryptotls.VersionTLS11} {
		terms := s.trust.Clone()
		terms.MinVersion, terms.MaxVersion = version, version
		c, err := cryptotls.Dial("tcp", s.secure, terms)
		if err == nil {
			_ = c.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "protocol version") {
			t.Errorf("%s: %v, want an alert that says so", cryptotls.VersionName(version), err)
		}
	}
	s.servedByTLS()
	s.over()
}

// Handshakes that hang, at whatever point, keep nobody out.
func TestManyHandshakesThatHang(t *testing.T) {
	s := besiege(t)
	whole := s.helloBytes()
	before := s.failed()
	var clients []*net.TCPConn
	for i := range 300 {
		c := dial(t, s.secure)
		switch i % 3 {
		case 0: // says nothing
		case 1:
			_, _ = io.WriteString(c, whole[:len(whole)/2])
		case 2:
			_, _ = io.WriteString(c, whole)
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil { // it is answered, and says nothing more
				t.Fatal(err)
			}
		}
		clients = append(clients, c)
	}
	s.served()
	s.servedByTLS()
	for _, c := range clients {
		reset(c)
	}
	proxytest.Eventually(t, "all are counted", func() bool { return s.failed() == before+300 })
	s.over()
}

// After the handshake: what is not genuine ends the connection, and a connection
// that ends without saying so is not taken for one that is complete.
func TestBadRecordsAfterTheHandshake(t *testing.T) {
	for name, spoil := range map[string]func(c *net.TCPConn){
		"a forged record":  func(c *net.TCPConn) { _, _ = io.WriteString(c, "\x17\x03\x03\x00\x20"+strings.Repeat("x", 32)) },
		"a record too big": func(c *net.TCPConn) { _, _ = io.WriteString(c, "\x17\x03\x03\xff\xff") },
		"garbage":          func(c *net.TCPConn) { _, _ = io.WriteString(c, strings.Repeat("\xa5", 100)) },
		"a truncation":     func(c *net.TCPConn) { _ = c.CloseWrite() },
		"a reset":          reset,
	} {
		t.Run(name, func(t *testing.T) {
			s := besiege(t)
			tcp := dial(t, s.secure)
			c := cryptotls.Client(tcp, s.trust)
			// A body that is not complete, and would be by what follows.
			if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"); err != nil {
				t.Fatal(err)
			}
			proxytest.Eventually(t, "the request is under way", func() bool { return s.Status().InFlight == 1 })
			spoil(tcp)
			if err := <-s.server.broken; err == nil {
				t.Error("the body looked complete to the server")
			}
			s.served()
			s.servedByTLS()
			_ = tcp.Close()
			s.over()
		})
	}
}
