package tls

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	stdtls "crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"
)

// response describes an OCSP response to make.
type response struct {
	leaf, issuer *x509.Certificate
	status       int
	this, next   time.Time // next may be zero
	signer       crypto.Signer
	responder    *x509.Certificate // of signer, if it is not the issuer
	hash         crypto.Hash       // default SHA-1
}

func (r response) der() []byte {
	type certID struct {
		Hash     pkix.AlgorithmIdentifier
		NameHash []byte
		KeyHash  []byte
		Serial   *big.Int
	}
	type single struct {
		ID     certID
		Status asn1.RawValue
		This   time.Time     `asn1:"generalized"`
		Next   asn1.RawValue `asn1:"optional"`
	}
	var spki struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	must(asn1.Unmarshal(r.issuer.RawSubjectPublicKeyInfo, &spki))
	oid, hash := asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}, crypto.SHA1
	if r.hash == crypto.SHA256 {
		oid, hash = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, crypto.SHA256
	}
	status := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: r.status}
	if r.status == ocspRevoked {
		status.IsCompound = true
		status.Bytes = must(asn1.MarshalWithParams(r.this.UTC(), "generalized"))
	}
	s := single{
		ID: certID{
			Hash:     pkix.AlgorithmIdentifier{Algorithm: oid},
			NameHash: digest(hash, r.issuer.RawSubject), KeyHash: digest(hash, spki.Key.RightAlign()), Serial: r.leaf.SerialNumber,
		},
		Status: status, This: r.this.UTC(),
	}
	if !r.next.IsZero() {
		s.Next = asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: must(asn1.MarshalWithParams(r.next.UTC(), "generalized"))}
	}
	data := must(asn1.Marshal(struct {
		Responder asn1.RawValue
		Produced  time.Time `asn1:"generalized"`
		Responses []single
	}{
		asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 1, IsCompound: true, Bytes: r.issuer.RawSubject},
		r.this.UTC(),
		[]single{s},
	}))
	sum := sha256.Sum256(data)
	sig := must(r.signer.Sign(rand.Reader, sum[:], crypto.SHA256))
	basic := struct {
		Data         asn1.RawValue
		Algorithm    pkix.AlgorithmIdentifier
		Signature    asn1.BitString
		Certificates []asn1.RawValue `asn1:"explicit,tag:0,optional,omitempty"`
	}{
		Data:      asn1.RawValue{FullBytes: data},
		Algorithm: pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}},
		Signature: asn1.BitString{Bytes: sig, BitLength: 8 * len(sig)},
	}
	if r.responder != nil {
		basic.Certificates = []asn1.RawValue{{FullBytes: r.responder.Raw}}
	}
	type body struct {
		Type     asn1.ObjectIdentifier
		Response []byte
	}
	return must(asn1.Marshal(struct {
		Status asn1.Enumerated
		Bytes  body `asn1:"explicit,tag:0"`
	}{0, body{oidBasicOCSP, must(asn1.Marshal(basic))}}))
}

