package tls

import (
	"bytes"
	"crypto/rand"
	stdtls "crypto/tls"
	"fmt"
	"testing"
	"time"
)

func newKey() (key [32]byte) {
	_, _ = rand.Read(key[:])
	return key
}

// node is a store with a listener, of a cluster whose nodes have the same
// configuration.
func newNode(t testing.TB, now func() time.Time, certificate Certificate, keys ...TicketKey) (*Store, *stdtls.Config) {
	t.Helper()
	s := NewStore(now)
	if _, err := s.Load([]Certificate{certificate}); err != nil {
		t.Fatal(err)
	}
	if err := s.SetTicketKeys(keys); err != nil {
		t.Fatal(err)
	}
	return s, serverOf(t, s, ServerConfig{Certificates: []string{certificate.Name}})
}

func resuming(root *authority, version uint16) *stdtls.Config {
	return &stdtls.Config{ServerName: "a.example", RootCAs: root.pool(), MinVersion: version, MaxVersion: version, ClientSessionCache: stdtls.NewLRUClientSessionCache(0)}
}

func versions(t *testing.T, f func(t *testing.T, version uint16)) {
	for _, v := range []uint16{stdtls.VersionTLS12, stdtls.VersionTLS13} {
		t.Run(stdtls.VersionName(v), func(t *testing.T) { f(t, v) })
	}
}

func checkResumed(t *testing.T, what string, client, server *stdtls.Config, want bool) *dialogue {
	t.Helper()
	d := mustTalk(t, client, server)
	if d.atClient.DidResume != want || d.atServer.DidResume != want {
		t.Errorf("%s: resumed %v (client), %v (server), want %v", what, d.atClient.DidResume, d.atServer.DidResume, want)
	}
	return d
}

// The life of a key across two nodes, of which one hears of every change
// first: decrypts only, encrypts, decrypts only, is gone.
func TestSessionsResumeOnAnyNodeThroughRotation(t *testing.T) {
	versions(t, func(t *testing.T, version uint16) {
		root := newAuthority("Root")
		cert := root.server("web", newP256(), "a.example")
		a, b := newKey(), newKey()
		steps := []struct {
			name   string
			before []TicketKey // of the slow node
			after  []TicketKey // of the fast node
		}{
			{"the same key", []TicketKey{{"a", a, true}}, []TicketKey{{"a", a, true}}},
			{"a new key comes, and decrypts only", []TicketKey{{"a", a, true}}, []TicketKey{{"a", a, true}, {"b", b, false}}},
			{"the new key encrypts", []TicketKey{{"a", a, true}, {"b", b, false}}, []TicketKey{{"a", a, false}, {"b", b, true}}},
			{"the old key goes", []TicketKey{{"a", a, false}, {"b", b, true}}, []TicketKey{{"b", b, true}}},
		}
		for _, step := range steps {
			t.Run(step.name, func(t *testing.T) {
				_, slow := newNode(t, nil, cert, step.before...)
				_, fast := newNode(t, nil, cert, step.after...)
				for _, way := range []struct {
					name        string
					first, then *stdtls.Config
				}{{"slow, then fast", slow, fast}, {"fast, then slow", fast, slow}} {
					client := resuming(root, version)
					checkResumed(t, way.name+": first", client, way.first, false)
					checkResumed(t, way.name+": second", client, way.then, true)
				}
			})
		}
	})
}

func TestSessionsAreNotResumed(t *testing.T) {
	versions(t, func(t *testing.T, version uint16) {
		root := newAuthority("Root")
		cert := root.server("web", newP256(), "a.example", "b.example")
		key := TicketKey{"a", newKey(), true}
		t.Run("with other keys", func(t *testing.T) {
			_, one := newNode(t, nil, cert, key)
			_, other := newNode(t, nil, cert, TicketKey{"a", newKey(), true})
			client := resuming(root, version)
			checkResumed(t, "first", client, one, false)
			checkResumed(t, "second", client, other, false)
		})
		t.Run("without keys", func(t *testing.T) {
			s, server := newNode(t, nil, cert)
			client := resuming(root, version)
			checkResumed(t, "first", client, server, false)
			checkResumed(t, "second", client, server, false)
			if err := s.SetTicketKeys([]TicketKey{key}); err != nil {
				t.Fatal(err)
			}
			checkResumed(t, "with a key, first", client, server, false)
			checkResumed(t, "with a key, second", client, server, true)
			if err := s.SetTicketKeys(nil); err != nil {
				t.Fatal(err)
			}
			checkResumed(t, "without again", client, server, false)
		})
		t.Run("after the ticket's lifetime", func(t *testing.T) {
			now := time.Now().Truncate(time.Second) // as tickets have it
			_, server := newNode(t, func() time.Time { return now }, cert, key)
			client := resuming(root, version)
			checkResumed(t, "first", client, server, false)
			now = now.Add(TicketLifetime)
			checkResumed(t, "at its end", client, server, true)
			now = now.Add(TicketLifetime + time.Second) // of the second ticket
			checkResumed(t, "after its end", client, server, false)
		})
		t.Run("under another server name", func(t *testing.T) {
			_, server := newNode(t, nil, cert, key)
			client := resuming(root, version)
			// One that keeps its sessions in one place for all names.
			client.ClientSessionCache = &oneSession{}
			checkResumed(t, "first", client, server, false)
			checkResumed(t, "same name", client, server, true)
			client.ServerName = "b.example"
			checkResumed(t, "other name", client, server, false)
			client.ServerName = "B.EXAMPLE"
			checkResumed(t, "the same in capitals", client, server, true)
		})
	})
}

