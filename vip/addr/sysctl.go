package addr

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// SysctlError is a kernel setting that is too low and cannot be raised.
type SysctlError struct {
	Key  string // such as net.ipv4.conf.all.arp_ignore
	Want int
	Err  error
}

func (e *SysctlError) Error() string {
	return fmt.Sprintf("kernel setting %s: %v: set it to %d outside (sysctl -w %s=%d)", e.Key, e.Err, e.Want, e.Key, e.Want)
}

// Unwrap returns the cause.
func (e *SysctlError) Unwrap() error { return e.Err }

// setting is one that Prepare raised, with the value before.
type setting struct {
	key    string
	before int
}

// Prepare sees to it that the kernel does not answer ARP for VIPs on a
// loopback interface, nor uses them as the source of its own requests:
// arp_ignore at least 1, arp_announce at least 2, for all interfaces and for
// the one with the VIPs. (The kernel takes the larger of "all" and the
// interface's own.) A value is only ever raised; one that is high enough may
// be read-only. It returns all *SysctlErrors together; the caller decides
// whether they are fatal: in BGP mode the VIP works without, but a neighbor on
// the same segment may learn it by ARP.
func (m *Manager) Prepare() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	for _, conf := range []string{"all", m.link} {
		for _, s := range []struct {
			name string
			want int
		}{{"arp_ignore", 1}, {"arp_announce", 2}} {
			key := strings.Join([]string{"net.ipv4.conf", conf, s.name}, ".")
			before, err := m.raise(key, s.want)
			if err != nil {
				errs = append(errs, &SysctlError{key, s.want, err})
			} else if before < s.want {
				m.changed = append(m.changed, setting{key, before})
				m.log.Info("kernel setting raised", "key", key, "before", before, "after", s.want)
			}
		}
	}
	return errors.Join(errs...)
}

// Restore puts back what Prepare raised, unless somebody has changed it since.
// It is for a planned stop, after RemoveAll. A crash leaves the values raised,
// on purpose: the VIPs are still there then, and must stay silent.
func (m *Manager) Restore() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	for _, s := range m.changed {
		want := 1
		if strings.HasSuffix(s.key, ".arp_announce") {
			want = 2
		}
		now, err := m.readSetting(s.key)
		if err == nil && now == want {
			err = m.writeSetting(s.key, s.before)
		}
		if err != nil {
			errs = append(errs, &SysctlError{s.key, s.before, err})
		}
	}
	m.changed = nil
	return errors.Join(errs...)
}

func (m *Manager) raise(key string, want int) (before int, err error) {
	before, err = m.readSetting(key)
	if err != nil || before >= want {
		return before, err
	}
	return before, m.writeSetting(key, want)
}

func (m *Manager) readSetting(key string) (int, error) {
	b, err := os.ReadFile(m.settingPath(key))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}

func (m *Manager) writeSetting(key string, value int) error {
	// No O_CREATE: a setting that the kernel lacks must be an error.
	f, err := os.OpenFile(m.settingPath(key), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(strconv.Itoa(value))
	return errors.Join(err, f.Close())
}

// settingPath turns the key's dots into a path. An interface's name may hold
// dots itself, and stands in the fourth place.
func (m *Manager) settingPath(key string) string {
	rest, name := "", ""
	if i := strings.LastIndexByte(key, '.'); i >= 0 {
		rest, name = key[:i], key[i+1:]
	}
	return filepath.Join(m.procSys, "net/ipv4/conf", strings.TrimPrefix(rest, "net.ipv4.conf."), name)
}
