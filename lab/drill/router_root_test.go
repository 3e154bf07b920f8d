package drill

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// kernelRouter is a site whose router is a network namespace of the test's own.
type kernelRouter struct {
	*fakeSite
	namespace string
	target    netip.AddrPort
}

func (k kernelRouter) Target() netip.AddrPort { return k.target }

func (k kernelRouter) Router(ctx context.Context, argv ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", k.namespace}, argv...)...)
}

func (k kernelRouter) NodeNames() map[string]string {
	return map[string]string{
		"10.0.1.2": "n1", "10.0.2.2": "n2", "10.0.3.2": "n3",
		"2001:db8:1::2": "n1", "2001:db8:2::2": "n2", "2001:db8:3::2": "n3",
	}
}

func TestWatcherFollowsTheKernel(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("PHAROS_REQUIRE_ROOT") == "1" {
			t.Fatal("needs root for a network namespace, and PHAROS_REQUIRE_ROOT=1")
		}
		t.Skip("needs root for a network namespace")
	}
	namespace := fmt.Sprintf("pharos-drill-test-%d", os.Getpid())
	ip := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v: %s", args, err, out)
		}
	}
	ip("netns", "add", namespace)
	t.Cleanup(func() { ip("netns", "delete", namespace) })
	in := func(args ...string) { t.Helper(); ip(append([]string{"-n", namespace}, args...)...) }
	for i := 1; i <= 3; i++ {
		eth, peer := fmt.Sprintf("eth%d", i), fmt.Sprintf("peer%d", i)
		in("link", "add", eth, "type", "veth", "peer", "name", peer)
		in("link", "set", eth, "up")
		in("link", "set", peer, "up")
		in("address", "add", fmt.Sprintf("10.0.%d.1/24", i), "dev", eth)
		in("address", "add", fmt.Sprintf("2001:db8:%d::1/64", i), "dev", eth, "nodad")
	}
	for vip, via := range map[string]func(int) string{
		"198.51.100.1":    func(i int) string { return fmt.Sprintf("10.0.%d.2", i) },
		"2001:db8:100::1": func(i int) string { return fmt.Sprintf("2001:db8:%d::2", i) },
	} {
		t.Run(vip, func(t *testing.T) {
			route := func(nodes ...int) {
				t.Helper()
				args := []string{"route", "replace", vip, "proto", "bgp", "metric", "20"}
				for _, n := range nodes {
					args = append(args, "nexthop", "via", via(n), "dev", fmt.Sprintf("eth%d", n))
				}
				in(args...)
			}
			route(1, 2, 3)
			k := kernelRouter{fakeSite: newFakeSite(t), namespace: namespace, target: netip.AddrPortFrom(netip.MustParseAddr(vip), 80)}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			w := newWatcher(k, slog.New(slog.DiscardHandler))
			wait, err := w.start(ctx)
			if err != nil {
				cancel()
				t.Fatal(err)
			}
			defer wait()
			defer cancel()
			if diff := cmp.Diff([]string{"n1", "n2", "n3"}, w.hops()); diff != "" {
				t.Fatalf("at the start (-want +got):\n%s", diff)
			}
			// Nothing says when ip has begun to listen, but its first line.
			listens := func(ctx context.Context) error { return w.await(ctx, "n3", false) }
			for route(1, 2); within(ctx, 200*time.Millisecond, listens) != nil && ctx.Err() == nil; route(1, 2) {
				route(1, 2, 3)
			}
			route(1, 3)
			if err := w.await(ctx, "n2", false); err != nil {
				t.Fatal(err)
			}
			route(1, 2, 3)
			if err := w.await(ctx, "n2", true); err != nil {
				t.Fatal(err)
			}
			changes, doubts := w.finish(ctx)
			if len(doubts) > 0 {
				t.Errorf("doubts: %v", doubts)
			}
			var got [][]string
			for _, c := range changes[max(0, len(changes)-3):] {
				got = append(got, w.names(c.Hops))
			}
			if diff := cmp.Diff([][]string{{"n1", "n2"}, {"n1", "n3"}, {"n1", "n2", "n3"}}, got); diff != "" {
				t.Errorf("the record (-want +got):\n%s", diff)
			}
		})
	}
}
