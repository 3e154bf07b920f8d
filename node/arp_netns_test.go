package node

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/pharos-lb/pharos/cluster/api"
	"github.com/pharos-lb/pharos/cluster/api/pharosv1"
	"github.com/pharos-lb/pharos/node/handover"
	"github.com/pharos-lb/pharos/vip/netnstest"
)

// standOnALink is the part of a node's process in a network namespace of its own:
// once it has been given an interface, it is told its addresses, and runs.
func standOnALink() int {
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil {
		return 97 // the test is over
	}
	for _, args := range append([]string{"link set lo up"}, strings.Split(strings.TrimSpace(line), ",")...) {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "ip %s: %v: %s", args, err, out)
			return 96
		}
	}
	if err := os.Setenv(envLogs, "yes"); err != nil {
		return 95
	}
	if err := os.Setenv(envRole, "well"); err != nil { // the part of its successors
		return 95
	}
	return succeedAs("well")
}

const (
	onALink  = "on a link"
	officeV4 = "10.0.50.100"
	officeV6 = "2001:db8:50::100"
	nobodyV4 = "10.0.50.101"
	nobodyV6 = "2001:db8:50::101"
)

// office is three nodes on a bridge, each a process in a namespace of its own. The
// test itself is a host on the bridge.
type office struct {
	t     *testing.T
	dirs  map[string]string
	pids  map[string]*exec.Cmd
	macs  map[string]string // node by hardware address
	asker *arp.Client
	ifi   *net.Interface
}

func address(i int) string { return fmt.Sprintf("10.0.50.%d", 10+i) }

func newOffice(t *testing.T) *office {
	t.Helper()
	netnstest.Need(t)
	o := &office{t: t, dirs: map[string]string{}, pids: map[string]*exec.Cmd{}, macs: map[string]string{}}
	// Of an address of its own: otherwise it has one of a port, and another when that goes.
	o.ip("link add office address 02:00:00:00:00:ff type bridge mcast_snooping 0 forward_delay 0")
	t.Cleanup(func() { o.ip("link del office") })
	o.ip("addr add 10.0.50.31/24 dev office")
	o.ip("addr add 2001:db8:50::31/64 dev office nodad")
	o.ip("link set office up")

	dir := t.TempDir()
	made, err := api.Found(dir, "n1", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	o.dirs["n1"] = dir
	o.write(1)
	if err := Bootstrap(t.Context(), dir, made.Token); err != nil {
		t.Fatal(err)
	}
	o.start(1)
	token := made.JoinToken
	for i := 2; i <= 3; i++ {
		name := fmt.Sprintf("n%d", i)
		o.dirs[name] = filepath.Join(t.TempDir(), name)
		if token == "" {
			o.ask("n1", func(ctx context.Context, c *api.Client) error {
				answer, err := c.CreateToken(ctx, &pharosv1.CreateTokenRequest{})
				token = answer.GetToken()
				return err
			})
		}
		o.await("n1 to take in "+name, func() bool {
			_, err := api.Join(t.Context(), api.Joining{Server: address(1) + ":7443", Token: token, Name: name, Address: address(i) + ":7443", Dir: o.dirs[name]})
			return err == nil
		})
		token = ""
		o.write(i)
		o.start(i)
	}
	if o.ifi, err = net.InterfaceByName("office"); err != nil {
		t.Fatal(err)
	}
	if o.asker, err = arp.Dial(o.ifi); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = o.asker.Close() })
	o.await("three voters", func() bool {
		voters := 0
		o.ask("n1", func(ctx context.Context, c *api.Client) error {
			answer, err := c.Members(ctx, &pharosv1.MembersRequest{})
			for _, m := range answer.GetMembers() {
				if m.GetVoter() && m.GetAlive() {
					voters++
				}
			}
			return err
		})
		return voters == 3
	})
	return o
}

func (o *office) write(i int) {
	o.t.Helper()
	c := Config{Name: fmt.Sprintf("n%d", i), Address: address(i) + ":7443", AccessLog: switchedOff}.WithDefaults()
	if i > 1 {
		c.Peers = []string{address(1) + ":7443"}
	}
	if err := WriteConfig(o.dirs[c.Name], c); err != nil {
		o.t.Fatal(err)
	}
}

// start runs a node.
func (o *office) start(i int) {
	o.t.Helper()
	name := fmt.Sprintf("n%d", i)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), envRole+"="+onALink, "PHAROS_DIR="+o.dirs[name])
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	log, err := os.Create(filepath.Join(o.t.TempDir(), "log"))
	if err != nil {
		o.t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	cmd.Stderr = log
	stdin, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		o.t.Fatal(err)
	}
	o.pids[name] = cmd
	o.t.Cleanup(func() {
		o.kill(name)
		if o.t.Failed() {
			b, _ := os.ReadFile(log.Name())
			o.t.Logf("%s said:\n%s", name, b)
		}
	})
	o.ip("link add port%d type veth peer name eth1 netns %d", i, cmd.Process.Pid)
	o.ip("link set port%d master office up", i)
	_, err = fmt.Fprintf(stdin, "addr add %s/24 dev eth1,addr add 2001:db8:50::%d/64 dev eth1 nodad,link set eth1 address 02:00:00:00:00:1%d up\n", address(i), 10+i, i)
	if err != nil {
		o.t.Fatal(err)
	}
	o.macs[fmt.Sprintf("02:00:00:00:00:1%d", i)] = name
}

