package tls

import (
	"cmp"
	"crypto/tls"
	"errors"
	"slices"
	"strings"
	"time"
)

// names finds the certificates of one listener by server name. It is
// immutable.
type names struct {
	exact map[string][]*entry // by name
	// wildcard is by what follows the first label: one label is all that an
	// asterisk stands for (RFC 9525 section 6.3).
	wildcard map[string][]*entry
	fallback []*entry
}

// newNames lays out the entries, at least one, in the order of the listener's
// configuration. In each list, the preferred ones come first: the lower rank,
// then the one listed first. A list may hold several certificates for one
// name, since clients differ in what they support.
func newNames(entries []*entry) *names {
	n := &names{exact: make(map[string][]*entry), wildcard: make(map[string][]*entry)}
	for _, e := range entries {
		for _, name := range e.names {
			if domain, ok := strings.CutPrefix(name, "*."); ok {
				n.wildcard[domain] = append(n.wildcard[domain], e)
			} else {
				n.exact[name] = append(n.exact[name], e)
			}
		}
	}
	for _, list := range n.wildcard {
		byRank(list)
	}
	for name, list := range n.exact {
		byRank(list)
		// A client that supports none of the exact ones may do with a
		// wildcard's.
		_, domain, _ := strings.Cut(name, ".")
		for _, e := range n.wildcard[domain] {
			if !slices.Contains(list, e) {
				list = append(list, e)
			}
		}
		n.exact[name] = list
	}
	// The default is the first one listed, together with those of another kind
	// for the same name.
	first := entries[0]
	n.fallback = []*entry{first}
	if len(first.names) > 0 {
		name := first.names[0]
		list := n.exact[name]
		if domain, ok := strings.CutPrefix(name, "*."); ok {
			list = n.wildcard[domain]
		}
		for _, e := range list {
			if e.rank != first.rank {
				n.fallback = append(n.fallback, e)
			}
		}
		byRank(n.fallback)
	}
	return n
}

func byRank(list []*entry) {
	slices.SortStableFunc(list, func(a, b *entry) int { return cmp.Compare(a.rank, b.rank) })
}

// lookup returns the certificates for a server name, in any case; those of the
// default for one that no certificate is for.
func (n *names) lookup(server string) []*entry {
	server = strings.ToLower(server)
	if list := n.exact[server]; list != nil {
		return list
	}
	if label, domain, ok := strings.Cut(server, "."); ok && label != "" {
		if list := n.wildcard[domain]; list != nil {
			return list
		}
	}
	return n.fallback
}

var errNoCertificate = errors.New("no certificate for this client")

// choose returns the first certificate for the client's server name that the
// client supports.
func (n *names) choose(hello *tls.ClientHelloInfo, now time.Time) (*tls.Certificate, error) {
	list := n.lookup(hello.ServerName)
	if len(list) == 0 {
		return nil, errNoCertificate
	}
	if len(list) > 1 {
		// The name was matched: what remains is algorithms.
		nameless := *hello
		nameless.ServerName = ""
		for _, e := range list {
			if nameless.SupportsCertificate(&e.plain) == nil {
				return e.at(now), nil
			}
		}
	}
	// The handshake will fail with the right alert if this one will not do.
	return list[len(list)-1].at(now), nil
}
