package fault

import (
	"fmt"
	"net/netip"
	"strings"
)

// Loss is the loss of packets on a node's links. Nobody is told of it: a packet is
// dropped where the kernel has it first and last, since a drop further in is an
// error to whom sends. The loopback interface is no link.
type Loss struct {
	TCP, UDP []uint16     // ports, of either end; both empty: all packets
	Of       []netip.Addr // of and to these machines alone; empty: all
	OneWay   bool         // what comes in is lost, what goes out is not
}

// table is where nft has the drops: one fault at a time for each machine.
const table = "netdev pharos_drill"

// Script drops with nft(8).
func (l Loss) Script() Script {
	var b strings.Builder
	b.WriteString(`set -e
devices=$(ip -o link show | sed -n 's/^[0-9]*: \(eth[0-9]*\).*/\1/p' | paste -sd, -)
nft "table ` + table + ` {
  counter dropped { }
`)
	l.chain(&b, "from", "ingress", "saddr")
	if !l.OneWay {
		l.chain(&b, "to", "egress", "daddr")
	}
	b.WriteString(`}"`)
	return Script{
		Break: b.String(),
		Mend:  "nft list table " + table + " >/dev/null 2>&1 || exit 0\nnft delete table " + table,
		Count: "nft list counter " + table + ` dropped | sed -n 's/.*packets \([0-9]*\) .*/\1/p'`,
	}
}

func (l Loss) chain(b *strings.Builder, name, hook, end string) {
	fmt.Fprintf(b, "  chain %s {\n    type filter hook %s devices = { $devices } priority -500; policy accept;\n", name, hook)
	for _, from := range l.machines(end) {
		for _, what := range l.ports() {
			fmt.Fprintf(b, "    %s%scounter name dropped drop\n", from, what)
		}
	}
	b.WriteString("  }\n")
}

func (l Loss) machines(end string) []string {
	if len(l.Of) == 0 {
		return []string{""}
	}
	var out []string
	for _, a := range l.Of {
		family := "ip"
		if a.Is6() {
			family = "ip6"
		}
		out = append(out, fmt.Sprintf("%s %s %s ", family, end, a))
	}
	return out
}

func (l Loss) ports() []string {
	var out []string
	for _, p := range l.TCP {
		out = append(out, fmt.Sprintf("tcp dport %d ", p), fmt.Sprintf("tcp sport %d ", p))
	}
	for _, p := range l.UDP {
		out = append(out, fmt.Sprintf("udp dport %d ", p), fmt.Sprintf("udp sport %d ", p))
	}
	if len(out) == 0 {
		return []string{""}
	}
	return out
}
