package deploy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// JoinCommand is what a new node needs to join a cluster.
type JoinCommand struct {
	Address string // of a member's control API, host:port
	Token   string
}

// ParseJoinCommand finds the line "pharos join ADDRESS --token TOKEN …" in what
// pharos init or pharos token create printed.
func ParseJoinCommand(output string) (JoinCommand, error) {
	for line := range strings.Lines(output) {
		_, rest, found := strings.Cut(line, "pharos join ")
		if !found {
			continue
		}
		var c JoinCommand
		words := strings.Fields(rest)
		for i := 0; i < len(words); i++ {
			name, value, inOne := strings.Cut(words[i], "=")
			if !strings.HasPrefix(name, "-") {
				if c.Address == "" {
					c.Address = words[i]
				}
				continue
			}
			if !inOne && i+1 < len(words) {
				i++
				value = words[i]
			}
			if name == "--token" {
				c.Token = value
			}
		}
		if c.Address == "" || c.Token == "" {
			return JoinCommand{}, fmt.Errorf("the join command has no address or no token: %q", strings.TrimSpace(line))
		}
		return c, nil
	}
	return JoinCommand{}, errors.New("it printed no line with a `pharos join` command")
}

// Member is one member as pharos member list shows it.
type Member struct {
	Name  string `json:"name"`
	Alive bool   `json:"alive"`
}

// ParseMembers reads the output of pharos member list -o json: a list, or an
// object that has it as "members".
func ParseMembers(data []byte) ([]Member, error) {
	data = bytes.TrimSpace(data)
	if bytes.HasPrefix(data, []byte("[")) {
		var list []Member
		err := json.Unmarshal(data, &list)
		return list, err
	}
	var object struct {
		Members []Member `json:"members"`
	}
	err := json.Unmarshal(data, &object)
	return object.Members, err
}

// ParseRoute reads the next hops from the output of "ip -j route show exact",
// sorted, each once. A route without a gateway has none.
func ParseRoute(data []byte) ([]netip.Addr, error) {
	// iproute2 prints nothing, or an empty list, when there is no route.
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, nil
	}
	type via struct {
		Host string `json:"host"`
	}
	type hop struct {
		Gateway string   `json:"gateway"`
		Via     *via     `json:"via"` // a gateway of the other family
		Flags   []string `json:"flags"`
	}
	var routes []struct {
		hop
		NextHops []hop `json:"nexthops"`
	}
	if err := json.Unmarshal(data, &routes); err != nil {
		return nil, err
	}
	var addresses []netip.Addr
	for _, route := range routes {
		for _, h := range append(route.NextHops, route.hop) {
			text := h.Gateway
			if text == "" && h.Via != nil {
				text = h.Via.Host
			}
			// A next hop whose link is down carries nothing.
			if text == "" || slices.Contains(h.Flags, "dead") || slices.Contains(h.Flags, "linkdown") {
				continue
			}
			addr, err := netip.ParseAddr(text)
			if err != nil {
				return nil, fmt.Errorf("next hop: %w", err)
			}
			addresses = append(addresses, addr)
		}
	}
	slices.SortFunc(addresses, netip.Addr.Compare)
	return slices.Compact(addresses), nil
}
