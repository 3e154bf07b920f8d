package registry

import "strings"

// Certificate is what listeners show to clients, or pools to servers.
type Certificate struct {
	Name  string `json:"name" required:"true" format:"name"`
	Chain string `json:"chain" required:"true" format:"chain" max:"65536"` // PEM, the leaf first, then each one's issuer
	// Key is the private key: PEM in clear, or sealed (SealedPrefix). In clear,
	// it must be the leaf's.
	Key  Secret `json:"key" required:"true" max:"65536"`
	OCSP []byte `json:"ocsp" max:"16384"` // the DER response to staple (RFC 6960), base64 in a document; absent: none
}

// Sealed reports whether the key is encrypted.
func (c Certificate) Sealed() bool { return strings.HasPrefix(string(c.Key), SealedPrefix) }
