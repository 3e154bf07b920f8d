package deploy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/pharos-lb/pharos/lab/netns"
	"github.com/pharos-lb/pharos/lab/topo"
)

// TestMain lets this binary stand in for pharos: a cluster that is a folder.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-") {
		if err := standIn(os.Args[1], os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "pharos:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// standIn does what a pharos command would, as far as deploying sees it.
func standIn(command string, args []string) error {
	flag := func(name string) string {
		if i := slices.Index(args, name); i >= 0 && i+1 < len(args) {
			return args[i+1]
		}
		return ""
	}
	dir := flag("--dir")
	if dir == "" {
		dir = os.Getenv("PHAROS_DIR")
	}
	cluster := filepath.Dir(dir) // the folder of all nodes' folders
	newToken := func() error {
		token := "token" + strconv.Itoa(os.Getpid())
		fmt.Printf("Join with:\n  pharos join %s:7443 --token %s --name NAME --address HOST\n", "10.0.1.2", token)
		return os.WriteFile(filepath.Join(cluster, token), nil, 0o600)
	}
	member := func() error { return os.WriteFile(filepath.Join(dir, "member"), []byte(flag("--name")), 0o600) }
	switch command {
	case "lab":
		return wait()
	case "init":
		return errors.Join(member(), newToken())
	case "token":
		return newToken()
	case "join":
		if args[0] != "10.0.1.2:7443" {
			return fmt.Errorf("nobody answers at %s", args[0])
		}
		if err := os.Remove(filepath.Join(cluster, flag("--token"))); err != nil {
			return fmt.Errorf("join token was already used: %w", err)
		}
		return member()
	case "serve":
		if _, err := os.Stat(filepath.Join(dir, "member")); err != nil {
			return fmt.Errorf("no identity: %w", err)
		}
		if _, err := os.Stat("/tmp/" + filepath.Base(filepath.Dir(cluster)) + ".sick"); err == nil {
			return errors.New("the port is taken")
		}
		if err := os.WriteFile(filepath.Join(dir, "alive"), nil, 0o600); err != nil {
			return err
		}
		return wait()
	case "member":
		files, err := filepath.Glob(filepath.Join(cluster, "*", "alive"))
		if err != nil {
			return err
		}
		var members []Member
		for _, f := range files {
			members = append(members, Member{Name: filepath.Base(filepath.Dir(f)), Alive: true})
		}
		return json.NewEncoder(os.Stdout).Encode(members)
	case "apply":
		if _, err := os.Stat(flag("-f")); err != nil || !slices.Contains(args, "--wait") {
			return fmt.Errorf("apply %v: %w", args, err)
		}
		return nil
	}
	return fmt.Errorf("unknown command %q", command)
}

func wait() error {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM)
	<-ended
	return nil
}

// labForTest brings up a lab whose pharos is this binary.
func labForTest(t *testing.T, suffix string) *netns.Lab {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("PHAROS_REQUIRE_ROOT") == "1" {
			t.Fatal("PHAROS_REQUIRE_ROOT=1, and this is not root")
		}
		t.Skip("makes network namespaces: needs root")
	}
	bundle, err := topo.Default()
	if err != nil {
		t.Fatal(err)
	}
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	name := "d" + strconv.FormatInt(int64(os.Getpid()), 36) + "-" + suffix
	lab, err := netns.Up(t.Context(), netns.Config{Name: name, Bundle: bundle, Binary: binary})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := netns.Down(context.Background(), name); err != nil {
			t.Error(err)
		}
	})
	return lab
}

func TestClusterIsDeployedAsAnOperatorWould(t *testing.T) {
	lab := labForTest(t, "ok")
	var steps []string
	err := Cluster(t.Context(), lab, func(step string) {
		steps = append(steps, step)
		if step != "configuration applied" {
			return
		}
		// No BGP speaks here: what its announcements would make at the router.
		for family, vip := range map[string]string{"-4": "198.51.100.1/32", "-6": "2001:db8:100::1/128"} {
			args := []string{"ip", family, "route", "add", vip}
			for _, n := range lab.NodesOf(topo.RoleNode) {
				for _, a := range n.Addresses {
					if a.Is4() == (family == "-4") {
						args = append(args, "nexthop", "via", a.String())
					}
				}
			}
			if out, err := lab.Command(t.Context(), "tor1", args...).CombinedOutput(); err != nil {
				t.Errorf("%v: %v: %s", args, err, out)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"cluster made on n1", "n2 joined", "n3 joined", "configuration applied", "router spreads 2 VIP addresses over 3 nodes"}
	if !slices.Equal(steps, want) {
		t.Errorf("steps %q, want %q", steps, want)
	}
	for _, n := range lab.NodesOf(topo.RoleNode) {
		if _, err := lab.Pid(n.Name); err != nil {
			t.Error(err)
		}
	}
}

func TestANodeThatEndsIsReportedAtOnceWithItsReason(t *testing.T) {
	lab := labForTest(t, "sick")
	sick := "/tmp/" + lab.Name() + ".sick"
	if err := os.WriteFile(sick, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(sick)
	err := Cluster(t.Context(), lab, nil)
	if err == nil || !strings.Contains(err.Error(), "the port is taken") {
		t.Errorf("error %v, want the node's own last words", err)
	}
}
