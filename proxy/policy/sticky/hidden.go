package sticky

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
)

// A hidden value is the version, and in base64 a nonce, the encrypted content
// and its tag. The content is two dates of 8 bytes, the length of the server's
// name in one, the name, and zeros up to a multiple of padding.
const (
	hiddenVersion = '2'
	nonceSize     = 12
	tagSize       = 16
	hiddenKey     = 16 // AES-128
	contentName   = 8 + 8 + 1
	padding       = 16
)

// sealer encrypts with one key. It keeps no state, so it serves many at a time.
type sealer struct{ aead cipher.AEAD }

func newSealer(key Key, pool string) (sealer, error) {
	k, err := hkdf.Key(sha256.New, key[:], nil, "pharos sticky hidden 1 "+pool, hiddenKey)
	if err != nil {
		return sealer{}, err
	}
	block, err := aes.NewCipher(k)
	if err != nil {
		return sealer{}, err
	}
	aead, err := cipher.NewGCM(block)
	return sealer{aead: aead}, err
}

func readHidden(keys []sealer, value []byte, s *Scratch) (c content, key int, v Verdict) {
	text := value[1:]
	n, err := encoding.Decode(s.bytes[:], text)
	// The decoder skips line breaks, so the length tells too.
	if err != nil || encoding.EncodedLen(n) != len(text) || n < nonceSize+contentName+tagSize {
		return c, 0, Malformed
	}
	nonce, sealed := s.bytes[:nonceSize], s.bytes[nonceSize:n]
	for i := range keys {
		plain, err := keys[i].aead.Open(s.message[:0], nonce, sealed, nil)
		if err != nil {
			continue
		}
		length := int(plain[contentName-1])
		if length == 0 || length > MaxServer || contentName+length > len(plain) {
			return c, 0, Malformed
		}
		return content{
			first:  int64(binary.BigEndian.Uint64(plain)),
			last:   int64(binary.BigEndian.Uint64(plain[8:])),
			server: s.name[:copy(s.name[:], plain[contentName:contentName+length])],
		}, i, Valid
	}
	return c, 0, Forged
}

func (k *sealer) append(dst []byte, s *Scratch, server string, first, last int64, random func([]byte)) []byte {
	plain := binary.BigEndian.AppendUint64(s.message[:0], uint64(first))
	plain = binary.BigEndian.AppendUint64(plain, uint64(last))
	plain = append(plain, byte(len(server)))
	plain = append(plain, server...)
	for len(plain)%padding != 0 {
		plain = append(plain, 0)
	}
	nonce := s.bytes[:nonceSize]
	random(nonce)
	sealed := k.aead.Seal(nonce, nonce, plain, nil)
	return encoding.AppendEncode(append(dst, hiddenVersion), sealed)
}
