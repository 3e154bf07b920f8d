package tls

import (
	stdtls "crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
)

func TestServerPolicy(t *testing.T) {
	root := newAuthority("Root")
	s := loaded(t, root.server("web", newP256(), "a.example"))
	const cipher256 = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"
	tests := []struct {
		name   string
		server ServerConfig
		client func(*stdtls.Config)
		fails  bool
		want   func(stdtls.ConnectionState) bool
	}{
		{"TLS 1.3 where both can", ServerConfig{}, nil, false, func(s stdtls.ConnectionState) bool { return s.Version == stdtls.VersionTLS13 }},
		{"TLS 1.2 for one that knows no later one", ServerConfig{}, upTo12, false, func(s stdtls.ConnectionState) bool { return s.Version == stdtls.VersionTLS12 }},
		{"TLS 1.1 never", ServerConfig{}, func(c *stdtls.Config) { c.MinVersion, c.MaxVersion = stdtls.VersionTLS10, stdtls.VersionTLS11 }, true, nil},
		{"TLS 1.2 refused", ServerConfig{MinVersion: TLS13}, upTo12, true, nil},
		{"cipher of 1.2", ServerConfig{Ciphers: []string{cipher256}}, upTo12, false, func(s stdtls.ConnectionState) bool { return stdtls.CipherSuiteName(s.CipherSuite) == cipher256 }},
		{"no common cipher", ServerConfig{Ciphers: []string{cipher256}}, ecdsaOnly, true, nil},
		{"protocol in the server's order", ServerConfig{ALPN: []string{"h2", "http/1.1"}}, func(c *stdtls.Config) { c.NextProtos = []string{"http/1.1", "h2"} }, false, func(s stdtls.ConnectionState) bool { return s.NegotiatedProtocol == "h2" }},
		{"no common protocol", ServerConfig{ALPN: []string{"http/1.1"}}, func(c *stdtls.Config) { c.NextProtos = []string{"acme-tls/1"} }, true, nil},
		{"post-quantum key exchange", ServerConfig{}, nil, false, func(s stdtls.ConnectionState) bool { return s.CurveID == stdtls.X25519MLKEM768 }},
		{"classic key exchange", ServerConfig{NoPostQuantum: true}, nil, false, func(s stdtls.ConnectionState) bool { return s.CurveID == stdtls.X25519 }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.server.Certificates = []string{"web"}
			client := &stdtls.Config{ServerName: "a.example", RootCAs: root.pool()}
			if tt.client != nil {
				tt.client(client)
			}
			d := talk(client, serverOf(t, s, tt.server))
			defer d.close()
			if (d.clientErr != nil) != tt.fails || (d.serverErr != nil) != tt.fails {
				t.Fatalf("client: %v, server: %v", d.clientErr, d.serverErr)
			}
			if !tt.fails && !tt.want(d.atClient) {
				t.Errorf("%+v", d.atClient)
			}
		})
	}
}

func TestClientCertificates(t *testing.T) {
	versions(t, func(t *testing.T, version uint16) {
		root, clients, others := newAuthority("Root"), newAuthority("Clients"), newAuthority("Others")
		s := loaded(t, root.server("web", newP256(), "a.example"))
		key := newP256()
		own := func(a *authority, change ...func(*x509.Certificate)) []stdtls.Certificate {
			return []stdtls.Certificate{{Certificate: [][]byte{a.issue(key, change...).Raw}, PrivateKey: key}}
		}
		nasty := func(t *x509.Certificate) {
			forClient(t)
			t.Subject = pkix.Name{CommonName: "eve\r\nX-Admin: yes", Organization: []string{"ü, Inc."}}
		}
		tests := []struct {
			name  string
			auth  ClientAuth
			certs []stdtls.Certificate
			ok    bool
			want  string // subject
		}{
			{"none asked, none given", NoClientCert, nil, true, ""},
			{"none asked, one at hand", NoClientCert, own(clients, forClient), true, ""},
			{"optional, none given", OptionalClientCrt, nil, true, ""},
			{"optional, good", OptionalClientCrt, own(clients, forClient), true, "CN=leaf"},
			{"optional, of a stranger: as none, since the client sees who is asked for", OptionalClientCrt, own(others, forClient), true, ""},
			{"optional, for servers only", OptionalClientCrt, own(clients, forNames("x")), false, ""},
			{"required, none given", RequireClientCert, nil, false, ""},
			{"required, good", RequireClientCert, own(clients, forClient), true, "CN=leaf"},
			{"required, of a stranger", RequireClientCert, own(others, forClient), false, ""},
			{"a name that would split headers", RequireClientCert, own(clients, nasty), true, `CN=eve\0D\0AX-Admin: yes,O=\C3\BC\, Inc.`},
		}
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				c := ServerConfig{Certificates: []string{"web"}, ClientAuth: tt.auth}
				if tt.auth != NoClientCert {
					c.ClientCA = clients.pem()
				}
				client := resuming(root, version)
				client.Certificates = tt.certs
				d := talk(client, serverOf(t, s, c))
				defer d.close()
				if (d.err() == nil) != tt.ok {
					t.Fatalf("client: %v, server: %v", d.clientErr, d.serverErr)
				}
				id, ok := ClientIdentity(d.atServer)
				if ok != (tt.want != "") || id.Subject != tt.want {
					t.Errorf("identity %+v, %v, want %q", id, ok, tt.want)
				}
				if ok && (id.Issuer != "CN=Clients" || id.Serial == "" || len(id.Fingerprint) != 64) {
					t.Errorf("identity %+v", id)
				}
			})
		}
	})
}

