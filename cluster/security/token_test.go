package security

import (
	"crypto/sha256"
	"errors"
	"strings"
	"testing"
)

func newToken(t testing.TB) Token {
	t.Helper()
	token, err := NewToken(sha256.Sum256([]byte("a CA")))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestTokenRoundTrip(t *testing.T) {
	token := newToken(t)
	for name, text := range map[string]string{
		"as printed":   token.Text(),
		"upper case":   strings.ToUpper(token.Text()),
		"white space":  " \t" + token.Text() + "\r\n",
		"second print": newTokenFrom(t, token.Text()).Text(),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseToken(text)
			if err != nil {
				t.Fatal(err)
			}
			if got != token {
				t.Errorf("got another token back from %s", name)
			}
		})
	}
}

func newTokenFrom(t *testing.T, text string) Token {
	t.Helper()
	token, err := ParseToken(text)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestTokenMistyped(t *testing.T) {
	token := newToken(t)
	text := token.Text()
	cases := map[string]string{
		"empty":           "",
		"prefix alone":    tokenPrefix,
		"no prefix":       text[len(tokenPrefix):],
		"last one lost":   text[:len(text)-1],
		"first one lost":  tokenPrefix + text[len(tokenPrefix)+1:],
		"one too many":    text + "a",
		"not base32":      text[:len(text)-1] + "1",
		"inner new line":  text[:40] + "\n" + text[40:],
		"two swapped":     swapped(text),
		"very long":       tokenPrefix + strings.Repeat("a", 1<<20),
		"another version": otherVersion(token),
	}
	for i := len(tokenPrefix); i < len(text); i++ {
		other := byte('a')
		if text[i] == 'a' {
			other = 'b'
		}
		cases["character "+text[:i]] = text[:i] + string(other) + text[i+1:]
	}
	for name, text := range cases {
		if _, err := ParseToken(text); !errors.Is(err, ErrToken) {
			t.Errorf("%s: got error %v, want ErrToken", name, err)
		}
	}
}

// swapped exchanges the first two neighbouring characters that differ.
func swapped(text string) string {
	b := []byte(text)
	for i := len(tokenPrefix); ; i++ {
		if b[i] != b[i+1] {
			b[i], b[i+1] = b[i+1], b[i]
			return string(b)
		}
	}
}

func otherVersion(token Token) string {
	raw := []byte{tokenVersion + 1}
	raw = append(raw, token.id[:]...)
	raw = append(raw, token.secret[:]...)
	raw = append(raw, token.fingerprint[:]...)
	sum := sha256.Sum256(raw)
	return tokenPrefix + strings.ToLower(tokenEncoding().EncodeToString(append(raw, sum[:sumBytes]...)))
}

func TestTokenErrorsAndStringKeepTheSecret(t *testing.T) {
	token := newToken(t)
	text := token.Text()
	_, err := ParseToken(text + "a")
	if err == nil || strings.Contains(err.Error(), text[20:40]) {
		t.Errorf("the error %q shows the token", err)
	}
	if got := token.String(); got != "token "+token.ID() {
		t.Errorf("String() = %q", got)
	}
	if sum := sha256.Sum256(token.secret[:]); string(token.Hash()) != string(sum[:]) {
		t.Error("Hash is not the SHA-256 of the secret")
	}
}

func FuzzParseToken(f *testing.F) {
	token := newToken(f)
	f.Add(token.Text())
	f.Add(otherVersion(token))
	f.Add("pharos-")
	f.Add("pharos-aeaq")
	f.Fuzz(func(t *testing.T, text string) {
		token, err := ParseToken(text)
		if err != nil {
			if !errors.Is(err, ErrToken) {
				t.Fatalf("error %v is not ErrToken", err)
			}
			return
		}
		if got := token.Text(); got != strings.ToLower(strings.TrimSpace(text)) {
			t.Fatalf("%q was read as %q", text, got)
		}
	})
}
