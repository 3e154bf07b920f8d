package tls

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"strings"
)

// Identity is who a client has proven to be, as text for headers to servers:
// printable ASCII only, whatever the certificate contains.
type Identity struct {
	Subject     string // RFC 4514, such as CN=alice,O=Example
	Issuer      string
	Serial      string // hexadecimal
	Fingerprint string // SHA-256 of the certificate, hexadecimal
}

// ClientIdentity returns the identity in a verified client certificate; false
// if there is none. It allocates: call it once for a connection.
func ClientIdentity(state tls.ConnectionState) (Identity, bool) {
	if len(state.VerifiedChains) == 0 || len(state.VerifiedChains[0]) == 0 {
		return Identity{}, false
	}
	cert := state.VerifiedChains[0][0]
	sum := sha256.Sum256(cert.Raw)
	return Identity{
		Subject:     printable(cert.Subject.String()),
		Issuer:      printable(cert.Issuer.String()),
		Serial:      cert.SerialNumber.Text(16),
		Fingerprint: hex.EncodeToString(sum[:]),
	}, true
}

// printable writes other bytes as \XX (RFC 4514 section 2.4), so that a name
// in a certificate cannot end a header line and begin another one.
func printable(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c > 0x7e {
			_, _ = fmt.Fprintf(&b, `\%02X`, c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
