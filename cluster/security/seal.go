package security

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/pem"
	"fmt"
)

const (
	keyBytes   = 32 // AES-256, for the cluster key and memberlist's gossip key alike
	sealedType = "PHAROS SEALED KEY"
)

// seal encrypts a private key under the cluster key. The purpose (the file's
// name) and the cluster's id are authenticated with it, so that one sealed file
// cannot stand in for another.
func seal(clusterKey []byte, purpose, clusterID string, plain []byte) ([]byte, error) {
	aead, err := newAEAD(clusterKey)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, aead.NonceSize())
	if _, err := rand.Read(nonce); err != nil {
		return nil, fmt.Errorf("make a nonce: %w", err)
	}
	box := aead.Seal(nonce, nonce, plain, additional(purpose, clusterID))
	return pem.EncodeToMemory(&pem.Block{Type: sealedType, Bytes: box}), nil
}

// unseal reverses seal.
func unseal(clusterKey []byte, purpose, clusterID string, sealed []byte) ([]byte, error) {
	block, rest := pem.Decode(sealed)
	if block == nil || block.Type != sealedType || len(rest) != 0 {
		return nil, fmt.Errorf("not one PEM block of type %q: %w", sealedType, ErrCorrupt)
	}
	aead, err := newAEAD(clusterKey)
	if err != nil {
		return nil, err
	}
	n := aead.NonceSize()
	if len(block.Bytes) < n {
		return nil, fmt.Errorf("sealed key of %d bytes is too short: %w", len(block.Bytes), ErrCorrupt)
	}
	plain, err := aead.Open(nil, block.Bytes[:n], block.Bytes[n:], additional(purpose, clusterID))
	if err != nil {
		return nil, fmt.Errorf("cannot be opened with the cluster key: %w", ErrMismatch)
	}
	return plain, nil
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	if len(key) != keyBytes {
		return nil, fmt.Errorf("cluster key has %d bytes, want %d: %w", len(key), keyBytes, ErrCorrupt)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("use the cluster key: %w", err)
	}
	return cipher.NewGCM(block)
}

func additional(purpose, clusterID string) []byte {
	return []byte("pharos-seal-v1\x00" + purpose + "\x00" + clusterID)
}
