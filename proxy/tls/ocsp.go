package tls

import (
	"bytes"
	"crypto"
	_ "crypto/sha1" // CertIDs are SHA-1 by custom (RFC 5019 section 2.1.1); nothing rests on its strength
	_ "crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"
)

// The structures of RFC 6960 section 4.2.1.
type (
	ocspResponse struct {
		Status asn1.Enumerated
		Bytes  struct {
			Type     asn1.ObjectIdentifier
			Response []byte
		} `asn1:"explicit,tag:0,optional"`
	}
	basicResponse struct {
		Data         asn1.RawValue
		Algorithm    pkix.AlgorithmIdentifier
		Signature    asn1.BitString
		Certificates []asn1.RawValue `asn1:"explicit,tag:0,optional"`
	}
	responseData struct {
		Version    int `asn1:"explicit,tag:0,default:0,optional"`
		Responder  asn1.RawValue
		ProducedAt time.Time `asn1:"generalized"`
		Responses  []singleResponse
		Extensions asn1.RawValue `asn1:"explicit,tag:1,optional"`
	}
	singleResponse struct {
		ID struct {
			Hash     pkix.AlgorithmIdentifier
			NameHash []byte
			KeyHash  []byte
			Serial   *big.Int
		}
		Status     asn1.RawValue
		ThisUpdate time.Time     `asn1:"generalized"`
		NextUpdate time.Time     `asn1:"generalized,explicit,tag:0,optional"`
		Extensions asn1.RawValue `asn1:"explicit,tag:1,optional"`
	}
)

var oidBasicOCSP = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1}

// The tags of CertStatus.
const (
	ocspGood    = 0
	ocspRevoked = 1
)

// ocspSlack allows for a responder's clock that is ahead of ours.
const ocspSlack = 5 * time.Minute

// ocspDefault is how long a response without a nextUpdate is stapled: newer
// information is available all the time, says RFC 6960 section 4.2.2.1.
const ocspDefault = time.Hour

// staple checks an OCSP response for leaf, and returns when it may be served.
// The error says why it may not at all.
func staple(der []byte, leaf, issuer *x509.Certificate, now time.Time) (from, until time.Time, err error) {
	none := time.Time{}
	basic, data, err := parseOCSP(der)
	if err != nil {
		return none, none, err
	}
	if issuer == nil {
		return none, none, errors.New("cannot be verified: the chain lacks the issuer's certificate")
	}
	if err := basic.verify(issuer, now); err != nil {
		return none, none, err
	}
	i := slices.IndexFunc(data.Responses, func(r singleResponse) bool { return r.isFor(leaf, issuer) })
	if i < 0 {
		return none, none, errors.New("is for another certificate")
	}
	r := data.Responses[i]
	if r.Status.Class != asn1.ClassContextSpecific || r.Status.Tag != ocspGood {
		if r.Status.Tag == ocspRevoked {
			return none, none, errors.New("says that the certificate is revoked")
		}
		return none, none, errors.New("says that the responder does not know the certificate")
	}
	from, until = r.ThisUpdate.Add(-ocspSlack), r.NextUpdate
	if until.IsZero() {
		until = r.ThisUpdate.Add(ocspDefault)
	}
	switch {
	case !now.Before(until):
		return none, none, fmt.Errorf("has expired on %s", until.UTC().Format(time.RFC3339))
	case now.Before(from):
		return none, none, fmt.Errorf("is not valid before %s", r.ThisUpdate.UTC().Format(time.RFC3339))
	}
	return from, until, nil
}

func parseOCSP(der []byte) (*basicResponse, *responseData, error) {
	var outer ocspResponse
	if err := unmarshal(der, &outer); err != nil {
		return nil, nil, err
	}
	if outer.Status != 0 {
		return nil, nil, fmt.Errorf("is an error of the responder (status %d)", outer.Status)
	}
	if !outer.Bytes.Type.Equal(oidBasicOCSP) {
		return nil, nil, fmt.Errorf("is of type %v, not a basic one", outer.Bytes.Type)
	}
	basic, data := &basicResponse{}, &responseData{}
	if err := unmarshal(outer.Bytes.Response, basic); err != nil {
		return nil, nil, err
	}
	if err := unmarshal(basic.Data.FullBytes, data); err != nil {
		return nil, nil, err
	}
	return basic, data, nil
}

func unmarshal(der []byte, into any) error {
	rest, err := asn1.Unmarshal(der, into)
	if err != nil {
		return fmt.Errorf("does not parse: %w", err)
	}
	if len(rest) > 0 {
		return fmt.Errorf("does not parse: %d bytes are left over", len(rest))
	}
	return nil
}

type signature struct {
	oid       asn1.ObjectIdentifier
	algorithm x509.SignatureAlgorithm
}

// signatures are the algorithms that responses may be signed with.
var signatures = []signature{
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, x509.SHA256WithRSA},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 12}, x509.SHA384WithRSA},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 13}, x509.SHA512WithRSA},
	{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}, x509.ECDSAWithSHA256},
	{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}, x509.ECDSAWithSHA384},
	{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 4}, x509.ECDSAWithSHA512},
	{asn1.ObjectIdentifier{1, 3, 101, 112}, x509.PureEd25519},
}

// verify checks that the issuer signed the response, or one whom the issuer
// has authorised to (RFC 6960 section 4.2.2.2).
func (b *basicResponse) verify(issuer *x509.Certificate, now time.Time) error {
	i := slices.IndexFunc(signatures, func(s signature) bool { return s.oid.Equal(b.Algorithm.Algorithm) })
	if i < 0 {
		return fmt.Errorf("is signed with %v, which is not accepted", b.Algorithm.Algorithm)
	}
	algorithm := signatures[i].algorithm
	if issuer.CheckSignature(algorithm, b.Data.FullBytes, b.Signature.RightAlign()) == nil {
		return nil
	}
	for _, raw := range b.Certificates {
		responder, err := x509.ParseCertificate(raw.FullBytes)
		if err != nil || responder.CheckSignature(algorithm, b.Data.FullBytes, b.Signature.RightAlign()) != nil {
			continue
		}
		switch {
		case responder.CheckSignatureFrom(issuer) != nil || !bytes.Equal(responder.RawIssuer, issuer.RawSubject):
			return errors.New("is signed by a responder that the issuer has not authorised")
		case !slices.Contains(responder.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning):
			return errors.New("is signed by a certificate that is not for OCSP responders")
		case now.After(responder.NotAfter) || now.Before(responder.NotBefore):
			return errors.New("is signed by a responder whose certificate has expired")
		}
		return nil
	}
	return errors.New("is not signed by the certificate's issuer")
}

// isFor reports whether the response is about leaf.
func (r *singleResponse) isFor(leaf, issuer *x509.Certificate) bool {
	var hash crypto.Hash
	switch {
	case r.ID.Hash.Algorithm.Equal(asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}):
		hash = crypto.SHA1
	case r.ID.Hash.Algorithm.Equal(asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}):
		hash = crypto.SHA256
	default:
		return false
	}
	if r.ID.Serial == nil || r.ID.Serial.Cmp(leaf.SerialNumber) != 0 {
		return false
	}
	var key struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if unmarshal(issuer.RawSubjectPublicKeyInfo, &key) != nil {
		return false
	}
	return bytes.Equal(r.ID.NameHash, digest(hash, issuer.RawSubject)) &&
		bytes.Equal(r.ID.KeyHash, digest(hash, key.Key.RightAlign()))
}

func digest(h crypto.Hash, b []byte) []byte {
	w := h.New()
	w.Write(b)
	return w.Sum(nil)
}
