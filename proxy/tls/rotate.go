package tls

import "time"

// TicketKeyRecord is a ticket key and its history, as the cluster keeps it.
type TicketKeyRecord struct {
	TicketKey
	Created time.Time // when it came
	Retired time.Time // when another began to encrypt in its place; zero: none has
}

// RotationPeriod is how often a ticket key comes, and for how long each one
// encrypts.
const RotationPeriod = 12 * time.Hour

// maxTicketKeys bounds the keys that are kept. With clocks that are right,
// there are at most 4.
const maxTicketKeys = 8

// RotationDue reports whether it is time for the next key.
func RotationDue(keys []TicketKeyRecord, now time.Time) bool {
	if len(keys) == 0 {
		return true
	}
	age := now.Sub(keys[len(keys)-1].Created)
	// One that came from the future was made by a node whose clock was wrong:
	// don't wait until that future comes.
	return age >= RotationPeriod || age < -RotationPeriod
}

// Rotate returns the next version of the ticket keys, the oldest first, when
// one is due, and otherwise the same ones: so it does no harm if two nodes ask
// for it. It is pure: now and the new key are the command's.
//
// The new key only decrypts. The one that came before it, which every node has
// by now, encrypts from here on. Keys that encrypted before are kept until the
// tickets made with them have ended. Therefore a ticket made with the keys of
// one version decrypts with those of the version before and of the version
// after: nodes may be one step apart. The very first key encrypts at once.
//
// To give up all tickets, after a key was stolen, begin anew with no keys.
func Rotate(keys []TicketKeyRecord, id string, key [32]byte, now time.Time) []TicketKeyRecord {
	if !RotationDue(keys, now) {
		return keys
	}
	for _, k := range keys {
		if k.ID == id || k.Key == key {
			return keys
		}
	}
	fresh := TicketKeyRecord{TicketKey: TicketKey{ID: id, Key: key, Encrypt: len(keys) == 0}, Created: now}
	if len(keys) == 0 {
		return []TicketKeyRecord{fresh}
	}
	// The youngest encrypts next. After the first rotation, the youngest is
	// the one that does already.
	last := len(keys) - 1
	next := make([]TicketKeyRecord, 0, len(keys)+1)
	for i, k := range keys {
		switch {
		case i == last:
			k.Encrypt = true
		case k.Encrypt:
			k.Encrypt = false
			k.Retired = now
		case now.Sub(k.Retired) >= TicketLifetime:
			continue
		}
		next = append(next, k)
	}
	next = append(next, fresh)
	if n := len(next) - maxTicketKeys; n > 0 {
		next = next[n:]
	}
	return next
}

// TicketKeys are the keys for [Store.SetTicketKeys].
func TicketKeys(records []TicketKeyRecord) []TicketKey {
	keys := make([]TicketKey, 0, len(records))
	for _, r := range records {
		keys = append(keys, r.TicketKey)
	}
	return keys
}