func TestClient(t *testing.T) {
	root, clients := newAuthority("Root"), newAuthority("Clients")
	backend := netip.MustParseAddrPort("[::ffff:192.0.2.7]:443")
	key := newP256()
	leaf := root.issue(key, forNames("backend.example"), func(t *x509.Certificate) { t.IPAddresses = []net.IP{net.IPv4(192, 0, 2, 7)} })
	server := &stdtls.Config{
		Certificates: []stdtls.Certificate{{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}},
		ClientAuth:   stdtls.VerifyClientCertIfGiven, ClientCAs: clients.pool(), NextProtos: []string{"http/1.1"},
	}
	own := clients.server("own", newP256(), "us.example")
	ownKey := newP256()
	own.Chain, own.Key = chainPEM(clients.issue(ownKey, forClient)), keyPEM(ownKey)
	s := loaded(t, own)
	tests := []struct {
		name   string
		c      ClientConfig
		server netip.AddrPort
		ok     bool
		want   func(*dialogue) bool
	}{
		{"by name", ClientConfig{ServerName: "backend.example", CA: root.pem()}, backend, true, func(d *dialogue) bool { return d.atServer.ServerName == "backend.example" }},
		{"by address, which is not sent", ClientConfig{CA: root.pem()}, backend, true, func(d *dialogue) bool { return d.atServer.ServerName == "" }},
		{"another address", ClientConfig{CA: root.pem()}, netip.MustParseAddrPort("192.0.2.8:443"), false, nil},
		{"another name", ClientConfig{ServerName: "x.example", CA: root.pem()}, backend, false, nil},
		{"another authority", ClientConfig{ServerName: "backend.example", CA: clients.pem()}, backend, false, nil},
		{"the system's authorities", ClientConfig{ServerName: "backend.example"}, backend, false, nil},
		{"not verified", ClientConfig{ServerName: "x.example", InsecureSkipVerify: true}, backend, true, nil},
		{"protocol", ClientConfig{CA: root.pem(), ALPN: []string{"http/1.1"}}, backend, true, func(d *dialogue) bool { return d.atClient.NegotiatedProtocol == "http/1.1" }},
		{"own certificate", ClientConfig{CA: root.pem(), Certificate: "own"}, backend, true, func(d *dialogue) bool {
			id, ok := ClientIdentity(d.atServer)
			return ok && id.Issuer == "CN=Clients"
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			client, err := s.Client(tt.c)
			if err != nil {
				t.Fatal(err)
			}
			config := client.Config(tt.server)
			d := talk(config, server)
			defer d.close()
			if (d.err() == nil) != tt.ok {
				t.Fatalf("client: %v, server: %v", d.clientErr, d.serverErr)
			}
			if !tt.ok {
				return
			}
			if tt.want != nil && !tt.want(d) {
				t.Errorf("at the server: %+v", d.atServer)
			}
			if d := mustTalk(t, config, server); !d.atClient.DidResume {
				t.Error("the second connection is not resumed")
			}
			if d := mustTalk(t, client.Config(tt.server), server); d.atClient.DidResume {
				t.Error("sessions are shared between servers")
			}
		})
	}
	t.Run("own certificate taken away", func(t *testing.T) {
		client, err := s.Client(ClientConfig{CA: root.pem(), Certificate: "own"})
		if err != nil {
			t.Fatal(err)
		}
		config := client.Config(backend)
		if _, err := s.Load(nil); err != nil {
			t.Fatal(err)
		}
		if d := mustTalk(t, config, server); len(d.atServer.PeerCertificates) != 0 {
			t.Error("it was sent")
		}
	})
}

// Whoever speaks something else to a listener, or goes away, leaves an error
// and no panic.
func TestServerSurvivesNonsense(t *testing.T) {
	root := newAuthority("Root")
	server := serverOf(t, loaded(t, root.server("web", newP256(), "a.example")), ServerConfig{Certificates: []string{"web"}})
	for _, tt := range []struct{ name, sent string }{
		{"nothing", ""},
		{"HTTP", "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"},
		{"half a record", "\x16\x03\x01\x02\x00\x01\x00"},
		{"an empty hello", "\x16\x03\x01\x00\x04\x01\x00\x00\x00"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, b := newPipe()
			_, _ = io.Copy(a, strings.NewReader(tt.sent))
			_ = a.Close()
			if stdtls.Server(b, server).Handshake() == nil {
				t.Error("a handshake with nonsense succeeds")
			}
		})
	}
}
