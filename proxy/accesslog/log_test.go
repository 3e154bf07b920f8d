package accesslog

import (
	"bytes"
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"
)

func sample() *Record {
	return &Record{
		At: time.Date(2026, 11, 24, 20, 0, 0, 123e6, time.UTC), Listener: "web", Client: netip.MustParseAddrPort("192.0.2.1:4000"),
		Proxied: netip.MustParseAddr("10.0.0.1"), Protocol: "HTTP/1.1", Secure: true, Method: []byte("GET"), Host: []byte("example.com"),
		Target: []byte(`/a"b\c?x=` + "\x01\x7f\xff\u00e9"), Agent: []byte("curl"), Status: 200, Route: "r", Pool: "p", Server: "s", Tries: 2,
		BytesIn: 1, BytesOut: 2, Wait: 1500 * time.Microsecond, Connect: time.Millisecond, First: 2 * time.Millisecond, Total: 3004 * time.Microsecond, Why: "server-broke",
	}
}

func TestAppendIsJSON(t *testing.T) {
	line := Append(nil, sample())
	var got map[string]any
	if err := json.Unmarshal(line, &got); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	want := map[string]any{
		"time": "2026-11-24T20:00:00.123Z", "listener": "web", "client": "192.0.2.1:4000", "proxied_by": "10.0.0.1", "protocol": "HTTP/1.1",
		"tls": true, "method": "GET", "host": "example.com", "target": "/a\"b\\c?x=\x01\x7f\ufffd\u00e9", "agent": "curl", "status": 200.0, "route": "r",
		"pool": "p", "server": "s", "tries": 2.0, "bytes_in": 1.0, "bytes_out": 2.0, "wait_ms": 1.5, "connect_ms": 1.0, "first_ms": 2.0,
		"total_ms": 3.004, "why": "server-broke",
	}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s = %v, want %v", k, got[k], v)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d fields, want %d: %s", len(got), len(want), line)
	}
}

// Whatever a client sends, a line is one line, and JSON that says the same.
func FuzzAppend(f *testing.F) {
	f.Add([]byte("/"), []byte("x\n\"}"))
	f.Fuzz(func(t *testing.T, target, agent []byte) {
		line := Append(nil, &Record{Target: target, Agent: agent})
		if bytes.Count(line, []byte("\n")) != 1 || !utf8.Valid(line) {
			t.Fatalf("not one line of text: %q", line)
		}
		var got struct{ Target, Agent string }
		if err := json.Unmarshal(line, &got); err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		if got.Target != eachInvalid(target) {
			t.Fatalf("target %q of %q", got.Target, target)
		}
	})
}

func TestAddDoesNotAllocate(t *testing.T) {
	l := New(&bytes.Buffer{})
	b, r := l.Buffer(), sample()
	b.Add(r)
	if n := testing.AllocsPerRun(50, func() { b.Add(r) }); n != 0 {
		t.Errorf("a record allocates %v times, want 0", n)
	}
}

// safe is a Writer that can be read meanwhile.
type safe struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safe) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *safe) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestWhatIsTooMuchIsDroppedAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &safe{}
		l := New(out)
		b := l.Buffer()
		for range waiting + 3 { // nobody writes yet
			b.Add(sample())
			b.Flush()
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); l.Run(ctx, func(err error) { t.Error(err) }) }()
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		if got := strings.Count(out.String(), `"why"`); got != waiting {
			t.Errorf("%d lines, want %d", got, waiting)
		}
		if !strings.Contains(out.String(), `"dropped_lines":3}`) {
			t.Error("it is not said that 3 lines were dropped")
		}
		b.Add(sample())
		b.Flush()
		cancel()
		<-done
		if got := strings.Count(out.String(), `"why"`); got != waiting+1 {
			t.Errorf("%d lines at the end, want %d: the last was handed over before", got, waiting+1)
		}
	})
}

func TestARotatedFileIsOpenedAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	l, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		if err := l.write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	write("one\n")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	write("two\n") // before the next look it still goes to the old file
	if err := l.reopen(); err != nil {
		t.Fatal(err)
	}
	write("three\n")
	for file, want := range map[string]string{path + ".1": "one\ntwo\n", path: "three\n"} {
		if got, err := os.ReadFile(file); err != nil || string(got) != want {
			t.Errorf("%s has %q (%v), want %q", filepath.Base(file), got, err, want)
		}
	}
	_ = l.file.Close()
}

func BenchmarkAppend(b *testing.B) {
	r := sample()
	r.Target = []byte("/v1/payments?id=12345")
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		dst = Append(dst[:0], r)
	}
}

// eachInvalid replaces each byte that is no UTF-8, as the log does.
func eachInvalid(b []byte) string {
	var s strings.Builder
	for _, r := range string(b) {
		s.WriteRune(r)
	}
	return s.String()
}
