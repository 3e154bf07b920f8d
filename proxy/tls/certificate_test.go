package tls

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestCertificateFaults(t *testing.T) {
	root := newAuthority("Root")
	middle := root.intermediate("Middle")
	key := newP256()
	leaf := middle.issue(key, forNames("a.example"))
	p224 := must(ecdsa.GenerateKey(elliptic.P224(), rand.Reader))
	tests := []struct {
		name string
		c    Certificate
		want []string // "field: words of the reason"
	}{
		{"nothing given", Certificate{}, []string{"name: is empty", "chain: no PEM block", "key: no PEM block"}},
		{"a whole chain", Certificate{Name: "c", Chain: chainPEM(leaf, middle.cert, root.cert), Key: keyPEM(key)}, nil},
		{"a leaf alone", Certificate{Name: "c", Chain: chainPEM(leaf), Key: keyPEM(key)}, nil},
		{"another certificate's key", Certificate{Name: "c", Chain: chainPEM(leaf), Key: keyPEM(newP256())}, []string{"key: is not the key of the chain's first certificate (CN=leaf)"}},
		{"a key of another kind", Certificate{Name: "c", Chain: chainPEM(leaf), Key: keyPEM(newEd25519())}, []string{"key: is not the key"}},
		{"the root before the intermediate", Certificate{Name: "c", Chain: chainPEM(leaf, root.cert, middle.cert), Key: keyPEM(key)}, []string{"chain: is out of order: certificate 1 (CN=leaf) was issued by certificate 3 (CN=Middle), which must come next"}},
		{"the leaf last", Certificate{Name: "c", Chain: chainPEM(middle.cert, leaf), Key: keyPEM(key)}, []string{"chain: certificate 1 (CN=Middle) was not issued by the next one (CN=leaf)"}},
		{"an intermediate of the same name and another key", Certificate{Name: "c", Chain: chainPEM(leaf, root.intermediate("Middle").cert), Key: keyPEM(key)}, []string{"chain: is broken"}},
		{"chain does not parse", Certificate{Name: "c", Chain: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}), Key: keyPEM(key)}, []string{"chain: certificate 1 does not parse"}},
		{"key does not parse", Certificate{Name: "c", Chain: chainPEM(leaf), Key: pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: []byte("x")})}, []string{"key: does not parse"}},
		{"key with a passphrase", Certificate{Name: "c", Chain: chainPEM(leaf), Key: pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY"})}, []string{"key: is encrypted"}},
		{"key with a passphrase, the old way", Certificate{Name: "c", Chain: chainPEM(leaf), Key: pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Headers: map[string]string{"DEK-Info": "x"}})}, []string{"key: is encrypted"}},
		{"RSA of 1024 bits", root.server("c", rsa1024(), "a.example"), []string{"chain: RSA key of 1024 bits"}},
		{"RSA of 2048 bits", root.server("c", rsa2048(), "a.example"), nil},
		{"Ed25519", root.server("c", newEd25519(), "a.example"), nil},
		{"P-224", root.server("c", p224, "a.example"), []string{"chain: P-224"}},
		{"PKCS #1", Certificate{Name: "c", Chain: chainPEM(root.issue(rsa2048())), Key: pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(rsa2048().(*rsa.PrivateKey))})}, nil},
		{"SEC 1, after its parameters", Certificate{Name: "c", Chain: chainPEM(leaf), Key: append(
			pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6}}),
			pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: must(x509.MarshalECPrivateKey(key.(*ecdsa.PrivateKey)))})...)}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			checkFaults(t, tt.c.Validate(), tt.want)
		})
	}
}

// checkFaults wants exactly these faults, given as "field: words" of the
// reason.
func checkFaults(t *testing.T, err error, want []string) {
	t.Helper()
	var paths []string
	for _, w := range want {
		field, words, _ := strings.Cut(w, ": ")
		paths = append(paths, field)
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("error = %v\nwant in it: %s", err, words)
		}
	}
	if diff := cmp.Diff(paths, fields(err)); diff != "" {
		t.Errorf("%v\nfields (-want +got):\n%s", err, diff)
	}
}

// Faults of a list tell which certificate they are about, and a list with a
// fault changes nothing.
func TestLoadIsAllOrNothing(t *testing.T) {
	root := newAuthority("Root")
	good := root.server("good", newP256(), "a.example")
	s := loaded(t, good)
	bad := root.server("bad", newP256(), "b.example")
	bad.Key = keyPEM(newP256())
	_, err := s.Load([]Certificate{bad, root.server("new", newP256(), "c.example"), {Name: "new"}})
	checkFaults(t, err, []string{`certificates[0].key: (certificate "bad")`, `certificates[2].name: "new" is used by another`})
	if _, err := s.Server(ServerConfig{Certificates: []string{"good"}}); err != nil {
		t.Errorf("the former certificate is gone: %v", err)
	}
	_, err = s.Server(ServerConfig{Certificates: []string{"good", "new"}})
	checkFaults(t, err, []string{`certificates[1]: there is no certificate "new"`})
}