// kill ends a node's process. Its namespace goes with it.
func (o *office) kill(name string) {
	if cmd := o.pids[name]; cmd != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // "signal: killed"
		delete(o.pids, name)
		// Its namespace goes soon; the name is free at once.
		_ = exec.Command("ip", "link", "del", "port"+name[1:]).Run()
	}
}

func (o *office) ip(format string, args ...any) {
	o.t.Helper()
	line := fmt.Sprintf(format, args...)
	if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
		o.t.Fatalf("ip %s: %v: %s", line, err, out)
	}
}

// await waits until something is so.
func (o *office) await(what string, so func() bool) {
	o.t.Helper()
	(&trio{}).await(o.t, what, so)
}

// ask asks a node until it answers.
func (o *office) ask(node string, question func(context.Context, *api.Client) error) {
	o.t.Helper()
	var last error
	o.await("an answer of "+node, func() bool {
		client, err := api.DialDir(o.dirs[node], address(int(node[1]-'0'))+":7443")
		if err != nil {
			o.t.Fatal(err)
		}
		defer func() { _ = client.Close() }()
		last = question(o.t.Context(), client)
		if last != nil {
			o.t.Logf("%s: %v", node, last)
		}
		return last == nil
	})
}

// answering are the nodes that answer one ARP request for an address.
func (o *office) answering(vip string) []string {
	o.t.Helper()
	p, err := arp.NewPacket(arp.OperationRequest, o.ifi.HardwareAddr, netip.MustParseAddr("10.0.50.31"), make(net.HardwareAddr, 6), netip.MustParseAddr(vip))
	if err == nil {
		err = o.asker.WriteTo(p, ethernet.Broadcast)
	}
	if err != nil {
		o.t.Fatal(err)
	}
	var nodes []string
	if err := o.asker.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		o.t.Fatal(err)
	}
	for {
		p, _, err := o.asker.Read()
		if err != nil {
			return nodes
		}
		if node := o.macs[p.SenderHardwareAddr.String()]; p.Operation == arp.OperationReply && p.SenderIP.String() == vip && !slices.Contains(nodes, node) {
			nodes = append(nodes, node)
		}
	}
}

// holder waits for the one node that answers for the VIP in both families, and is
// not one of those that must not.
func (o *office) holder(not ...string) (name string) {
	o.t.Helper()
	seen := ""
	defer func() {
		if o.t.Failed() {
			o.t.Logf("at last: %s", seen)
		}
	}()
	o.await(fmt.Sprintf("a holder other than %v", not), func() bool {
		nodes := o.answering(officeV4)
		seen = fmt.Sprintf("%v answer ARP", nodes)
		if len(nodes) > 1 {
			o.t.Fatalf("%v answer", nodes)
		}
		if len(nodes) == 0 || slices.Contains(not, nodes[0]) {
			return false
		}
		name = nodes[0]
		o.ip("neigh flush dev office")
		conn, err := net.DialTimeout("tcp", "["+officeV6+"]:80", time.Second)
		if err != nil {
			seen += fmt.Sprintf(", by IPv6: %v", err)
			return false
		}
		_ = conn.Close()
		out, err := exec.Command("ip", "-6", "neigh", "show", officeV6, "dev", "office").Output()
		if err != nil {
			o.t.Fatal(err)
		}
		seen += fmt.Sprintf(", IPv6 is at %s", out)
		for mac, node := range o.macs {
			if strings.Contains(string(out), mac) {
				return node == name
			}
		}
		return false
	})
	return name
}

// arp is what a node says of the VIP.
func (o *office) arp(node string) (status *pharosv1.ARPStatus) {
	o.t.Helper()
	o.ask(node, func(ctx context.Context, c *api.Client) error {
		answer, err := c.Status(ctx, &pharosv1.StatusRequest{})
		for _, v := range answer.GetNode().GetVips() {
			if v.GetName() == "office" {
				status = v.GetArp()
			}
			if v.GetName() == "anycast" && (v.GetArp() != nil || !v.GetAnnouncing() && !answer.GetNode().GetDraining()) {
				o.t.Errorf("%s says of the VIP in mode bgp: %v", node, v)
			}
		}
		return err
	})
	return status
}

// The lease is long, since what is tested here is that, not how soon.
const officeConfig = `
vips:
  - {name: office, addresses: [` + officeV4 + `, "` + officeV6 + `"], mode: arp, arp: {preempt: false, lease: 2s}}
  - {name: anycast, addresses: [198.51.100.1]}
  - {name: nobody, addresses: [` + nobodyV4 + `, "` + nobodyV6 + `"], mode: arp, arp: {interface: eth9}}
neighbors:
  - {name: tor, address: 10.0.50.31, port: 1179, asn: 65000, local_asn: 65010, nodes: [n1, n2, n3]}
listeners:
  - {name: office, vip: office, port: 80, protocol: http, routes: [{name: all, path: /, respond: {status: 200, body: here}}]}
  - {name: nobody, vip: nobody, port: 80, protocol: http, routes: [{name: all, path: /, respond: {status: 200, body: here}}]}
  - {name: anycast, vip: anycast, port: 80, protocol: http, routes: [{name: all, path: /, respond: {status: 200, body: here}}]}
`

