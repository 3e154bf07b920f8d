package registry

import (
	"fmt"
	"io"
	"strings"
)

// Certificate is what listeners show to clients, or pools to servers.
type Certificate struct {
	Name  string `json:"name" required:"true" format:"name"`
	Chain string `json:"chain" required:"true" format:"chain" max:"65536"` // PEM, the leaf first, then each one's issuer
	// Key is the private key: PEM in clear, or sealed (SealedPrefix). In clear,
	// it must be the leaf's.
	Key  Secret `json:"key" required:"true" max:"65536"`
	OCSP []byte `json:"ocsp" max:"16384"` // the DER response to staple (RFC 6960), base64 in a document; absent: none
}

// SealedPrefix begins a key that is encrypted: base64 (RFC 4648 4) follows.
const SealedPrefix = "sealed:v1:"

// Sealed reports whether the key is encrypted.
func (c Certificate) Sealed() bool { return strings.HasPrefix(string(c.Key), SealedPrefix) }

// Opener gives the PEM of the sealed key of the certificate of that name. Its
// error is shown to operators.
type Opener func(name, sealed string) (pem string, err error)

// Secret is text that is written to documents and to JSON, but never shown: not
// by fmt, not by a Fault, not by Diff.
type Secret string

// Format hides the text from fmt, whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) {
	shown := "(secret)"
	if s == "" {
		shown = "(none)"
	}
	_, _ = io.WriteString(f, shown)
}

// MapKeys returns a copy in which each certificate's key is what change makes
// of it: sealed before it is stored, opened before it is used. It is given the
// certificate's name, and its first error ends the work.
func (c Config) MapKeys(change func(name, key string) (string, error)) (Config, error) {
	c = c.Clone()
	for i := range c.Certificates {
		cert := &c.Certificates[i]
		key, err := change(cert.Name, string(cert.Key))
		if err != nil {
			return Config{}, fmt.Errorf("key of certificate %s: %w", cert.Name, err)
		}
		cert.Key = Secret(key)
	}
	return c, nil
}
