package fsm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/pharos-lb/pharos/cluster/registry"
)

// fixture is the state that testdata has of a format: every field is set that it
// has. That of a later one is the one before, and more.
func fixture(t testing.TB, format int) State {
	t.Helper()
	s := fixture1(t)
	if format == 1 {
		return s
	}
	cfg := s.Snapshot.Config.Clone()
	cfg.Pools[0].Servers = append(cfg.Pools[0].Servers, registry.Server{Name: "s2", Address: netip.MustParseAddrPort("10.0.0.22:80"), Weight: ptr(3)})
	for _, c := range []Command{
		{At: noon.Add(time.Minute), ApplyConfig: &ApplyConfig{Config: cfg, Seed: []byte("seed")}},
		{At: noon.Add(time.Minute), OperateServers: &OperateServers{Servers: []string{"p/s1"}, State: ptr(ServerDraining), Weight: ptr(7)}},
		{At: noon.Add(time.Minute), PutKeys: &PutKeys{Kind: TicketKeys, Keys: []Key{{ID: "t", Sealed: "sealed:v1:QQ==", Makes: true, Created: noon, Retired: noon.Add(1)}}}},
		{At: noon.Add(time.Minute), PutKeys: &PutKeys{Kind: CookieKeys, Keys: []Key{{ID: "c", Sealed: "sealed:v1:QkI=", Created: noon}}}},
	} {
		var r Result
		if s, r = s.Apply(c); r.Err() != nil {
			t.Fatal(r.Err())
		}
	}
	return s
}

func fixture1(t testing.TB) State {
	t.Helper()
	cfg := config("web")
	cfg.VIPs[0].Communities, cfg.VIPs[0].MinHealthy = []string{"65000:100"}, 1
	cfg.Neighbors = []registry.Neighbor{{
		Name: "tor1", Address: netip.MustParseAddr("10.0.0.1"), Port: 1179, ASN: 65000, LocalASN: 4200000000, Nodes: []string{"n1"},
		HoldTime: 9 * time.Second, ConnectRetry: 2 * time.Second, Communities: []string{"65000:200"}, MED: ptr(uint32(0)), ASPathPrepend: 2,
		NextHops: map[string][]netip.Addr{"n1": {netip.MustParseAddr("2001:db8::11")}},
	}}
	cfg.Listeners = []registry.Listener{{Name: "http", VIP: "web", Port: 80, Protocol: registry.ProtocolHTTP, Pool: "p"}}
	cfg.Pools = []registry.Pool{{
		Name: "p", Balance: registry.BalanceRoundRobin,
		HealthCheck: &registry.HealthCheck{HTTP: "/healthz", ExpectStatus: []int{200, 204}, Interval: 500 * time.Millisecond, Timeout: time.Second, Fall: 2, Rise: 4},
		Servers:     []registry.Server{{Name: "s1", Address: netip.MustParseAddrPort("[2001:db8::21]:8080"), Weight: ptr(0), Backup: true}},
	}}
	s := started(t)
	for _, c := range []Command{
		{At: noon.Add(time.Second), ApplyConfig: &ApplyConfig{Config: cfg}},
		{At: noon.Add(time.Second), UseToken: &UseToken{ID: "t1", Hash: hash("secret"), Node: "n2"}},
	} {
		var r Result
		if s, r = s.Apply(c); r.Err() != nil {
			t.Fatal(r.Err())
		}
	}
	return s
}

// testdata/snapshot-1 was written by the first version. It must be readable
// for ever, and so must the file of each later format, which joins it here:
// never write one anew.
func TestOldSnapshotsStayReadable(t *testing.T) {
	files, err := filepath.Glob("testdata/snapshot-*")
	if err != nil || len(files) != snapshotFormat {
		t.Fatalf("found %d snapshots for %d formats, %v", len(files), snapshotFormat, err)
	}
	for _, path := range files {
		t.Run(filepath.Base(path), func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			s, err := DecodeSnapshot(bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			format, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(path), "snapshot-"))
			if err != nil {
				t.Fatal(err)
			}
			if want := fixture(t, format); !bytes.Equal(snapshotOf(t, want), snapshotOf(t, s)) {
				t.Errorf("got\n%s\nwant\n%s", snapshotOf(t, s), snapshotOf(t, want))
			}
		})
	}
}

