package registry

import (
	"fmt"
	"io"
	"slices"
)

// SealedPrefix begins a secret that is encrypted: base64 (RFC 4648 4) follows.
const SealedPrefix = "sealed:v1:"

// Opener gives a sealed secret in clear. The purpose is what it was sealed for:
// that of a certificate's key or of a neighbor's password. Its error is shown to
// operators.
type Opener func(purpose, sealed string) (clear string, err error)

// KeyPurpose is what the key of the certificate of that name is sealed for.
func KeyPurpose(certificate string) string { return "certificate " + certificate }

// PasswordPurpose is what the password of the neighbor of that name is sealed
// for.
func PasswordPurpose(neighbor string) string { return "neighbor " + neighbor }

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

// MapKeys returns a copy in which each certificate's key, and each neighbor's
// password that there is, is what change makes of it: sealed before it is
// stored, opened before it is used. Its first error ends the work.
func (c Config) MapKeys(change func(purpose, secret string) (string, error)) (Config, error) {
	c = c.Clone()
	if err := c.mapPasswords(change); err != nil {
		return Config{}, err
	}
	for i := range c.Certificates {
		cert := &c.Certificates[i]
		key, err := change(KeyPurpose(cert.Name), string(cert.Key))
		if err != nil {
			return Config{}, fmt.Errorf("key of certificate %s: %w", cert.Name, err)
		}
		cert.Key = Secret(key)
	}
	return c, nil
}

// MapPasswords returns a copy in which each neighbor's password is what change
// makes of it. It shares all but its neighbors with c.
func (c Config) MapPasswords(change func(purpose, secret string) (string, error)) (Config, error) {
	c.Neighbors = slices.Clone(c.Neighbors)
	if err := c.mapPasswords(change); err != nil {
		return Config{}, err
	}
	return c, nil
}

func (c Config) mapPasswords(change func(purpose, secret string) (string, error)) error {
	for i := range c.Neighbors {
		n := &c.Neighbors[i]
		if n.Password == "" {
			continue
		}
		password, err := change(PasswordPurpose(n.Name), string(n.Password))
		if err != nil {
			return fmt.Errorf("password of neighbor %s: %w", n.Name, err)
		}
		n.Password = Secret(password)
	}
	return nil
}
