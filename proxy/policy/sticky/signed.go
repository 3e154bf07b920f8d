package sticky

import (
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
)

// Where the parts of a signed value stand: the version, the two dates, the
// MAC, the server.
const (
	signedVersion = '1'
	dateSize      = 6 // characters
	macSize       = 16
	signedMAC     = 1 + 2*dateSize
	signedName    = signedMAC + 22 // 16 bytes in base64
)

const (
	blockSize  = sha256.BlockSize
	digestSize = sha256.Size
)

// encoding is base64url (RFC 4648 section 5), without padding. Strict, so that
// each value has one form.
var encoding = base64.RawURLEncoding.Strict()

// signer is a key of HMAC-SHA256 (RFC 2104), as the blocks that the inner and
// the outer hash begin with. crypto/hmac holds the state of one computation,
// so it would have to be made, or guarded, for each.
type signer struct{ inner, outer [blockSize]byte }

func newSigner(key Key, pool string) (signer, error) {
	k, err := hkdf.Key(sha256.New, key[:], nil, "pharos sticky signed 1 "+pool, digestSize)
	if err != nil {
		return signer{}, err
	}
	var s signer
	copy(s.inner[:], k)
	copy(s.outer[:], k)
	for i := range blockSize {
		s.inner[i] ^= 0x36
		s.outer[i] ^= 0x5c
	}
	return s, nil
}

// mac is the MAC of the message, which stands at s.message[blockSize:].
func (k *signer) mac(s *Scratch, length int) [macSize]byte {
	copy(s.message[:], k.inner[:])
	inner := sha256.Sum256(s.message[:blockSize+length])
	copy(s.digest[:], k.outer[:])
	copy(s.digest[blockSize:], inner[:])
	outer := sha256.Sum256(s.digest[:])
	return [macSize]byte(outer[:])
}

// message puts a value without its MAC where mac expects it.
func message(s *Scratch, head, name []byte) (length int) {
	m := s.message[blockSize:]
	return copy(m, head) + copy(m[len(head):], name)
}

func readSigned(keys []signer, value []byte, s *Scratch) (c content, key int, v Verdict) {
	if len(value) <= signedName {
		return c, 0, Malformed
	}
	first, ok1 := readDate(value[1:])
	last, ok2 := readDate(value[1+dateSize:])
	text := value[signedName:]
	name, ok3 := readName(&s.name, text)
	n, err := encoding.Decode(s.bytes[:], value[signedMAC:signedName])
	// The decoder skips line breaks, so the length tells too.
	if !ok1 || !ok2 || !ok3 || err != nil || n != macSize {
		return c, 0, Malformed
	}
	length := message(s, value[:signedMAC], text)
	for i := range keys {
		if m := keys[i].mac(s, length); subtle.ConstantTimeCompare(m[:], s.bytes[:macSize]) == 1 {
			return content{first: first, last: last, server: name}, i, Valid
		}
	}
	return c, 0, Forged
}

func (k *signer) append(dst []byte, s *Scratch, server string, first, last int64) []byte {
	begin := len(dst)
	dst = append(dst, signedVersion)
	dst = appendDate(dst, first)
	dst = appendDate(dst, last)
	head := dst[begin:]
	name := appendName(s.bytes[:0], server)
	m := k.mac(s, message(s, head, name))
	dst = encoding.AppendEncode(dst, m[:])
	return append(dst, name...)
}

const base64url = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// maxDate is the latest date, in the year 4147.
const maxDate = 1<<(6*dateSize) - 1

// appendDate appends a date, most significant digit first.
func appendDate(dst []byte, date int64) []byte {
	date = min(max(date, 0), maxDate)
	for shift := 6 * (dateSize - 1); shift >= 0; shift -= 6 {
		dst = append(dst, base64url[date>>shift&63])
	}
	return dst
}

func readDate(text []byte) (date int64, ok bool) {
	for _, c := range text[:dateSize] {
		digit := digits[c]
		if digit < 0 {
			return 0, false
		}
		date = date<<6 | int64(digit)
	}
	return date, true
}

// digits is the value of a base64url digit, -1 for other bytes.
var digits = func() (t [256]int8) {
	for i := range t {
		t[i] = -1
	}
	for i := range len(base64url) {
		t[base64url[i]] = int8(i)
	}
	return t
}()
