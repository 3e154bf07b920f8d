package handover

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// listening answers requests in a directory until the test ends.
func listening(t *testing.T, dir string, upgrade func(Request) Answer) (end func()) {
	t.Helper()
	r, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx, upgrade) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func TestAskingForAnUpgrade(t *testing.T) {
	// No address of a socket is that long; a data directory may be.
	dir := filepath.Join(t.TempDir(), strings.Repeat("deep/", 40))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Ask(t.Context(), dir, Request{}); !errors.Is(err, ErrNoNode) {
		t.Errorf("with nobody there: %v", err)
	}
	var got Request
	end := listening(t, dir, func(r Request) Answer {
		if got = r; r.Binary != "" {
			return Answer{Code: TimedOut, Error: "it was not ready"}
		}
		return Answer{Version: "v2", Pid: 42}
	})
	if info, err := os.Stat(filepath.Join(dir, socketFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, %v", info, err)
	}
	if a, err := Ask(t.Context(), dir, Request{StartTimeout: 5}); err != nil || a.Version != "v2" || a.Pid != 42 || got.StartTimeout != 5 {
		t.Errorf("answer %+v, %v; the request was %+v", a, err, got)
	}
	if a, err := Ask(t.Context(), dir, Request{Binary: "/b"}); CodeOf(err) != TimedOut || err.Error() != "it was not ready" || got.Binary != "/b" {
		t.Errorf("answer %+v, %v; the request was %+v", a, err, got)
	}

	// A successor takes the place, and its predecessor's end changes nothing.
	endNext := listening(t, dir, func(Request) Answer { return Answer{Version: "v3"} })
	end()
	if a, err := Ask(t.Context(), dir, Request{}); err != nil || a.Version != "v3" {
		t.Errorf("the successor's answer %+v, %v", a, err)
	}
	endNext()
	if _, err := Ask(t.Context(), dir, Request{}); !errors.Is(err, ErrNoNode) {
		t.Errorf("with nobody there any more: %v", err)
	}
	if _, err := Ask(t.Context(), filepath.Join(dir, "missing"), Request{}); !errors.Is(err, ErrNoNode) {
		t.Errorf("without the directory: %v", err)
	}
}

func TestARequestThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	end := listening(t, dir, func(Request) Answer { t.Error("carried out"); return Answer{} })
	defer end()
	err := inDir(dir, func(path string) error {
		conn, err := net.Dial("unix", path)
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := conn.Write([]byte("upgrade!\n")); err != nil {
			return err
		}
		b := make([]byte, 1000)
		n, err := conn.Read(b)
		if !strings.Contains(string(b[:n]), `"refused"`) {
			t.Errorf("answer %q", b[:n])
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
