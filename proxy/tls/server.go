package tls

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pharos-lb/pharos/proxy/policy"
)

// server is how one listener speaks TLS, on whatever the store holds.
type server struct {
	store  *Store
	config ServerConfig
	policy [sha256.Size]byte

	minVersion uint16
	ciphers    []uint16
	curves     []tls.CurveID
	clientAuth tls.ClientAuthType
	clientCAs  *x509.CertPool

	laidOut atomic.Pointer[layout]
}

// layout is a server's crypto/tls configuration for one snapshot.
type layout struct {
	from    *snapshot
	entries map[string]*entry // in use
	config  *tls.Config
}

// Server returns a configuration for a listener. It follows the store: each
// handshake uses the certificates and ticket keys of its moment, all of one
// snapshot. The error joins *policy.Fault, among them certificates that the store
// does not hold.
//
// Records are of full size from the beginning (DynamicRecordSizingDisabled):
// with growing ones, the first 16 KiB of a connection are 5 records, which
// cost 15 % more to encrypt, and 5 system calls to send.
func (s *Store) Server(c ServerConfig) (*tls.Config, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	held := s.snapshot.Load()
	var f policy.Faults
	for i, name := range c.Certificates {
		if held.entries[name] == nil {
			f.Add(fmt.Sprintf("certificates[%d]", i), "there is no certificate %q", name)
		}
	}
	if err := f.Err(); err != nil {
		return nil, err
	}
	v := &server{store: s, config: c, policy: c.policy(), minVersion: tls.VersionTLS12}
	if c.MinVersion == TLS13 {
		v.minVersion = tls.VersionTLS13
	}
	for _, name := range c.Ciphers {
		id, _ := cipherSuite(name)
		v.ciphers = append(v.ciphers, id)
	}
	if c.NoPostQuantum {
		v.curves = classicCurves()
	}
	if c.clientCertificates() {
		v.clientAuth = tls.VerifyClientCertIfGiven
		if c.ClientAuth == RequireClientCert {
			v.clientAuth = tls.RequireAndVerifyClientCert
		}
		var err error
		if v.clientCAs, err = parsePool(c.ClientCA); err != nil {
			return nil, err // validated before
		}
	}
	v.laidOut.Store(v.layOut(held, nil))
	return &tls.Config{
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return v.current(), nil },
		// What is said before the ClientHello has been read.
		MinVersion:             v.minVersion,
		SessionTicketsDisabled: true,
		Time:                   s.now,
	}, nil
}

// classicCurves are Go's key exchanges without the post-quantum ones.
func classicCurves() []tls.CurveID {
	return []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521}
}

// current is the configuration for the store's present snapshot.
func (v *server) current() *tls.Config {
	held := v.store.snapshot.Load()
	before := v.laidOut.Load()
	if before.from == held {
		return before.config
	}
	// Two handshakes may do this at one time, with the same outcome. Should an
	// older one be stored last, the next handshake mends it.
	next := v.layOut(held, before)
	v.laidOut.Store(next)
	return next.config
}

func (v *server) layOut(held *snapshot, before *layout) *layout {
	l := &layout{from: held, entries: make(map[string]*entry, len(v.config.Certificates))}
	var entries []*entry
	for _, name := range v.config.Certificates {
		e := held.entries[name]
		if e == nil && before != nil {
			e = before.entries[name]
		}
		if e != nil {
			l.entries[name] = e
			entries = append(entries, e)
		}
	}
	found := newNames(entries)
	now := v.store.now
	l.config = &tls.Config{
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return found.choose(hello, now())
		},
		MinVersion:                  v.minVersion,
		CipherSuites:                v.ciphers,
		CurvePreferences:            v.curves,
		NextProtos:                  v.config.ALPN,
		ClientAuth:                  v.clientAuth,
		ClientCAs:                   v.clientCAs,
		DynamicRecordSizingDisabled: true,
		Time:                        now,
		SessionTicketsDisabled:      held.tickets == nil,
	}
	if held.tickets != nil {
		l.config.WrapSession, l.config.UnwrapSession = held.tickets.session(v.policy)
	}
	return l
}

func (c ServerConfig) clientCertificates() bool {
	return c.ClientAuth == OptionalClientCrt || c.ClientAuth == RequireClientCert
}

// policy identifies what a session was made under. A session is resumed only
// where this is equal: who a client is must have been asked the same question,
// with the same authorities to answer it.
func (c ServerConfig) policy() [sha256.Size]byte {
	h := sha256.New()
	auth, version := c.ClientAuth, c.MinVersion
	if auth == "" {
		auth = NoClientCert
	}
	if version == "" {
		version = TLS12
	}
	ciphers := slices.Sorted(slices.Values(c.Ciphers))
	for _, part := range []string{string(auth), string(version), strings.Join(ciphers, ","), string(c.ClientCA)} {
		_, _ = fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// stapling returns e with a response to staple, and why it has none if one was
// given.
func (e *entry) stapling(der []byte, now time.Time) (with *entry, warnings []string) {
	if len(der) == 0 {
		return e, nil
	}
	var issuer *x509.Certificate
	if len(e.plain.Certificate) > 1 {
		issuer, _ = x509.ParseCertificate(e.plain.Certificate[1])
	}
	next := *e
	next.stapled = nil
	from, until, err := staple(der, e.plain.Leaf, issuer, now)
	if err != nil {
		return &next, []string{"is served without its OCSP response, which " + err.Error()}
	}
	stapled := e.plain
	stapled.OCSPStaple = slices.Clone(der)
	next.stapled, next.stapleFrom, next.stapleUntil = &stapled, from, until
	return &next, nil
}
