// Package fib reads what a Linux router says of its forwarding table: the
// output of "ip -j route show" and of "ip -ts -o monitor route" (iproute2), and
// follows the next hops of one prefix through it. It is pure: text in, sets of
// next hops with times out. Who runs ip, and where, is the drill's matter.
package fib

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ErrFormat is wrapped by every error about text that ip would not print.
var ErrFormat = errors.New("not iproute2 output")

// NextHop is one way out: a gateway, or a device alone. It is comparable.
type NextHop struct {
	Gateway netip.Addr // not valid for a route on the link itself
	Device  string
}

func (n NextHop) String() string {
	switch {
	case n.Gateway.IsValid() && n.Gateway.IsLinkLocalUnicast():
		return n.Gateway.String() + "%" + n.Device
	case n.Gateway.IsValid():
		return n.Gateway.String()
	}
	return n.Device
}

// Event is one line of ip monitor: a route that was put in place (whole: it
// replaces what stood under its prefix and metric) or taken away.
type Event struct {
	At      time.Time // when ip read it off the kernel, in the time zone that ip ran in
	Deleted bool
	Prefix  netip.Prefix
	Metric  int
	Table   string    // empty: main
	Type    string    // empty: unicast; blackhole, unreachable, prohibit, local, ...
	Hops    []NextHop // none for blackhole and the like
}

// routeTypes are the words that may stand before a prefix (ip-route(8)).
var routeTypes = []string{"unicast", "unreachable", "blackhole", "prohibit", "local", "broadcast", "throw", "nat", "anycast", "multicast"}

// stampFormat is that of "ip -ts": ISO 8601 with microseconds, no zone.
const stampFormat = "2006-01-02T15:04:05.999999"

// ParseMonitor reads one line of "ip -ts -o monitor route". zone is the one
// that ip ran in: the stamp does not name it. The error wraps ErrFormat.
func ParseMonitor(line string, zone *time.Location) (Event, error) {
	stamp, rest, ok := strings.Cut(strings.TrimSpace(line), "] ")
	if !ok || !strings.HasPrefix(stamp, "[") {
		return Event{}, fmt.Errorf("%w: no time stamp in %q", ErrFormat, line)
	}
	at, err := time.ParseInLocation(stampFormat, stamp[1:], zone)
	if err != nil {
		return Event{}, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	e := Event{At: at}
	// "ip monitor all" would label the lines.
	rest = strings.TrimPrefix(rest, "[ROUTE]")
	// -o writes a backslash for each line break.
	words := strings.Fields(strings.ReplaceAll(rest, `\`, " "))
	if len(words) > 0 && words[0] == "Deleted" {
		e.Deleted, words = true, words[1:]
	}
	if len(words) > 0 && slices.Contains(routeTypes, words[0]) {
		e.Type, words = words[0], words[1:]
		if e.Type == "unicast" {
			e.Type = ""
		}
	}
	if len(words) == 0 {
		return Event{}, fmt.Errorf("%w: no prefix in %q", ErrFormat, line)
	}
	v6 := strings.Contains(words[0], ":")
	if e.Prefix, err = parsePrefix(words[0], v6); err != nil {
		return Event{}, err
	}
	if err := e.attributes(words[1:]); err != nil {
		return Event{}, fmt.Errorf("%w: %q", err, line)
	}
	return e, nil
}

// attributes reads what follows the prefix: pairs of a key and its value, of
// which only some matter. "nexthop" begins one of several ways.
func (e *Event) attributes(words []string) error {
	var hop NextHop
	seen := false
	flush := func() {
		if seen {
			e.Hops = append(e.Hops, hop)
		}
		hop, seen = NextHop{}, false
	}
	for i := 0; i < len(words); i++ {
		value := ""
		if i+1 < len(words) {
			value = words[i+1]
		}
		switch words[i] {
		case "nexthop":
			flush()
		case "via":
			if value == "inet" || value == "inet6" { // RFC 5549: a gateway of the other family
				i++
				value = ""
				if i+1 < len(words) {
					value = words[i+1]
				}
			}
			gateway, err := netip.ParseAddr(value)
			if err != nil {
				return fmt.Errorf("%w: gateway: %w", ErrFormat, err)
			}
			hop.Gateway, seen = gateway, true
			i++
		case "dev":
			if value == "" {
				return fmt.Errorf("%w: dev without a device", ErrFormat)
			}
			hop.Device, seen = value, true
			i++
		case "metric":
			metric, err := strconv.ParseUint(value, 10, 32)
			if err != nil {
				return fmt.Errorf("%w: metric: %w", ErrFormat, err)
			}
			e.Metric = int(metric)
			i++
		case "table":
			if value != "main" {
				e.Table = value
			}
			i++
		}
	}
	flush()
	return nil
}

// ParseRoutes reads the output of "ip -j route show PREFIX", or "ip -6 -j ...",
// as events at the given time. The error wraps ErrFormat.
func ParseRoutes(out []byte, at time.Time) ([]Event, error) {
	var routes []struct {
		Type    string `json:"type"`
		Dst     string `json:"dst"`
		Metric  int    `json:"metric"`
		Gateway string `json:"gateway"`
		Via     *via   `json:"via"`
		Dev     string `json:"dev"`
		Table   string `json:"table"`
		Hops    []struct {
			Gateway string `json:"gateway"`
			Via     *via   `json:"via"`
			Dev     string `json:"dev"`
		} `json:"nexthops"`
	}
	if len(strings.TrimSpace(string(out))) == 0 { // older versions print nothing for no route
		return nil, nil
	}
	if err := json.Unmarshal(out, &routes); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	var events []Event
	for _, r := range routes {
		if r.Dst == "default" {
			continue // of either family; no VIP
		}
		prefix, err := parsePrefix(r.Dst, strings.Contains(r.Dst, ":"))
		if err != nil {
			return nil, err
		}
		e := Event{At: at, Prefix: prefix, Metric: r.Metric, Table: r.Table}
		if r.Type != "unicast" {
			e.Type = r.Type
		}
		if r.Table == "main" {
			e.Table = ""
		}
		add := func(gateway string, v *via, dev string) error {
			if v != nil {
				gateway = v.Host
			}
			hop := NextHop{Device: dev}
			if gateway != "" {
				var err error
				if hop.Gateway, err = netip.ParseAddr(gateway); err != nil {
					return fmt.Errorf("%w: gateway: %w", ErrFormat, err)
				}
			}
			e.Hops = append(e.Hops, hop)
			return nil
		}
		if r.Gateway != "" || r.Via != nil || r.Dev != "" {
			if err := add(r.Gateway, r.Via, r.Dev); err != nil {
				return nil, err
			}
		}
		for _, h := range r.Hops {
			if err := add(h.Gateway, h.Via, h.Dev); err != nil {
				return nil, err
			}
		}
		events = append(events, e)
	}
	return events, nil
}

type via struct {
	Host string `json:"host"`
}

func parsePrefix(s string, v6 bool) (netip.Prefix, error) {
	if s == "default" {
		if v6 {
			return netip.PrefixFrom(netip.IPv6Unspecified(), 0), nil
		}
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0), nil
	}
	if strings.Contains(s, "/") {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return netip.Prefix{}, fmt.Errorf("%w: %w", ErrFormat, err)
		}
		return p, nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return netip.PrefixFrom(a.WithZone(""), a.BitLen()), nil
}
