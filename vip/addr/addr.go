// Package addr keeps VIPs on the loopback interface by netlink, and removes
// what a crash left there. It never removes an address that it did not add.
package addr

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"
)

// Config is what a Manager needs.
type Config struct {
	// Link is the interface that holds the VIPs. Empty: lo.
	Link string
	// StateFile is the path of the record of our addresses, on a disk that
	// survives the process. Its directory must exist. Required.
	StateFile string
	// ProcSys is the root of the kernel's settings. Empty: /proc/sys.
	ProcSys string
	// Logger takes what was added and removed; nil: nothing is logged.
	Logger *slog.Logger
}

// Manager owns the VIPs of one interface. All methods are safe for concurrent
// use. It acts in the network namespace of the thread that calls.
type Manager struct {
	link    string
	record  record
	procSys string
	log     *slog.Logger

	mu sync.Mutex
	// ours is what the record holds: every address that we have added, or were
	// about to add. It is written before an address is added and after one is
	// removed, so at any moment it covers all that is ours on the interface.
	ours    map[netip.Addr]bool
	wanted  map[netip.Addr]bool
	changed []setting // what Prepare changed, in order
}

// ErrForeign is an address that is on this machine already and not ours.
var ErrForeign = errors.New("address already in use")

// ForeignError tells where such an address is. It matches ErrForeign.
type ForeignError struct {
	Addr netip.Addr
	Link string
}

func (e *ForeignError) Error() string {
	return fmt.Sprintf("%v on %s: %s: remove it there, or choose another VIP", ErrForeign, e.Link, e.Addr)
}

// Unwrap makes a ForeignError an ErrForeign.
func (e *ForeignError) Unwrap() error { return ErrForeign }

// New returns a Manager that has touched nothing yet. Call CleanUp before the
// first Reconcile.
func New(c Config) *Manager {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	procSys := cmp.Or(c.ProcSys, "/proc/sys")
	return &Manager{
		link:    cmp.Or(c.Link, "lo"),
		record:  record{path: c.StateFile, procSys: procSys},
		procSys: procSys,
		log:     c.Logger,
		ours:    map[netip.Addr]bool{},
		wanted:  map[netip.Addr]bool{},
	}
}

// CleanUp removes what a crashed run left on the interface, by its record, and
// returns it. A record that cannot be read gives an error, and nothing is
// removed: guessing could take an address of somebody else.
func (m *Manager) CleanUp() (removed []netip.Addr, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	left, err := m.record.read()
	if err != nil {
		return nil, err
	}
	for _, a := range left {
		m.ours[a] = true
	}
	return m.reconcile(nil)
}

// Reconcile makes want the VIPs on the interface: it adds those that lack
// (/32 or /128; IPv6 without duplicate address detection, for every node has
// them), also those that somebody else removed, and removes ours that are not
// wanted any more. An address that is on this machine already and not ours
// is refused with a *ForeignError; the others are dealt with all the same, and
// all errors come together.
func (m *Manager) Reconcile(want []netip.Addr) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, err := m.reconcile(want)
	return err
}

// RemoveAll removes all our addresses, at the end of a planned stop. Addresses
// stay usable by established connections until then, so it comes last.
func (m *Manager) RemoveAll() error { return m.Reconcile(nil) }

// Missing returns the wanted addresses that are not on the interface, in
// order: somebody removed them, or Reconcile could not add them.
func (m *Manager) Missing() ([]netip.Addr, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	have, err := present()
	if err != nil {
		return nil, err
	}
	var missing []netip.Addr
	for a := range m.wanted {
		if !slices.Contains(have[a], m.link) {
			missing = append(missing, a)
		}
	}
	slices.SortFunc(missing, netip.Addr.Compare)
	return missing, nil
}

func (m *Manager) reconcile(want []netip.Addr) (removed []netip.Addr, err error) {
	link, err := netlink.LinkByName(m.link)
	if err != nil {
		return nil, fmt.Errorf("find the VIP interface %s: %w", m.link, err)
	}
	have, err := present()
	if err != nil {
		return nil, err
	}
	d := decide(m.link, have, want, m.ours)
	errs := d.refuse

	m.wanted = map[netip.Addr]bool{}
	for _, a := range want {
		m.wanted[a] = true
	}

	// Before the first is added, the record names all of them.
	for _, a := range d.add {
		m.ours[a] = true
	}
	if len(d.add) > 0 {
		if err := m.record.write(m.ours); err != nil {
			for _, a := range d.add {
				delete(m.ours, a)
			}
			// Without a record nothing is added; what goes still goes.
			errs = append(errs, err)
			d.add = nil
		}
	}
	for _, a := range d.remove {
		if err := netlink.AddrDel(link, hostAddr(a)); err != nil && !isNotThere(err) {
			errs = append(errs, fmt.Errorf("remove VIP %s from %s: %w", a, m.link, err))
			continue
		}
		delete(m.ours, a)
		removed = append(removed, a)
		m.log.Info("VIP removed", "address", a.String(), "link", m.link)
	}
	for _, a := range d.add {
		if err := netlink.AddrAdd(link, hostAddr(a)); err != nil {
			// Also if somebody else added it just now: then it is not ours.
			delete(m.ours, a)
			if errors.Is(err, fs.ErrExist) {
				err = &ForeignError{Addr: a, Link: m.link}
			}
			errs = append(errs, fmt.Errorf("add VIP %s to %s: %w", a, m.link, err))
			continue
		}
		m.log.Info("VIP added", "address", a.String(), "link", m.link)
	}
	for _, a := range d.forget {
		delete(m.ours, a)
	}
	// Also when nothing changed: a first run thus learns at once whether the
	// record can be kept.
	if err := m.record.write(m.ours); err != nil {
		errs = append(errs, err)
	}
	return removed, errors.Join(errs...)
}

// present lists the unicast addresses of this network namespace, each with the
// names of the interfaces that have it.
func present() (map[netip.Addr][]string, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	names := map[int]string{}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	list, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	have := map[netip.Addr][]string{}
	for _, a := range list {
		if addr, ok := netip.AddrFromSlice(a.IP); ok {
			have[addr.Unmap()] = append(have[addr.Unmap()], names[a.LinkIndex])
		}
	}
	return have, nil
}
