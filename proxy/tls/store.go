package tls

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pharos-lb/pharos/proxy/policy"
)

// Store holds the certificates and ticket keys of a node. What it holds is an
// immutable snapshot: Load and SetTicketKeys swap in the next one, which new
// handshakes use; connections that stand are not touched. It is safe for
// concurrent use, and nothing that a handshake calls takes a lock of its.
type Store struct {
	now      func() time.Time
	mu       sync.Mutex // one writer at a time
	snapshot atomic.Pointer[snapshot]
}

type snapshot struct {
	entries map[string]*entry // by the certificates' names
	tickets *tickets          // nil: no session is resumed
}

// NewStore returns an empty store. now tells the time, for expiry; nil means
// time.Now.
func NewStore(now func() time.Time) *Store {
	if now == nil {
		now = time.Now
	}
	s := &Store{now: now}
	s.snapshot.Store(&snapshot{entries: map[string]*entry{}})
	return s
}

// Load replaces all certificates. Faults are told all at once, each as a
// *policy.Fault with a path such as certificates[2].key, and nothing is changed then.
// Warnings come in the order of the certificates.
//
// A listener goes on to serve a certificate that Load takes away, until a
// configuration without it is made with Server: so it does not matter whether
// certificates or listeners are changed first.
func (s *Store) Load(certificates []Certificate) ([]Warning, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	old := s.snapshot.Load()
	next := &snapshot{entries: make(map[string]*entry, len(certificates)), tickets: old.tickets}
	var f policy.Faults
	var warnings []Warning
	for i, c := range certificates {
		at := fmt.Sprintf("certificates[%d]", i)
		if next.entries[c.Name] != nil {
			f.Add(at+".name", "%q is used by another certificate", c.Name)
			continue
		}
		e := old.entries[c.Name]
		if e == nil || e.sum != c.sum() {
			var err error
			if e, err = parse(c); err != nil {
				within(&f, at, c.Name, err)
				continue
			}
		}
		e, reasons := e.stapling(c.OCSP, now)
		next.entries[c.Name] = e
		for _, reason := range slices.Concat(e.warnings, reasons, e.due(now)) {
			warnings = append(warnings, Warning{Certificate: c.Name, Reason: reason})
		}
	}
	if err := f.Err(); err != nil {
		return nil, err
	}
	s.snapshot.Store(next)
	return warnings, nil
}

// within adds the faults of one certificate under its path, and names it: in a
// long list, an index alone says little.
func within(f *policy.Faults, at, name string, err error) {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		f.Add(at, "%v (certificate %q)", err, name)
		return
	}
	for _, err := range joined.Unwrap() {
		if fault, ok := err.(*policy.Fault); ok {
			f.Add(at+"."+fault.Field, "%s (certificate %q)", fault.Reason, name)
		}
	}
}

// SetTicketKeys replaces the keys of session tickets. The one that encrypts
// makes tickets, all of them decrypt. Without keys, sessions are not resumed.
// The error joins *policy.Fault; nothing is changed then.
func (s *Store) SetTicketKeys(keys []TicketKey) error {
	if err := ValidateTicketKeys(keys); err != nil {
		return err
	}
	t, err := newTickets(keys, s.now)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.snapshot.Store(&snapshot{entries: s.snapshot.Load().entries, tickets: t})
	return nil
}

// Expiry is a certificate that ends soon, or has ended.
type Expiry struct {
	Certificate string    // its name in the configuration
	Names       []string  // the server names it is served for
	NotAfter    time.Time // the earliest end in its chain
}

// Expiring are the certificates that end within ExpiryWarning of now, or have
// ended, the first to end first.
func (s *Store) Expiring(now time.Time) []Expiry {
	var list []Expiry
	for _, e := range s.snapshot.Load().entries {
		if e.notAfter.Sub(now) <= ExpiryWarning {
			list = append(list, Expiry{Certificate: e.name, Names: slices.Clone(e.names), NotAfter: e.notAfter})
		}
	}
	slices.SortFunc(list, func(a, b Expiry) int {
		if c := a.NotAfter.Compare(b.NotAfter); c != 0 {
			return c
		}
		if a.Certificate < b.Certificate {
			return -1
		}
		return 1
	})
	return list
}