// oneSession is a client's cache that does not tell servers apart.
type oneSession struct{ state *stdtls.ClientSessionState }

func (o *oneSession) Get(string) (*stdtls.ClientSessionState, bool) { return o.state, o.state != nil }
func (o *oneSession) Put(_ string, s *stdtls.ClientSessionState)    { o.state = s }

// All listeners share the keys of tickets. A session must not carry a client
// past a question that another listener did not ask.
func TestSessionsAreBoundToTheListenersPolicy(t *testing.T) {
	versions(t, func(t *testing.T, version uint16) {
		root, clients, others := newAuthority("Root"), newAuthority("Clients"), newAuthority("Others")
		cert := root.server("web", newP256(), "a.example")
		s, open := newNode(t, nil, cert, TicketKey{"a", newKey(), true})
		auth := func(a ClientAuth, ca *authority) *stdtls.Config {
			return serverOf(t, s, ServerConfig{Certificates: []string{"web"}, ClientAuth: a, ClientCA: ca.pem()})
		}
		listeners := []struct {
			name   string
			config *stdtls.Config
		}{
			{"none", open},
			{"optional", auth(OptionalClientCrt, clients)},
			{"required", auth(RequireClientCert, clients)},
			{"optional, of others", auth(OptionalClientCrt, others)},
			{"required, of others", auth(RequireClientCert, others)},
			{"with one cipher", serverOf(t, s, ServerConfig{Certificates: []string{"web"}, Ciphers: []string{"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"}})},
		}
		key := newP256()
		byClients := stdtls.Certificate{Certificate: [][]byte{clients.issue(key, forClient).Raw}, PrivateKey: key}
		byOthers := stdtls.Certificate{Certificate: [][]byte{others.issue(key, forClient).Raw}, PrivateKey: key}
		for _, first := range listeners {
			for _, then := range listeners {
				t.Run(fmt.Sprintf("%s, then %s", first.name, then.name), func(t *testing.T) {
					client := resuming(root, version)
					client.Certificates = []stdtls.Certificate{byClients, byOthers}
					checkResumed(t, "first", client, first.config, false)
					checkResumed(t, "second", client, then.config, first.name == then.name)
				})
			}
		}
		t.Run("the same configuration made again", func(t *testing.T) {
			client := resuming(root, version)
			client.Certificates = []stdtls.Certificate{byClients}
			checkResumed(t, "first", client, auth(RequireClientCert, clients), false)
			d := checkResumed(t, "second", client, auth(RequireClientCert, clients), true)
			if id, ok := ClientIdentity(d.atServer); !ok || id.Subject != "CN=leaf" {
				t.Errorf("a resumed session has lost its client: %+v, %v", id, ok)
			}
		})
	})
}

// In TLS 1.2, resuming saves a round trip; in 1.3 there is none to save.
// Counted are the turns of the conversation before the client may speak.
func TestResumptionSavesARoundTrip(t *testing.T) {
	root := newAuthority("Root")
	_, server := newNode(t, nil, root.server("web", newP256(), "a.example"), TicketKey{"a", newKey(), true})
	for _, tt := range []struct {
		version       uint16
		full, resumed int
	}{{stdtls.VersionTLS12, 2, 1}, {stdtls.VersionTLS13, 1, 1}} {
		client := resuming(root, tt.version)
		for i, want := range []int{tt.full, tt.resumed} {
			a, b := newPipe()
			done := make(chan error)
			c, s := stdtls.Client(a, client), stdtls.Server(b, server)
			go func() { done <- s.Handshake() }()
			if err := c.Handshake(); err != nil {
				t.Fatal(err)
			}
			a.mu.Lock()
			trips := a.passes[1] // each answer of the server ends one
			a.mu.Unlock()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if resumed := c.ConnectionState().DidResume; resumed != (i == 1) {
				t.Fatalf("%s: resumed %v", stdtls.VersionName(tt.version), resumed)
			}
			if trips != want {
				t.Errorf("%s, resumed %v: %d round trips, want %d", stdtls.VersionName(tt.version), i == 1, trips, want)
			}
			// The ticket of 1.3 comes with the first data.
			go func() { _, _ = s.Write([]byte{1}) }()
			if _, err := c.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func FuzzTicket(f *testing.F) {
	keys := must(newTickets([]TicketKey{{"a", newKey(), true}, {"b", newKey(), false}}, time.Now))
	binding := []byte("policy")
	sealed := must(keys.seal([]byte("state"), binding))
	f.Add(sealed)
	f.Add(sealed[:headerSize])
	f.Add(sealed[:headerSize-1])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, ticket []byte) {
		if state := keys.open(ticket, binding); state != nil && !bytes.Equal(ticket, sealed) {
			t.Errorf("a forged ticket opens: %q", state)
		}
		again, err := keys.seal(ticket, binding)
		if err != nil {
			t.Fatal(err)
		}
		if got := keys.open(again, binding); !bytes.Equal(got, ticket) {
			t.Errorf("sealed %q, opened %q", ticket, got)
		}
		if got := keys.open(again, []byte("other")); got != nil {
			t.Error("opens under another binding")
		}
	})
}
