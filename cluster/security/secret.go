package security

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/pharos-lb/pharos/cluster/registry"
)

// ErrSealed is for a secret that cannot be opened: another cluster sealed it,
// or this one for something else, or it was changed since.
var ErrSealed = errors.New("is sealed, but not by this cluster for this name: give it in clear")

// ErrInClear is for a secret that ought to be sealed and is not.
var ErrInClear = errors.New("is not sealed")

// secretKeys seal what the nodes share through the log: private keys of
// certificates, passwords of neighbors, ticket keys, cookie keys. They come from the cluster key, so
// each member has them and nothing else does.
type secretKeys struct {
	aead   cipher.AEAD
	nonces []byte
}

func newSecretKeys(clusterKey []byte) (secretKeys, error) {
	key, err := hkdf.Key(sha256.New, clusterKey, nil, "pharos-secret-v1 key", keyBytes)
	if err != nil {
		return secretKeys{}, fmt.Errorf("derive the key of secrets: %w", err)
	}
	nonces, err := hkdf.Key(sha256.New, clusterKey, nil, "pharos-secret-v1 nonce", keyBytes)
	if err != nil {
		return secretKeys{}, fmt.Errorf("derive the key of secrets: %w", err)
	}
	aead, err := newAEAD(key)
	if err != nil {
		return secretKeys{}, err
	}
	return secretKeys{aead: aead, nonces: nonces}, nil
}

// nonce is made of all that is sealed, by a key of its own. The same secret for
// the same purpose is so sealed the same each time, which lets the cluster see
// that a document that was applied twice changes nothing; different secrets
// have different nonces, as far as 96 bits of HMAC-SHA-256 can tell them apart.
func (k secretKeys) nonce(additional, plain []byte) []byte {
	mac := hmac.New(sha256.New, k.nonces)
	sum := sha256.Sum256(additional) // of a length that is known: no two pairs run together
	mac.Write(sum[:])
	mac.Write(plain)
	return mac.Sum(nil)[:k.aead.NonceSize()]
}

// SealSecret encrypts a secret (AES-256-GCM) for all members of this cluster,
// as registry.SealedPrefix and base64. It can be opened for the same purpose
// only.
func (id *Identity) SealSecret(purpose, plain string) string {
	ad := additional("secret "+purpose, id.clusterID)
	nonce := id.secrets.nonce(ad, []byte(plain))
	return registry.SealedPrefix + base64.StdEncoding.EncodeToString(id.secrets.aead.Seal(nonce, nonce, []byte(plain), ad))
}

// OpenSecret reverses SealSecret. It is a registry.Opener. Its errors wrap ErrSealed or ErrInClear.
func (id *Identity) OpenSecret(purpose, sealed string) (string, error) {
	text, ok := strings.CutPrefix(sealed, registry.SealedPrefix)
	if !ok {
		return "", ErrInClear
	}
	box, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	n := id.secrets.aead.NonceSize()
	if err != nil || len(box) < n {
		return "", ErrSealed
	}
	plain, err := id.secrets.aead.Open(nil, box[:n], box[n:], additional("secret "+purpose, id.clusterID))
	if err != nil {
		return "", ErrSealed
	}
	return string(plain), nil
}

// SealConfig returns a copy in which each private key and password is sealed.
// What is sealed already stays as it is: have it checked by registry.ParseWith
// before.
func (id *Identity) SealConfig(c registry.Config) registry.Config {
	c, _ = c.MapKeys(func(purpose, secret string) (string, error) { // no error can come
		if strings.HasPrefix(secret, registry.SealedPrefix) {
			return strings.TrimSpace(secret), nil
		}
		return id.SealSecret(purpose, secret), nil
	})
	return c
}

// OpenConfig returns a copy in which each private key and password is in clear,
// for use. It must not be stored. One that cannot be opened, or that was not
// sealed, is an error that names the certificate or neighbor.
func (id *Identity) OpenConfig(c registry.Config) (registry.Config, error) {
	return c.MapKeys(id.OpenSecret)
}
