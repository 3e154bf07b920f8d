package node

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/pharos-lb/pharos/cluster/fsm"
	"github.com/pharos-lb/pharos/proxy/policy/sticky"
	"github.com/pharos-lb/pharos/proxy/tls"
)

// Cookie keys change every cookieRotation. A new one only reads for
// cookieNotice, until every node has it (see sticky.New), and then makes the
// cookies; cookieKept more that made them before are still read, so that a
// cookie is good for 60 to 90 days after it was made.
const (
	cookieRotation = 30 * 24 * time.Hour
	cookieNotice   = time.Hour
	cookieKept     = 2
)

// keyPurpose is what a shared key is sealed for.
func keyPurpose(kind fsm.KeyKind, id string) string { return string(kind) + " key " + id }

// openKeys gives the shared keys of one kind in clear, the oldest first.
func openKeys(d fsm.Desired, kind fsm.KeyKind, s secrets) ([][32]byte, error) {
	var all [][32]byte
	for _, k := range d.Keys[kind].Keys {
		plain, err := s.OpenSecret(keyPurpose(kind, k.ID), k.Sealed)
		if err != nil {
			return nil, fmt.Errorf("open the %s key %s: %w", kind, k.ID, err)
		}
		if len(plain) != 32 {
			return nil, fmt.Errorf("the %s key %s has %d bytes, not 32", kind, k.ID, len(plain))
		}
		all = append(all, [32]byte([]byte(plain)))
	}
	return all, nil
}

// ticketRecords are the TLS ticket keys with their history, the oldest first.
func ticketRecords(d fsm.Desired, s secrets) ([]tls.TicketKeyRecord, error) {
	keys, err := openKeys(d, fsm.TicketKeys, s)
	if err != nil {
		return nil, err
	}
	var records []tls.TicketKeyRecord
	for i, k := range d.Keys[fsm.TicketKeys].Keys {
		records = append(records, tls.TicketKeyRecord{
			TicketKey: tls.TicketKey{ID: k.ID, Key: keys[i], Encrypt: k.Makes}, Created: k.Created, Retired: k.Retired,
		})
	}
	return records, nil
}

// ticketKeys are the TLS ticket keys for the proxy.
func ticketKeys(d fsm.Desired, s secrets) ([]tls.TicketKey, error) {
	records, err := ticketRecords(d, s)
	return tls.TicketKeys(records), err
}

// cookieKeys are the persistence cookies' keys for the proxy: the one that makes
// them first, then the others, the youngest first.
func cookieKeys(d fsm.Desired, s secrets) ([]sticky.Key, error) {
	keys, err := openKeys(d, fsm.CookieKeys, s)
	if err != nil {
		return nil, err
	}
	var makes, reads []sticky.Key
	for i, k := range d.Keys[fsm.CookieKeys].Keys {
		if k.Makes {
			makes = append(makes, keys[i])
		} else {
			reads = append(reads, keys[i])
		}
	}
	slices.Reverse(reads)
	return append(makes, reads...), nil
}

// sealer is what makes of a new key what is kept of it. It is
// *security.Identity.
type sealer interface {
	secrets
	SealSecret(purpose, plain string) string
}

// nextTicketKeys are the ticket keys after a rotation, with a new one that is
// random; nil if none is due.
func nextTicketKeys(d fsm.Desired, s sealer, now time.Time) ([]fsm.Key, error) {
	records, err := ticketRecords(d, s)
	if err != nil {
		return nil, err
	}
	if !tls.RotationDue(records, now) {
		return nil, nil
	}
	id, key := newKey()
	var next []fsm.Key
	for _, r := range tls.Rotate(records, id, key, now) {
		next = append(next, fsm.Key{
			ID: r.ID, Sealed: s.SealSecret(keyPurpose(fsm.TicketKeys, r.ID), string(r.Key[:])),
			Makes: r.Encrypt, Created: r.Created, Retired: r.Retired,
		})
	}
	return next, nil
}

// nextCookieKeys are the cookie keys after the next step of a rotation; nil if
// none is due.
func nextCookieKeys(d fsm.Desired, s sealer, now time.Time) []fsm.Key {
	keys := slices.Clone(d.Keys[fsm.CookieKeys].Keys)
	last := len(keys) - 1
	switch {
	case last < 0: // no node has another: it makes at once
		return []fsm.Key{newCookieKey(s, now, true)}
	case !keys[last].Makes:
		if since := now.Sub(keys[last].Created); since < cookieNotice && since > -cookieNotice {
			return nil
		}
		for i := range keys[:last] {
			if keys[i].Makes {
				keys[i].Makes, keys[i].Retired = false, now
			}
		}
		keys[last].Makes = true
		return keys[max(0, last-cookieKept):]
	// One from the future came by a clock that was wrong: don't wait for it.
	case now.Sub(keys[last].Created).Abs() >= cookieRotation:
		return append(keys, newCookieKey(s, now, false))
	}
	return nil
}

func newCookieKey(s sealer, now time.Time, makes bool) fsm.Key {
	id, key := newKey()
	return fsm.Key{ID: id, Sealed: s.SealSecret(keyPurpose(fsm.CookieKeys, id), string(key[:])), Makes: makes, Created: now}
}

func newKey() (id string, key [32]byte) {
	var name [8]byte
	_, _ = rand.Read(name[:]) // never fails
	_, _ = rand.Read(key[:])
	return hex.EncodeToString(name[:]), key
}
