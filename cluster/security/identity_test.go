package security

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func create(t *testing.T, name string) (dir string, id *Identity) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "data")
	id, err := Create(dir, name)
	if err != nil {
		t.Fatal(err)
	}
	return dir, id
}

func TestCreate(t *testing.T) {
	dir, id := create(t, "n1")
	if id.Name() != "n1" || len(id.ClusterID()) != 16 || len(id.GossipKey()) != 32 {
		t.Errorf("got name %q, cluster id %q, gossip key of %d bytes", id.Name(), id.ClusterID(), len(id.GossipKey()))
	}
	cert, err := id.certificate()
	if err != nil {
		t.Fatal(err)
	}
	if early := time.Since(cert.Leaf.NotBefore); early < 23*time.Hour {
		t.Errorf("the certificate begins only %v before now: a clock that is hours behind would refuse it", early)
	}
	modes := map[string]os.FileMode{dir: 0o700, Path(dir): 0o700}
	for _, name := range []string{caCertFile, caKeyFile, nodeCertFile, nodeKeyFile, clusterKeyFile, gossipKeyFile} {
		modes[filepath.Join(Path(dir), name)] = 0o600
	}
	for path, want := range modes {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %v, want %v", path, got, want)
		}
	}
	for _, name := range []string{caKeyFile, nodeKeyFile} {
		data, err := os.ReadFile(filepath.Join(Path(dir), name))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(data), sealedType) || strings.Contains(string(data), "BEGIN PRIVATE") {
			t.Errorf("%s is not sealed:\n%s", name, data)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("Create left %v in the data directory", entries)
	}
}

func TestCreateTwiceChangesNothing(t *testing.T) {
	dir, first := create(t, "n1")
	if _, err := Create(dir, "n9"); !errors.Is(err, ErrExists) {
		t.Fatalf("second Create: %v, want ErrExists", err)
	}
	again, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if again.Name() != "n1" || again.Fingerprint() != first.Fingerprint() {
		t.Error("the second Create changed the first one's identity")
	}
}

// The check before is not enough when two run at once: the rename decides.
func TestInstallWhereThereIsOneAlready(t *testing.T) {
	dir, _ := create(t, "n1")
	if err := install(dir, map[string][]byte{"x": nil}); !errors.Is(err, ErrExists) {
		t.Errorf("install over another: %v, want ErrExists", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("the refused install left %v", entries)
	}
}

func TestCreateRefusesBadNames(t *testing.T) {
	for _, name := range []string{"", "N1", "a.b", "a_b", "-a", "a-", "ä", strings.Repeat("a", 64), "a/b"} {
		dir := filepath.Join(t.TempDir(), "data")
		if _, err := Create(dir, name); err == nil {
			t.Errorf("Create took the name %q", name)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("Create left %s for the refused name %q", dir, name)
		}
	}
}

func TestLoadFaults(t *testing.T) {
	_, other := create(t, "n1")
	otherFile := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(Path(other.dir), name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	type change func(path string) error
	remove := func(path string) error { return os.Remove(path) }
	write := func(data []byte) change { return func(path string) error { return os.WriteFile(path, data, 0o600) } }
	truncate := func(path string) error { return os.Truncate(path, 20) }
	cases := []struct {
		name string
		file string
		do   change
		want error
	}{
		{"no CA certificate", caCertFile, remove, ErrMissing},
		{"no CA key", caKeyFile, remove, ErrMissing},
		{"no node certificate", nodeCertFile, remove, ErrMissing},
		{"no node key", nodeKeyFile, remove, ErrMissing},
		{"no cluster key", clusterKeyFile, remove, ErrMissing},
		{"no gossip key", gossipKeyFile, remove, ErrMissing},
		{"CA certificate cut short", caCertFile, truncate, ErrCorrupt},
		{"CA key cut short", caKeyFile, truncate, ErrCorrupt},
		{"node certificate cut short", nodeCertFile, truncate, ErrCorrupt},
		{"node key cut short", nodeKeyFile, truncate, ErrCorrupt},
		{"cluster key cut short", clusterKeyFile, truncate, ErrCorrupt},
		{"gossip key empty", gossipKeyFile, write(nil), ErrCorrupt},
		{"another cluster's CA certificate", caCertFile, write(otherFile(caCertFile)), ErrMismatch},
		{"another cluster's CA key", caKeyFile, write(otherFile(caKeyFile)), ErrMismatch},
		{"another cluster's node key", nodeKeyFile, write(otherFile(nodeKeyFile)), ErrMismatch},
		{"another cluster's cluster key", clusterKeyFile, write(otherFile(clusterKeyFile)), ErrMismatch},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir, _ := create(t, "n1")
			if err := c.do(filepath.Join(Path(dir), c.file)); err != nil {
				t.Fatal(err)
			}
			_, err := Load(dir)
			if !errors.Is(err, c.want) {
				t.Fatalf("Load: %v, want %v", err, c.want)
			}
			if !strings.Contains(err.Error(), Path(dir)) || !strings.Contains(err.Error(), "join") {
				t.Errorf("the error %q does not say which file and what to do", err)
			}
		})
	}
	t.Run("nothing there", func(t *testing.T) {
		_, err := Load(t.TempDir())
		if !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), "pharos init") {
			t.Errorf("Load: %v, want ErrMissing and advice", err)
		}
	})
}