func TestWarnings(t *testing.T) {
	root := newAuthority("Root")
	now := time.Now()
	with := func(change ...func(*x509.Certificate)) Certificate {
		key := newP256()
		leaf := root.issue(key, append([]func(*x509.Certificate){forNames("a.example")}, change...)...)
		return Certificate{Name: "c", Chain: chainPEM(leaf, root.cert), Key: keyPEM(key)}
	}
	old := newAuthority("Old", func(t *x509.Certificate) { t.NotAfter = now.Add(-time.Minute) })
	weak := authority{key: rsa2048()}
	weakTemplate := template("Weak")
	weakTemplate.IsCA, weakTemplate.BasicConstraintsValid = true, true
	weakTemplate.SignatureAlgorithm = x509.SHA1WithRSA
	weak.cert = must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, weakTemplate, weakTemplate, weak.key.Public(), weak.key))))
	key := newP256()
	sha1Leaf := weak.issue(key, forNames("a.example"), func(t *x509.Certificate) { t.SignatureAlgorithm = x509.SHA1WithRSA })
	tests := []struct {
		name string
		c    Certificate
		want []string
	}{
		{"none", with(), nil},
		{"expired", with(func(t *x509.Certificate) { t.NotAfter = now.Add(-time.Minute) }), []string{"certificate 1 of the chain (CN=leaf) has expired on "}},
		{"not yet valid", with(func(t *x509.Certificate) { t.NotBefore = now.Add(time.Hour) }), []string{"is not valid before "}},
		{"its authority has expired", old.server("c", newP256(), "a.example"), []string{"certificate 2 of the chain (CN=Old) has expired on "}},
		{"signed with SHA-1, by a root that is as well", Certificate{Name: "c", Chain: chainPEM(sha1Leaf, weak.cert), Key: keyPEM(key)}, []string{"certificate 1 of the chain (CN=leaf) is signed with SHA1-RSA"}},
		{"no name", with(func(t *x509.Certificate) { t.DNSNames = nil }), []string{"no subject alternative name"}},
		{"an asterisk within a label", with(func(t *x509.Certificate) { t.DNSNames = []string{"w*.example"} }), []string{`the name "w*.example" is not served`}},
		{"for clients only", with(forClient), []string{"is not meant for servers"}},
		{"must staple", with(func(t *x509.Certificate) {
			t.ExtraExtensions = []pkix.Extension{{Id: mustStaple, Value: must(asn1.Marshal([]int{5}))}}
		}), []string{"requires a stapled OCSP response"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := NewStore(nil)
			for range 2 { // the second time, it was parsed before
				warnings, err := s.Load([]Certificate{tt.c})
				if err != nil {
					t.Fatal(err)
				}
				checkWarnings(t, warnings, tt.want)
			}
		})
	}
}

func checkWarnings(t *testing.T, got []Warning, want []string) {
	t.Helper()
	ok := len(got) == len(want)
	for i := range min(len(got), len(want)) {
		ok = ok && strings.Contains(got[i].String(), want[i]) && got[i].Certificate == "c"
	}
	if !ok {
		t.Errorf("warnings: %q\nwant: %q", got, want)
	}
}

func TestExpiring(t *testing.T) {
	now := time.Now()
	root := newAuthority("Root", func(t *x509.Certificate) { t.NotAfter = now.Add(365 * 24 * time.Hour) })
	var list []Certificate
	for _, days := range []int{60, 29, 31, -1} {
		key := newP256()
		leaf := root.issue(key, forNames("a.example"), func(t *x509.Certificate) {
			t.NotAfter = now.Add(time.Duration(days) * 24 * time.Hour)
		})
		list = append(list, Certificate{Name: fmt.Sprint(days), Chain: chainPEM(leaf), Key: keyPEM(key)})
	}
	s := loaded(t, list...)
	var got []string
	for _, e := range s.Expiring(now) {
		got = append(got, e.Certificate)
		if diff := cmp.Diff([]string{"a.example"}, e.Names); diff != "" {
			t.Error(diff)
		}
	}
	if diff := cmp.Diff([]string{"-1", "29"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n := len(s.Expiring(now.Add(40 * 24 * time.Hour))); n != 4 {
		t.Errorf("%d expire within 70 days, want 4", n)
	}
}
