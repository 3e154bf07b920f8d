package tls

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"strings"
	"time"
)

// TicketLifetime is how long a session can be resumed by one ticket. Clients
// are told 7 days, which crypto/tls does not let us change; later than this
// they get a full handshake. In TLS 1.2, where resuming gives a new ticket for
// the same secret, crypto/tls ends that after 7 days.
const TicketLifetime = 24 * time.Hour

// tickets encrypts and decrypts session tickets, with keys that all nodes
// share.
//
// It is WrapSession and UnwrapSession rather than SetSessionTicketKeys: so a
// ticket is bound to the policy and the server name that its session was made
// under, ends after a time of our choice, and names its key instead of being
// tried with each; and new keys take effect by one swap of a pointer, not by a
// call for each listener.
//
// A ticket is
//
//	name of the key (8) | random (24) | AES-256-GCM of (time (8) | session)
//
// where half of the random bytes make a key for this ticket alone (HMAC), and
// half are the nonce: random nonces of 96 bits under one key would bound the
// number of tickets to some 2^32 (NIST SP 800-38D, section 8.3).
type tickets struct {
	encrypt *ticketKey
	all     []*ticketKey
	now     func() time.Time
}

type ticketKey struct {
	name [nameSize]byte
	key  []byte
}

const (
	nameSize   = 8
	saltSize   = 12
	nonceSize  = 12
	headerSize = nameSize + saltSize + nonceSize
	timeSize   = 8
)

// newTickets returns nil for no keys.
func newTickets(keys []TicketKey, now func() time.Time) (*tickets, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	t := &tickets{now: now}
	for _, k := range keys {
		own := &ticketKey{}
		name, err := hkdf.Expand(sha256.New, k.Key[:], "pharos session ticket: name", nameSize)
		if err != nil {
			return nil, fmt.Errorf("derive from ticket key %s: %w", k.ID, err)
		}
		copy(own.name[:], name)
		if own.key, err = hkdf.Expand(sha256.New, k.Key[:], "pharos session ticket: key", sha256.Size); err != nil {
			return nil, fmt.Errorf("derive from ticket key %s: %w", k.ID, err)
		}
		t.all = append(t.all, own)
		if k.Encrypt {
			t.encrypt = own
		}
	}
	return t, nil
}

// session returns the functions that crypto/tls calls, for tickets of one
// policy.
func (t *tickets) session(policy [sha256.Size]byte) (
	wrap func(tls.ConnectionState, *tls.SessionState) ([]byte, error),
	unwrap func([]byte, tls.ConnectionState) (*tls.SessionState, error),
) {
	wrap = func(cs tls.ConnectionState, ss *tls.SessionState) ([]byte, error) {
		state, err := ss.Bytes()
		if err != nil {
			return nil, fmt.Errorf("encode session: %w", err)
		}
		return t.seal(state, bound(policy, cs.ServerName))
	}
	unwrap = func(ticket []byte, cs tls.ConnectionState) (*tls.SessionState, error) {
		state := t.open(ticket, bound(policy, cs.ServerName))
		if state == nil {
			return nil, nil // a full handshake follows
		}
		ss, err := tls.ParseSessionState(state)
		if err != nil {
			return nil, nil // of another version of Go, say
		}
		return ss, nil
	}
	return wrap, unwrap
}

// bound is what a ticket is bound to. RFC 6066 section 3 forbids to resume a
// session under another server name.
func bound(policy [sha256.Size]byte, server string) []byte {
	return append(policy[:], strings.ToLower(server)...)
}

func (t *tickets) seal(state, binding []byte) ([]byte, error) {
	ticket := make([]byte, headerSize, headerSize+timeSize+len(state)+16)
	copy(ticket, t.encrypt.name[:])
	_, _ = rand.Read(ticket[nameSize:]) // never fails
	aead, err := t.encrypt.aead(ticket)
	if err != nil {
		return nil, err
	}
	plain := binary.BigEndian.AppendUint64(make([]byte, 0, timeSize+len(state)), uint64(t.now().Unix()))
	plain = append(plain, state...)
	return aead.Seal(ticket, ticket[nameSize+saltSize:headerSize], plain, binding), nil
}

// ticketSkew is how far ahead the clock of a node that made a ticket may be.
const ticketSkew = 5 * time.Minute

// open returns nil for a ticket that is not ours, is bound to something else,
// or is too old.
func (t *tickets) open(ticket, binding []byte) []byte {
	if len(ticket) < headerSize {
		return nil
	}
	for _, k := range t.all {
		if !bytes.Equal(k.name[:], ticket[:nameSize]) {
			continue
		}
		aead, err := k.aead(ticket)
		if err != nil {
			return nil
		}
		plain, err := aead.Open(nil, ticket[nameSize+saltSize:headerSize], ticket[headerSize:], binding)
		if err != nil || len(plain) < timeSize {
			return nil
		}
		age := t.now().Sub(time.Unix(int64(binary.BigEndian.Uint64(plain)), 0))
		if age > TicketLifetime || age < -ticketSkew {
			return nil
		}
		return plain[timeSize:]
	}
	return nil
}

// aead is the cipher of one ticket, of which the header is given.
func (k *ticketKey) aead(header []byte) (cipher.AEAD, error) {
	mac := hmac.New(sha256.New, k.key)
	mac.Write(header[nameSize : nameSize+saltSize])
	block, err := aes.NewCipher(mac.Sum(nil))
	if err != nil {
		return nil, fmt.Errorf("make cipher of ticket: %w", err)
	}
	return cipher.NewGCM(block)
}
