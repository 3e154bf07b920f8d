package security

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// ErrToken is wrapped by each error of ParseToken: the text is not a token, or
// was mistyped. A token that is well formed but not known, used or expired is
// another matter, which only the cluster can tell.
var ErrToken = errors.New("not a join token")

const (
	tokenPrefix  = "pharos-"
	tokenVersion = 1
	tokenIDBytes = 8
	secretBytes  = 16 // 128 bits
	sumBytes     = 4
	tokenBytes   = 1 + tokenIDBytes + secretBytes + sha256.Size + sumBytes
)

// Token is a one-time permission to join a cluster. Its text form is
// "pharos-" and base32 (RFC 4648 section 6, lower case, no padding) of: a
// version byte, the id, the secret, the CA's fingerprint, and the first 4 bytes
// of the SHA-256 of all that, which tells a mistyped token from an unknown one.
type Token struct {
	id          [tokenIDBytes]byte
	secret      [secretBytes]byte
	fingerprint Fingerprint
}

// NewToken makes a token at random, for the cluster with this CA.
func NewToken(ca Fingerprint) (Token, error) {
	t := Token{fingerprint: ca}
	if _, err := rand.Read(t.id[:]); err != nil {
		return Token{}, fmt.Errorf("make a join token: %w", err)
	}
	if _, err := rand.Read(t.secret[:]); err != nil {
		return Token{}, fmt.Errorf("make a join token: %w", err)
	}
	return t, nil
}

// ParseToken reads the text form. White space around it and the case of its
// letters do not matter. No error carries any part of the text.
func ParseToken(text string) (Token, error) {
	text = strings.TrimSpace(text)
	if len(text) > 4*tokenBytes {
		return Token{}, fmt.Errorf("%d characters are too many: %w: copy the whole token that \"pharos token create\" printed", len(text), ErrToken)
	}
	text = strings.ToLower(text)
	body, ok := strings.CutPrefix(text, tokenPrefix)
	if !ok {
		return Token{}, fmt.Errorf("it does not begin with %q: %w: copy the whole token that \"pharos token create\" printed", tokenPrefix, ErrToken)
	}
	raw, err := tokenEncoding().DecodeString(strings.ToUpper(body))
	if err != nil || len(raw) != tokenBytes || tokenEncoding().EncodeToString(raw) != strings.ToUpper(body) {
		return Token{}, fmt.Errorf("characters are missing, too many or wrong: %w: copy the whole token that \"pharos token create\" printed", ErrToken)
	}
	payload, sum := raw[:tokenBytes-sumBytes], raw[tokenBytes-sumBytes:]
	if want := sha256.Sum256(payload); !bytes.Equal(sum, want[:sumBytes]) {
		return Token{}, fmt.Errorf("its checksum is wrong, so a character was mistyped: %w: copy the whole token that \"pharos token create\" printed", ErrToken)
	}
	if payload[0] != tokenVersion {
		return Token{}, fmt.Errorf("its version is %d and this program knows %d: %w: use the version of pharos that the cluster runs", payload[0], tokenVersion, ErrToken)
	}
	var t Token
	rest := payload[1:]
	rest = rest[copy(t.id[:], rest):]
	rest = rest[copy(t.secret[:], rest):]
	copy(t.fingerprint[:], rest)
	return t, nil
}

// Text is the form that a user copies. It carries the secret: never log it.
func (t Token) Text() string {
	raw := make([]byte, 0, tokenBytes)
	raw = append(raw, tokenVersion)
	raw = append(raw, t.id[:]...)
	raw = append(raw, t.secret[:]...)
	raw = append(raw, t.fingerprint[:]...)
	sum := sha256.Sum256(raw)
	raw = append(raw, sum[:sumBytes]...)
	return tokenPrefix + strings.ToLower(tokenEncoding().EncodeToString(raw))
}

// String is safe to log: the id alone.
func (t Token) String() string { return "token " + t.ID() }

// ID names the token; it is no secret.
func (t Token) ID() string { return hex.EncodeToString(t.id[:]) }

// Hash is the SHA-256 of the secret, which the cluster stores in its place.
func (t Token) Hash() []byte {
	sum := sha256.Sum256(t.secret[:])
	return sum[:]
}

// Fingerprint is that of the cluster's CA.
func (t Token) Fingerprint() Fingerprint { return t.fingerprint }

func tokenEncoding() *base32.Encoding { return base32.StdEncoding.WithPadding(base32.NoPadding) }
