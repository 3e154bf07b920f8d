package addr

import "net/netip"

// Raised is a kernel setting that Prepare raised, on its way from one process
// to the next: the last one puts it back.
type Raised struct {
	Key    string // such as net.ipv4.conf.all.arp_ignore
	Before int
}

// HandOver ends this Manager's part: it returns what the next process needs to
// know beside the record on disk. Neither this Manager nor its addresses may be
// changed by the process that called it any more.
func (m *Manager) HandOver() []Raised {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Raised
	for _, s := range m.changed {
		out = append(out, Raised{s.key, s.before})
	}
	return out
}

// Adopt takes over, from a process that goes on serving meanwhile, the addresses
// that its record names and the settings that it raised. It stands in the place
// of CleanUp, and removes nothing: the next Reconcile does, if something is not
// wanted any more. It returns the addresses.
func (m *Manager) Adopt(raised []Raised) ([]netip.Addr, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	left, err := m.record.read()
	if err != nil {
		return nil, err
	}
	for _, a := range left {
		m.ours[a] = true
	}
	m.changed = nil
	for _, r := range raised {
		m.changed = append(m.changed, setting{r.Key, r.Before})
	}
	return left, nil
}