func TestOCSP(t *testing.T) {
	root, other := newAuthority("Root"), newAuthority("Other")
	now := time.Now()
	key := newP256()
	leaf := root.issue(key, forNames("a.example"))
	delegate := newP256()
	forOCSP := func(t *x509.Certificate) { t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning} }
	good := response{leaf: leaf, issuer: root.cert, this: now.Add(-time.Hour), next: now.Add(time.Hour), signer: root.key}
	change := func(f func(*response)) []byte {
		r := good
		f(&r)
		return r.der()
	}
	alone := Certificate{Name: "c", Chain: chainPEM(leaf), Key: keyPEM(key), OCSP: good.der()}
	tests := []struct {
		name string
		der  []byte
		want string // of the warning; "": stapled
	}{
		{"good", good.der(), ""},
		{"good, named by SHA-256", change(func(r *response) { r.hash = crypto.SHA256 }), ""},
		{"good, without an end", change(func(r *response) { r.this, r.next = now.Add(-time.Minute), time.Time{} }), ""},
		{"by a delegate", change(func(r *response) { r.signer, r.responder = delegate, root.issue(delegate, forOCSP) }), ""},
		{"expired", change(func(r *response) { r.next = now.Add(-time.Minute) }), "has expired on"},
		{"of tomorrow", change(func(r *response) { r.this = now.Add(time.Hour) }), "is not valid before"},
		{"revoked", change(func(r *response) { r.status = ocspRevoked }), "says that the certificate is revoked"},
		{"unknown", change(func(r *response) { r.status = 2 }), "does not know the certificate"},
		{"for another certificate", change(func(r *response) { r.leaf = root.issue(newP256()) }), "is for another certificate"},
		{"for the same serial of another authority", change(func(r *response) { r.issuer = other.cert }), "is for another certificate"},
		{"signed by another", change(func(r *response) { r.signer = other.key }), "is not signed by the certificate's issuer"},
		{"signed by the certificate itself", change(func(r *response) { r.signer, r.responder = key, leaf }), "is not for OCSP responders"},
		{"by a delegate of another", change(func(r *response) { r.signer, r.responder = delegate, other.issue(delegate, forOCSP) }), "has not authorised"},
		{"by a delegate that has expired", change(func(r *response) {
			r.signer, r.responder = delegate, root.issue(delegate, forOCSP, func(t *x509.Certificate) { t.NotAfter = now.Add(-time.Minute) })
		}), "has expired"},
		{"an error of the responder", must(asn1.Marshal(struct{ Status asn1.Enumerated }{3})), "status 3"},
		{"garbage", []byte("garbage"), "does not parse"},
		{"with a tail", append(good.der(), 0), "left over"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := Certificate{Name: "c", Chain: chainPEM(leaf, root.cert), Key: keyPEM(key), OCSP: tt.der}
			s := NewStore(nil)
			warnings, err := s.Load([]Certificate{c})
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			if tt.want != "" {
				want = []string{tt.want}
			}
			checkWarnings(t, warnings, want)
			d := mustTalk(t, &stdtls.Config{ServerName: "a.example", RootCAs: root.pool()}, serverOf(t, s, ServerConfig{Certificates: []string{"c"}}))
			if stapled := len(d.atClient.OCSPResponse) > 0; stapled != (tt.want == "") {
				t.Errorf("stapled: %v", stapled)
			}
		})
	}
	t.Run("the chain lacks the issuer", func(t *testing.T) {
		warnings, err := NewStore(nil).Load([]Certificate{alone})
		if err != nil {
			t.Fatal(err)
		}
		checkWarnings(t, warnings, []string{"the chain lacks the issuer's certificate"})
	})
}

// A response that ends while the node runs is not stapled any more: clients
// refuse a stale one, and do without one.
func TestStapleEndsWithItsResponse(t *testing.T) {
	root := newAuthority("Root")
	now := time.Now()
	clock := now
	c := root.server("c", newP256(), "a.example")
	leaf := must(parse(c)).plain.Leaf
	c.OCSP = response{leaf: leaf, issuer: root.cert, this: now, next: now.Add(time.Hour), signer: root.key}.der()
	s := NewStore(func() time.Time { return clock })
	if warnings, err := s.Load([]Certificate{c}); err != nil || len(warnings) > 0 {
		t.Fatal(warnings, err)
	}
	server := serverOf(t, s, ServerConfig{Certificates: []string{"c"}})
	client := &stdtls.Config{ServerName: "a.example", RootCAs: root.pool()}
	if d := mustTalk(t, client, server); len(d.atClient.OCSPResponse) == 0 {
		t.Error("no staple at first")
	}
	clock = now.Add(time.Hour)
	if d := mustTalk(t, client, server); len(d.atClient.OCSPResponse) != 0 {
		t.Error("a staple after its end")
	}
}

func FuzzOCSP(f *testing.F) {
	root := newAuthority("Root")
	leaf := root.issue(newP256())
	now := time.Now()
	r := response{leaf: leaf, issuer: root.cert, this: now, next: now.Add(time.Hour), signer: root.key}
	good := r.der()
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add([]byte{0x30, 0x03, 0x0a, 0x01, 0x03})
	r.status = ocspRevoked
	f.Add(r.der())
	f.Fuzz(func(t *testing.T, der []byte) {
		from, until, err := staple(der, leaf, root.cert, now)
		if err == nil && (until.Before(now) || from.After(now)) {
			t.Errorf("accepted for %v to %v", from, until)
		}
	})
}
