package node

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/pharos-lb/pharos/proxy/l7/engine/choice"
)

// Config is the node file, DIR/pharos.yaml: what is this node's own and not
// the cluster's.
type Config struct {
	// Name is the node's, unique in the cluster: 1 to 63 of a-z, 0-9 and '-'.
	Name string `yaml:"name"`
	// Address is where the other nodes reach its control port, host:port.
	Address string `yaml:"address"`
	// Gossip is where they reach its heartbeats (UDP and TCP), host:port.
	// Default: Address's host, port 7946.
	Gossip string `yaml:"gossip,omitempty"`
	// Addresses are the node's own, towards the routers: BGP next hops, and the
	// first IPv4 one is the router ID. Default: Address's host.
	Addresses []netip.Addr `yaml:"addresses,omitempty"`
	// Peers are control addresses of other members, to be found before the
	// cluster's state is known. `pharos join` writes them.
	Peers []string `yaml:"peers,omitempty"`
	// DrainTimeout is how long a stopping node lets what is in flight finish,
	// 0 to 1h. Default 10s.
	DrainTimeout time.Duration `yaml:"drain_timeout,omitempty"`
	// UpgradeTimeout is how long, after an upgrade, the old process lets the
	// connections that it has accepted end by themselves, 0 to 168h. Default 1h.
	UpgradeTimeout time.Duration `yaml:"upgrade_timeout,omitempty"`
	// AccessLog is the file that takes a line of JSON for each request, as an
	// absolute path or below DIR; "off" keeps none. Default access.log. It is
	// opened anew when it was moved away.
	AccessLog string `yaml:"access_log,omitempty"`
	// Engine moves the bytes: "epoll", "io_uring", or "auto", which is io_uring
	// where the kernel allows it. Default epoll, which runs everywhere and costs
	// about the same.
	Engine string `yaml:"engine,omitempty"`
	// Metrics is where Prometheus scrapes the node, host:port, over plain HTTP;
	// "off" keeps it to itself. Default: Address's host, port 9090.
	Metrics string `yaml:"metrics,omitempty"`
}

// Default ports (DESIGN.md, "Ports").
const (
	DefaultControlPort = 7443
	DefaultGossipPort  = 7946
	DefaultMetricsPort = 9090
)

const (
	defaultDrainTimeout = 10 * time.Second
	maxDrainTimeout     = time.Hour

	defaultUpgradeTimeout = time.Hour
	maxUpgradeTimeout     = 7 * 24 * time.Hour

	configFile       = "pharos.yaml"
	defaultAccessLog = "access.log"
	switchedOff      = "off" // an access log, or metrics
)

var nodeName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// ErrNoConfig says that a directory holds no node.
var ErrNoConfig = errors.New("no node here")

// WithDefaults returns c with what is absent filled in.
func (c Config) WithDefaults() Config {
	if c.Address != "" {
		if _, _, err := net.SplitHostPort(c.Address); err != nil {
			c.Address = net.JoinHostPort(unbracket(c.Address), strconv.Itoa(DefaultControlPort))
		}
	}
	host, _, _ := net.SplitHostPort(c.Address)
	if c.Gossip == "" && host != "" {
		c.Gossip = net.JoinHostPort(host, strconv.Itoa(DefaultGossipPort))
	}
	if c.Metrics == "" && host != "" {
		c.Metrics = net.JoinHostPort(host, strconv.Itoa(DefaultMetricsPort))
	}
	if len(c.Addresses) == 0 {
		if a, err := netip.ParseAddr(host); err == nil {
			c.Addresses = []netip.Addr{a}
		}
	}
	if c.DrainTimeout == 0 {
		c.DrainTimeout = defaultDrainTimeout
	}
	if c.UpgradeTimeout == 0 {
		c.UpgradeTimeout = defaultUpgradeTimeout
	}
	if c.AccessLog == "" {
		c.AccessLog = defaultAccessLog
	}
	return c
}

func unbracket(host string) string {
	if len(host) > 2 && host[0] == '[' && host[len(host)-1] == ']' {
		return host[1 : len(host)-1]
	}
	return host
}

