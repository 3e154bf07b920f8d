package secure

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

// direction is one direction of TLS 1.3's record layer (RFC 8446 section
// 5.2), with AES-128-GCM, to send what crypto/tls never would.
type direction struct {
	secret []byte
	seq    uint64
	iv     []byte
	aead   cipher.AEAD
}

func expandLabel(secret []byte, label string, size int) []byte {
	label = "tls13 " + label
	info := binary.BigEndian.AppendUint16(nil, uint16(size))
	info = append(info, byte(len(label)))
	info = append(info, label...)
	info = append(info, 0)
	return must(hkdf.Expand(sha256.New, secret, string(info), size))
}

func (d *direction) use(secret []byte) {
	d.secret, d.seq = secret, 0
	d.iv = expandLabel(secret, "iv", 12)
	d.aead = must(cipher.NewGCM(must(aes.NewCipher(expandLabel(secret, "key", 16)))))
}

// update takes the next secret (section 7.2).
func (d *direction) update() { d.use(expandLabel(d.secret, "traffic upd", sha256.Size)) }

func (d *direction) nonce() []byte {
	nonce := bytes.Clone(d.iv)
	for i := range 8 {
		nonce[4+i] ^= byte(d.seq >> (56 - 8*i))
	}
	d.seq++
	return nonce
}

func (d *direction) seal(kind byte, payload []byte) []byte {
	size := len(payload) + 1 + d.aead.Overhead()
	header := []byte{applicationData, 3, 3, byte(size >> 8), byte(size)}
	plain := append(bytes.Clone(payload), kind)
	return d.aead.Seal(header, d.nonce(), plain, header)
}

func (d *direction) open(record []byte) (kind byte, payload []byte, err error) {
	plain, err := d.aead.Open(nil, d.nonce(), record[headerSize:], record[:headerSize])
	if err != nil {
		return 0, nil, err
	}
	return plain[len(plain)-1], plain[:len(plain)-1], nil
}

// bare is an established client whose records the test makes.
type bare struct {
	e            *end
	toUs, toPeer direction
	read         int // of e.seen
}

// bareClient connects one, without tickets in the way.
func (r *rig) bareClient(onData func(*session, []byte)) (*bare, *session) {
	r.t.Helper()
	var keys strings.Builder
	config := clientConfig(tls.VersionTLS13)
	config.KeyLogWriter = &keys
	server := serverConfig()
	server.SessionTicketsDisabled = true
	c, s := r.connect(server, config, onData)
	if s.state.CipherSuite != tls.TLS_AES_128_GCM_SHA256 {
		r.t.Skip("needs AES in hardware: another cipher was chosen")
	}
	b := &bare{e: c.e, read: len(c.e.seen)}
	for line := range strings.Lines(keys.String()) {
		words := strings.Fields(line)
		switch words[0] {
		case "CLIENT_TRAFFIC_SECRET_0":
			b.toUs.use(must(hex.DecodeString(words[2])))
		case "SERVER_TRAFFIC_SECRET_0":
			b.toPeer.use(must(hex.DecodeString(words[2])))
		}
	}
	return b, s
}

func (b *bare) send(records ...[]byte) {
	for _, r := range records {
		_, _ = b.e.Write(r)
	}
}

// next is the next record that has come.
func (b *bare) next(t *testing.T) (kind byte, payload []byte) {
	t.Helper()
	rest := b.e.seen[b.read:]
	if len(rest) < headerSize || len(rest) < headerSize+bodySize(rest) {
		t.Fatalf("no record: %q", rest)
	}
	record := rest[:headerSize+bodySize(rest)]
	b.read += len(record)
	kind, payload, err := b.toPeer.open(record)
	if err != nil {
		t.Fatal(err)
	}
	return kind, payload
}

const handshakeRecord = 22

var (
	keyUpdate          = []byte{24, 0, 0, 1, 0}
	keyUpdateRequested = []byte{24, 0, 0, 1, 1}
)