func TestAnEmptyStateSurvives(t *testing.T) {
	for name, s := range map[string]State{"new": New(), "zero": {}} {
		got, err := DecodeSnapshot(bytes.NewReader(snapshotOf(t, s)))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got.Snapshot.Version != 0 || len(got.Members) != 0 || len(got.Tokens) != 0 {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

func TestADamagedSnapshotIsNeverAState(t *testing.T) {
	whole := snapshotOf(t, started(t))
	for n := range whole {
		if _, err := DecodeSnapshot(bytes.NewReader(whole[:n])); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("cut to %d of %d bytes: %v, not %v", n, len(whole), err, ErrCorrupt)
		}
	}
	for i := range whole {
		for bit := range 8 {
			damaged := bytes.Clone(whole)
			damaged[i] ^= 1 << bit
			if _, err := DecodeSnapshot(bytes.NewReader(damaged)); !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrSnapshotFormat) {
				t.Fatalf("bit %d of byte %d flipped: %v", bit, i, err)
			}
		}
	}
	if _, err := DecodeSnapshot(bytes.NewReader(append(bytes.Clone(whole), 0))); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("a byte too many: %v, not %v", err, ErrCorrupt)
	}
}

func TestASnapshotOfALaterFormat(t *testing.T) {
	data := snapshotOf(t, started(t))
	binary.BigEndian.PutUint32(data[8:], snapshotFormat+1)
	if _, err := DecodeSnapshot(bytes.NewReader(data)); !errors.Is(err, ErrSnapshotFormat) || errors.Is(err, ErrCorrupt) {
		t.Fatalf("got %v, not %v", err, ErrSnapshotFormat)
	}
}

func TestAnUnreadableDiskIsNotACorruptSnapshot(t *testing.T) {
	broken := errors.New("input/output error")
	whole := snapshotOf(t, started(t))
	for _, n := range []int{0, 10, len(whole) - 10} {
		r := io.MultiReader(bytes.NewReader(whole[:n]), iotest.ErrReader(broken))
		if _, err := DecodeSnapshot(r); !errors.Is(err, broken) || errors.Is(err, ErrCorrupt) {
			t.Errorf("after %d bytes: %v, not %v", n, err, broken)
		}
	}
}

func TestAFullDiskIsReported(t *testing.T) {
	full := errors.New("no space left on device")
	for _, n := range []int{0, 60} {
		if err := EncodeSnapshot(&disk{free: n, err: full}, started(t)); !errors.Is(err, full) {
			t.Errorf("with %d bytes free: %v, not %v", n, err, full)
		}
	}
}

// disk takes so many bytes and then fails.
type disk struct {
	free int
	err  error
}

func (d *disk) Write(p []byte) (int, error) {
	if len(p) > d.free {
		return d.free, d.err
	}
	d.free -= len(p)
	return len(p), nil
}

func FuzzDecodeSnapshot(f *testing.F) {
	f.Add(snapshotOf(f, New()))
	data, err := os.ReadFile("testdata/snapshot-1")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add(data[headerSize:])
	f.Add(snapshotOf(f, fixture(f, snapshotFormat)))
	f.Fuzz(func(t *testing.T, data []byte) {
		data = bytes.Clone(data)
		// With the right checksum put in, the fuzzer gets past it.
		if len(data) > headerSize+len(hash("")) {
			head, body := data[:headerSize], data[headerSize+len(hash("")):]
			binary.BigEndian.PutUint64(head[12:], uint64(len(body)))
			copy(data[headerSize:], checksum(head, body))
		}
		s, err := DecodeSnapshot(bytes.NewReader(data))
		if err != nil {
			return
		}
		again, err := DecodeSnapshot(bytes.NewReader(snapshotOf(t, s)))
		if err != nil || !bytes.Equal(snapshotOf(t, s), snapshotOf(t, again)) {
			t.Fatalf("a state that was read does not survive: %v", err)
		}
	})
}
