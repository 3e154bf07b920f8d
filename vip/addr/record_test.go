package addr

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestRecordKeepsWhatWasWritten(t *testing.T) {
	r := record{path: filepath.Join(t.TempDir(), "vips.json"), procSys: "/proc/sys"}
	if got, err := r.read(); err != nil || got != nil {
		t.Fatalf("without a file: %v, %v", got, err)
	}
	want := addrs("198.51.100.1", "2001:db8::1")
	if err := r.write(set(want)); err != nil {
		t.Fatal(err)
	}
	if got, err := r.read(); err != nil || !slices.Equal(got, want) {
		t.Errorf("read back: %v, %v", got, err)
	}
	if left, _ := filepath.Glob(r.path + ".new-*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestRecordOfAnotherBootIsNotOurs(t *testing.T) {
	proc := t.TempDir()
	boot := filepath.Join(proc, "kernel/random/boot_id")
	if err := os.MkdirAll(filepath.Dir(boot), 0o755); err != nil {
		t.Fatal(err)
	}
	r := record{path: filepath.Join(t.TempDir(), "vips.json"), procSys: proc}
	for _, id := range []string{"first\n", "second\n"} {
		if err := os.WriteFile(boot, []byte(id), 0o644); err != nil {
			t.Fatal(err)
		}
		if got, err := r.read(); err != nil || len(got) != 0 {
			t.Errorf("in boot %q: %v, %v", id, got, err)
		}
		if err := r.write(set(addrs("198.51.100.1"))); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBadRecordIsAnError(t *testing.T) {
	for name, content := range map[string]string{
		"empty":           "",
		"truncated":       `{"version":1,"addresses":["198.51.`,
		"not JSON":        "\x00\x00\x00",
		"unknown version": `{"version":2,"addresses":[]}`,
		"loopback":        `{"version":1,"addresses":["127.0.0.1"]}`,
		"no address":      `{"version":1,"addresses":["lo"]}`,
	} {
		t.Run(name, func(t *testing.T) {
			r := record{path: filepath.Join(t.TempDir(), "vips.json")}
			if err := os.WriteFile(r.path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := r.read()
			var e *RecordError
			if !errors.As(err, &e) || e.Op != "read" || e.Path != r.path {
				t.Errorf("read: %v", err)
			}
		})
	}
}

func TestRecordInAMissingDirectoryIsAnError(t *testing.T) {
	err := record{path: filepath.Join(t.TempDir(), "missing", "vips.json")}.write(set(addrs("198.51.100.1")))
	var e *RecordError
	if !errors.As(err, &e) || e.Op != "write" {
		t.Errorf("write: %v", err)
	}
}

func FuzzParseRecord(f *testing.F) {
	f.Add([]byte(`{"version":1,"boot":"b","addresses":["198.51.100.1","2001:db8::1"]}`))
	f.Add([]byte(`{"version":1,"addresses":["127.0.0.1"]}`))
	f.Add([]byte(`{`))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := parseRecord(b)
		if err != nil {
			return
		}
		for _, a := range got.Addresses {
			if a.IsLoopback() || !a.IsValid() {
				t.Errorf("accepted %s", a)
			}
		}
	})
}