func TestKeyUpdate(t *testing.T) {
	inBubble(t, Limits{}, func(r *rig) {
		b, s := r.bareClient(echo)
		b.send(b.toUs.seal(handshakeRecord, keyUpdate))
		b.toUs.update()
		b.send(b.toUs.seal(applicationData, []byte("one")))
		r.settle()
		if _, got := b.next(t); string(got) != "one" {
			t.Errorf("came back: %q", got)
		}
		for range 100 { // as often as one likes, if the answers are read
			b.send(b.toUs.seal(handshakeRecord, keyUpdateRequested))
			b.toUs.update()
			b.send(b.toUs.seal(applicationData, []byte("two")))
			r.settle()
			if kind, got := b.next(t); kind != handshakeRecord || !bytes.Equal(got, keyUpdate) {
				t.Fatalf("answer %d %x, want a key update", kind, got)
			}
			b.toPeer.update()
			if _, got := b.next(t); string(got) != "two" {
				t.Fatalf("came back: %q", got)
			}
		}
		s.c.Close()
	})
}

// Each requested key update makes us send one. A peer that does not read them
// must not fill our memory.
func TestKeyUpdatesOfAPeerThatDoesNotRead(t *testing.T) {
	inBubble(t, Limits{}, func(r *rig) {
		b, s := r.bareClient(nil)
		b.e.peer.Limit(0)
		most := 0
		for range 10000 {
			b.send(b.toUs.seal(handshakeRecord, keyUpdateRequested))
			b.toUs.update()
			b.send(b.toUs.seal(applicationData, []byte("x")))
			r.settle()
			most = max(most, b.e.peer.Unsent())
			if len(s.closed) > 0 {
				break
			}
		}
		if len(s.closed) != 1 || !errors.Is(s.closed[0], ErrFlood) || !b.e.peer.Reset {
			t.Errorf("closed with %v, reset %v", s.closed, b.e.peer.Reset)
		}
		if most > maxControl+1000 {
			t.Errorf("%d bytes were kept for it", most)
		}
	})
}

func TestControlMessagesThatEndTheConnection(t *testing.T) {
	tests := []struct {
		name string
		send func(b *bare)
	}{
		{"empty records without end", func(b *bare) {
			for range 20 {
				b.send(b.toUs.seal(applicationData, nil))
			}
		}},
		{"key updates without end", func(b *bare) {
			for range 20 {
				b.send(b.toUs.seal(handshakeRecord, keyUpdate))
				b.toUs.update()
			}
		}},
		{"another ClientHello", func(b *bare) { b.send(b.toUs.seal(handshakeRecord, []byte{1, 0, 0, 0})) }},
		{"a ticket from a client", func(b *bare) {
			b.send(b.toUs.seal(handshakeRecord, []byte{4, 0, 0, 14, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 9, 0, 0}))
		}},
		{"half a message, and data", func(b *bare) {
			b.send(b.toUs.seal(handshakeRecord, keyUpdate[:3]), b.toUs.seal(applicationData, []byte("x")))
		}},
		{"a record of an unknown type", func(b *bare) { b.send(b.toUs.seal(99, []byte("x"))) }},
		{"an oversize record", func(b *bare) { b.send(b.toUs.seal(applicationData, make([]byte, maxRecord+1))) }},
		{"an alert", func(b *bare) { b.send(b.toUs.seal(21, []byte{2, 10})) }},
		{"nothing but padding", func(b *bare) { b.send(b.toUs.seal(0, make([]byte, 10))) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, Limits{}, func(r *rig) {
				b, s := r.bareClient(nil)
				tt.send(b)
				r.settle()
				if len(s.closed) != 1 || s.eof != 0 || s.calls != 0 {
					t.Errorf("closed %v, EOF %d, %d calls of Data", s.closed, s.eof, s.calls)
				}
				if !b.e.peer.EOF {
					t.Error("the connection stands")
				}
			})
		})
	}
}

// A message of the handshake protocol in pieces, and records in pieces, are
// put together.
func TestControlMessagesInPieces(t *testing.T) {
	inBubble(t, Limits{}, func(r *rig) {
		b, s := r.bareClient(nil)
		b.e.chunk = 1
		b.send(b.toUs.seal(applicationData, []byte("a")), b.toUs.seal(handshakeRecord, keyUpdate[:2]))
		r.settle()
		b.send(b.toUs.seal(handshakeRecord, keyUpdate[2:]))
		b.toUs.update()
		b.send(b.toUs.seal(applicationData, []byte("b")), b.toUs.seal(21, []byte{1, 0}))
		r.settle()
		if s.got.String() != "ab" || s.eof != 1 || len(s.closed) > 0 {
			t.Errorf("got %q, EOF %d, closed %v", s.got.String(), s.eof, s.closed)
		}
	})
}