func TestOneNodeAnswersForAVIP(t *testing.T) {
	o := newOffice(t)
	o.ask("n1", func(ctx context.Context, c *api.Client) error {
		_, err := c.Apply(ctx, &pharosv1.ApplyRequest{File: "cluster.yaml", Document: []byte(officeConfig), Wait: true, WaitTimeout: durationpb.New(patience)})
		return err
	})
	holder := o.holder()
	o.await("all to agree", func() bool {
		for name := range o.pids {
			s := o.arp(name)
			if s.GetHeld() != (name == holder) || s.GetHolder() != holder {
				return false
			}
		}
		return true
	})
	if s := o.arp(holder); s.GetCode() != "lease" || s.GetEpoch() == 0 || len(s.GetAddresses()) != 2 || s.GetAddresses()[1].GetInterface() != "eth1" {
		t.Errorf("the holder says %v", s)
	}
	step := func(name string, do func(t *testing.T)) {
		well := t.Run(name, func(t *testing.T) {
			was := o.t
			o.t = t
			defer func() { o.t = was }()
			do(t)
		})
		if !well {
			t.FailNow() // what follows builds on it
		}
	}
	step("the kernels answer for no VIP", func(t *testing.T) {
		for range 3 {
			if nodes := o.answering(nobodyV4); len(nodes) > 0 {
				t.Errorf("%v answer ARP for a VIP that is on their loopback interfaces", nodes)
			}
		}
		if conn, err := net.DialTimeout("tcp", "["+nobodyV6+"]:80", patience); err == nil {
			_ = conn.Close()
			t.Errorf("a kernel answers neighbor solicitations for a VIP that is on its loopback interface")
		}
		o.ask("n2", func(ctx context.Context, c *api.Client) error {
			answer, err := c.Explain(ctx, &pharosv1.ExplainRequest{Vip: "nobody"})
			for _, n := range answer.GetNodes() {
				if s := n.GetVip().GetArp(); err == nil && (s.GetCode() != "link-unusable" || s.GetMessage() != "this node has no interface eth9") {
					t.Errorf("%s says of it %v", n.GetNode(), s)
				}
			}
			return err
		})
	})
	step("an upgrade leaves it where it is", func(t *testing.T) {
		answer, err := handover.Ask(t.Context(), o.dirs[holder], handover.Request{Binary: "/proc/self/exe"})
		if err != nil || answer.Code != "" {
			t.Fatal(answer, err)
		}
		if after := o.holder(); after != holder {
			t.Errorf("%s held it before, %s after", holder, after)
		}
		o.await("the new process to say so", func() bool { return o.arp(holder).GetHeld() })
	})
	step("a drain gives it over", func(t *testing.T) {
		o.ask(holder, func(ctx context.Context, c *api.Client) error {
			_, err := c.Drain(ctx, &pharosv1.DrainRequest{Deadline: durationpb.New(10 * time.Second)})
			return err
		})
		after := o.holder(holder)
		o.await("the drained node to know that "+after+" holds", func() bool {
			s := o.arp(holder)
			return !s.GetHeld() && s.GetCode() == "gate-closed" && s.GetHolder() == after
		})
		o.ask(holder, func(ctx context.Context, c *api.Client) error {
			_, err := c.Undrain(ctx, &pharosv1.UndrainRequest{})
			return err
		})
		o.await("the gate to open", func() bool { return o.arp(holder).GetCode() == "held-by-other" })
		holder = after
	})
	step("a machine that claims it again and again is given way to", func(t *testing.T) {
		claim, err := arp.NewPacket(arp.OperationReply, o.ifi.HardwareAddr, netip.MustParseAddr(officeV4), ethernet.Broadcast, netip.MustParseAddr(officeV4))
		if err != nil {
			t.Fatal(err)
		}
		o.await("the holder to step down", func() bool {
			if err := o.asker.WriteTo(claim, ethernet.Broadcast); err != nil {
				t.Fatal(err)
			}
			return o.arp(holder).GetCode() == "conflict"
		})
		if s := o.arp(holder); s.GetConflicts() < 2 {
			t.Errorf("the holder says %v", s)
		}
		holder = o.holder(holder)
	})
	step("a node that loses its link releases it", func(t *testing.T) {
		o.ip("link set port%c down", holder[1])
		after := o.holder(holder)
		o.ip("link set port%c up", holder[1])
		o.await("the link to be well", func() bool {
			s := o.arp(holder)
			return !s.GetHeld() && s.GetCode() == "held-by-other"
		})
		holder = after
	})
	step("a node that is killed is followed", func(t *testing.T) {
		o.kill(holder)
		after := o.holder(holder)
		if s := o.arp(after); s.GetCode() != "lease" {
			t.Errorf("the holder says %v", s)
		}
	})
}