// issueAt replaces the node's certificate by one made at that time.
func issueAt(t *testing.T, dir string, at time.Time) {
	t.Helper()
	parts, err := readParts(dir)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := parts.authority(dir)
	if err != nil {
		t.Fatal(err)
	}
	der, err := ca.issue(parts.name, parts.nodeKey.Public(), at)
	if err != nil {
		t.Fatal(err)
	}
	if err := replace(certPath(dir), encodeCertificate(der)); err != nil {
		t.Fatal(err)
	}
}

func TestExpiredCertificateIsRefusedAndRenewed(t *testing.T) {
	dir, _ := create(t, "n1")
	issueAt(t, dir, time.Now().Add(-nodeLife-time.Hour))
	if _, err := Load(dir); !errors.Is(err, ErrExpired) {
		t.Fatalf("Load: %v, want ErrExpired", err)
	}
	if err := Renew(dir); err != nil {
		t.Fatal(err)
	}
	id, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	end, err := id.NotAfter()
	if err != nil {
		t.Fatal(err)
	}
	if left := time.Until(end); left < nodeLife-time.Hour {
		t.Errorf("the renewed certificate lasts %v", left)
	}
}

func TestCertificateFromTheFuture(t *testing.T) {
	dir, _ := create(t, "n1")
	issueAt(t, dir, time.Now().Add(48*time.Hour))
	if _, err := Load(dir); !errors.Is(err, ErrExpired) || !strings.Contains(err.Error(), "clock") {
		t.Errorf("Load: %v, want ErrExpired and a word on the clock", err)
	}
}

func TestCertificateIsReadAnewWhenItsFileChanges(t *testing.T) {
	dir, id := create(t, "n1")
	before, err := id.certificate()
	if err != nil {
		t.Fatal(err)
	}
	issueAt(t, dir, time.Now().Add(time.Hour))
	// File systems with coarse time stamps would hide the change otherwise.
	if err := os.Chtimes(certPath(dir), time.Time{}, time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	after, err := id.certificate()
	if err != nil {
		t.Fatal(err)
	}
	if before.Leaf.SerialNumber.Cmp(after.Leaf.SerialNumber) == 0 {
		t.Error("the old certificate is still in use")
	}
	// A file that is spoilt under a running node does not take its identity away.
	if err := os.WriteFile(certPath(dir), []byte("spoilt"), 0o600); err != nil {
		t.Fatal(err)
	}
	kept, err := id.certificate()
	if err != nil || kept.Leaf.SerialNumber.Cmp(after.Leaf.SerialNumber) != 0 {
		t.Errorf("after the file was spoilt: %v", err)
	}
}

func TestValidateAddress(t *testing.T) {
	for address, ok := range map[string]bool{
		"10.0.0.1:7443": true, "[2001:db8::1]:7443": true, "n1.example.com:7443": true, "127.0.0.1:1": true,
		"10.0.0.1": false, ":7443": false, "0.0.0.0:7443": false, "[::]:7443": false, "10.0.0.1:0": false,
		"10.0.0.1:70000": false, "10.0.0.1:https": false, "": false, "224.0.0.1:7443": false,
	} {
		if err := ValidateAddress(address); (err == nil) != ok {
			t.Errorf("%q: %v", address, err)
		}
	}
}