// Validate reports every fault at once, each with the field's path.
func (c Config) Validate() error {
	var errs []error
	if !nodeName.MatchString(c.Name) {
		errs = append(errs, fmt.Errorf("name: %q: must be 1 to 63 of a-z, 0-9 and '-', not starting or ending with '-'", c.Name))
	}
	for _, f := range []struct{ field, value string }{{"address", c.Address}, {"gossip", c.Gossip}} {
		if _, err := parseHostPort(f.value); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", f.field, err))
		}
	}
	if c.Metrics != switchedOff {
		if ap, err := netip.ParseAddrPort(c.Metrics); err != nil || ap.Port() == 0 {
			errs = append(errs, fmt.Errorf("metrics: %q: must be an IP address and a port, such as 127.0.0.1:%d, or %q", c.Metrics, DefaultMetricsPort, switchedOff))
		}
	}
	if !slices.Contains([]choice.Kind{"", choice.Auto, choice.Epoll, choice.IOUring}, choice.Kind(c.Engine)) {
		errs = append(errs, fmt.Errorf("engine: %q: must be %s, %s or %s", c.Engine, choice.Auto, choice.Epoll, choice.IOUring))
	}
	if len(c.Addresses) == 0 {
		errs = append(errs, errors.New("addresses: at least one address of this node is needed, to be the BGP next hop"))
	}
	for i, a := range c.Addresses {
		if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a.Zone() != "" {
			errs = append(errs, fmt.Errorf("addresses[%d]: %s: must be a unicast address of this node, without a zone", i, a))
		}
	}
	for i, p := range c.Peers {
		if _, err := parseHostPort(p); err != nil {
			errs = append(errs, fmt.Errorf("peers[%d]: %w", i, err))
		}
	}
	if c.DrainTimeout < 0 || c.DrainTimeout > maxDrainTimeout {
		errs = append(errs, fmt.Errorf("drain_timeout: %s: must be between 0s and %s", c.DrainTimeout, maxDrainTimeout))
	}
	if c.UpgradeTimeout < 0 || c.UpgradeTimeout > maxUpgradeTimeout {
		errs = append(errs, fmt.Errorf("upgrade_timeout: %s: must be between 0s and %s", c.UpgradeTimeout, maxUpgradeTimeout))
	}
	return errors.Join(errs...)
}

// parseHostPort takes an IP address and a port: names are refused, since a
// node must be able to start while no name can be looked up.
func parseHostPort(s string) (netip.AddrPort, error) {
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		return ap, fmt.Errorf("%q: must be an IP address and a port, such as 10.0.0.11:%d", s, DefaultControlPort)
	}
	if ap.Addr().IsUnspecified() || ap.Port() == 0 {
		return ap, fmt.Errorf("%q: must be an address that other nodes can reach, and a port above 0", s)
	}
	return ap, nil
}

// LoadConfig reads the node file of a data directory, strictly.
func LoadConfig(dir string) (Config, error) {
	path := filepath.Join(dir, configFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Config{}, fmt.Errorf("%w: %s does not exist: run `pharos init` for a new cluster or `pharos join` for an existing one, or name the directory with --dir", ErrNoConfig, path)
	}
	if err != nil {
		return Config{}, fmt.Errorf("read the node file: %w", err)
	}
	var c Config
	if err := yaml.NewDecoder(bytes.NewReader(b), yaml.Strict()).Decode(&c); err != nil {
		return Config{}, fmt.Errorf("%s: %s", path, yaml.FormatError(err, false, false))
	}
	c = c.WithDefaults()
	if err := c.Validate(); err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// WriteConfig writes a node file, and refuses to replace one.
func WriteConfig(dir string, c Config) error {
	c = c.WithDefaults()
	if err := c.Validate(); err != nil {
		return err
	}
	b, err := yaml.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode the node file: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, configFile), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("write the node file: %w", err)
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		_ = os.Remove(f.Name()) // a half-written one would stop the next attempt
		return fmt.Errorf("write the node file: %w", err)
	}
	return nil
}

// RemoveConfig takes away what WriteConfig made.
func RemoveConfig(dir string) error { return os.Remove(filepath.Join(dir, configFile)) }
