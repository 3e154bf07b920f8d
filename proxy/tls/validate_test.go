package tls

import (
	"strings"
	"testing"
)

func TestServerConfigFaults(t *testing.T) {
	ca := newAuthority("Clients")
	tests := []struct {
		name string
		c    ServerConfig
		want []string
	}{
		{"the least", ServerConfig{Certificates: []string{"a"}}, nil},
		{"everything", ServerConfig{
			Certificates: []string{"a", "b"}, MinVersion: TLS12, NoPostQuantum: true, ALPN: []string{"h2", "http/1.1"},
			Ciphers:    []string{"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA"},
			ClientAuth: RequireClientCert, ClientCA: ca.pem(),
		}, nil},
		{"all wrong at once", ServerConfig{
			MinVersion: "1.1", Ciphers: []string{"AES"}, ALPN: []string{""}, ClientAuth: "maybe",
		}, []string{"certificates: is empty", `min_version: "1.1" is not known`, `ciphers[0]: "AES" is not known`, `alpn[0]: 0 bytes`, `client_auth: "maybe" is not known`}},
		{"twice the same", ServerConfig{
			Certificates: []string{"a", "a"}, ALPN: []string{"h2", "h2"},
			Ciphers: []string{"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"},
		}, []string{"certificates[1]: twice", "ciphers[1]: twice", "alpn[1]: twice"}},
		{"insecure ciphers", ServerConfig{Certificates: []string{"a"}, Ciphers: []string{"TLS_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_RC4_128_SHA"}}, []string{"ciphers[0]: TLS_RSA_WITH_AES_128_GCM_SHA256 is insecure", "ciphers[1]: is insecure"}},
		{"ciphers of TLS 1.3", ServerConfig{Certificates: []string{"a"}, Ciphers: []string{"TLS_AES_128_GCM_SHA256"}}, []string{"ciphers[0]: is of TLS 1.3"}},
		{"OpenSSL's names", ServerConfig{Certificates: []string{"a"}, Ciphers: []string{"ECDHE-RSA-AES128-GCM-SHA256"}}, []string{"ciphers[0]: use an IANA name"}},
		{"ciphers without TLS 1.2", ServerConfig{Certificates: []string{"a"}, MinVersion: TLS13, Ciphers: []string{"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"}}, []string{"ciphers: are of TLS 1.2"}},
		{"HTTP/2 over CBC alone", ServerConfig{Certificates: []string{"a"}, ALPN: []string{"h2"}, Ciphers: []string{"TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA"}}, []string{"ciphers: none that HTTP/2 may use"}},
		{"authorities nobody asks", ServerConfig{Certificates: []string{"a"}, ClientCA: ca.pem()}, []string{"client_ca: is used with"}},
		{"no authorities", ServerConfig{Certificates: []string{"a"}, ClientAuth: OptionalClientCrt}, []string{"client_ca: is empty"}},
		{"authorities that are none", ServerConfig{Certificates: []string{"a"}, ClientAuth: OptionalClientCrt, ClientCA: []byte("x")}, []string{"client_ca: no PEM block"}},
		{"a key among the authorities", ServerConfig{Certificates: []string{"a"}, ClientAuth: OptionalClientCrt, ClientCA: keyPEM(newP256())}, []string{"client_ca: PRIVATE KEY block"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { checkFaults(t, tt.c.Validate(), tt.want) })
	}
}

func TestClientConfigFaults(t *testing.T) {
	ca := newAuthority("Servers")
	tests := []struct {
		name string
		c    ClientConfig
		want []string
	}{
		{"nothing", ClientConfig{}, nil},
		{"everything", ClientConfig{ServerName: "a_b.xn--bcher-kva.example", CA: ca.pem(), Certificate: "own", ALPN: []string{"http/1.1"}}, nil},
		{"an international name", ClientConfig{ServerName: "bücher.example"}, []string{"server_name: A-labels"}},
		{"a wildcard", ClientConfig{ServerName: "*.example"}, []string{"server_name: '*'"}},
		{"a trailing dot", ClientConfig{ServerName: "a.example."}, []string{"server_name: label that is empty"}},
		{"a long label", ClientConfig{ServerName: strings.Repeat("a", 64) + ".example"}, []string{"server_name: longer than 63"}},
		{"a long name", ClientConfig{ServerName: strings.Repeat("a.", 127)}, []string{"server_name: longer than 253"}},
		{"verified and not", ClientConfig{InsecureSkipVerify: true, CA: ca.pem()}, []string{"ca: has no use"}},
		{"authorities that are none", ClientConfig{CA: []byte("x")}, []string{"ca: no PEM block"}},
		{"an empty protocol", ClientConfig{ALPN: []string{"h2", ""}}, []string{"alpn[1]: 0 bytes"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { checkFaults(t, tt.c.Validate(), tt.want) })
	}
	_, err := NewStore(nil).Client(ClientConfig{Certificate: "own"})
	checkFaults(t, err, []string{`certificate: there is no certificate "own"`})
}

func TestTicketKeyFaults(t *testing.T) {
	a, b := [32]byte{1}, [32]byte{2}
	tests := []struct {
		name string
		keys []TicketKey
		want []string
	}{
		{"none", nil, nil},
		{"one", []TicketKey{{"a", a, true}}, nil},
		{"two", []TicketKey{{"a", a, false}, {"b", b, true}}, nil},
		{"none encrypts", []TicketKey{{"a", a, false}}, []string{"ticket_keys: 0 keys encrypt"}},
		{"two encrypt", []TicketKey{{"a", a, true}, {"b", b, true}}, []string{"ticket_keys: 2 keys encrypt"}},
		{"one ID", []TicketKey{{"a", a, true}, {"a", b, false}}, []string{`ticket_keys[1].id: "a" is used`}},
		{"one key", []TicketKey{{"a", a, true}, {"b", a, false}}, []string{`ticket_keys[1].key: that of "a"`}},
		{"empty", []TicketKey{{"", [32]byte{}, true}}, []string{"ticket_keys[0].id: is empty", "ticket_keys[0].key: all zeros"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			checkFaults(t, ValidateTicketKeys(tt.keys), tt.want)
			checkFaults(t, NewStore(nil).SetTicketKeys(tt.keys), tt.want)
		})
	}
}
