package check

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func addrOf(t *testing.T, s string) netip.AddrPort {
	t.Helper()
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestHTTP(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ok":
		case "/moved":
			http.Redirect(w, r, "/ok", http.StatusFound)
		case "/sick":
			w.WriteHeader(503)
		case "/short":
			w.Header().Set("Content-Length", "10")
			_, _ = w.Write([]byte("abc"))
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		case "/hang":
			<-r.Context().Done()
		}
	}))
	defer srv.Close()
	addr := addrOf(t, srv.Listener.Addr().String())
	tests := []struct {
		name   string
		path   string
		expect []int
		want   string // "" passes
	}{
		{"ok", "/ok", nil, ""},
		{"redirect counts, and is not followed", "/moved", []int{302}, ""},
		{"unexpected status", "/ok", []int{204}, "status 200"},
		{"server error", "/sick", nil, "status 503"},
		{"expected server error", "/sick", []int{200, 503}, ""},
		{"body cut short", "/short", nil, "http body: closed by the server"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := HTTP(tt.path, tt.expect)(t.Context(), addr)
			if got := text(err); got != tt.want {
				t.Errorf("probe = %q, want %q", got, tt.want)
			}
		})
	}
	t.Run("timeout", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		defer cancel()
		if got := text(HTTP("/hang", nil)(ctx, addr)); got != "http: timeout" {
			t.Errorf("probe = %q, want http: timeout", got)
		}
	})
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestTCP(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := addrOf(t, ln.Addr().String())
	if err := TCP()(t.Context(), addr); err != nil {
		t.Errorf("probe of an open port: %v", err)
	}
	_ = ln.Close()
	for name, p := range map[string]Probe{"tcp": TCP(), "http": HTTP("/", nil)} {
		if got := text(p(t.Context(), addr)); got != "connect: connection refused" {
			t.Errorf("%s probe of a closed port = %q", name, got)
		}
	}
}

func TestRunSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		begin := time.Now()
		var starts []time.Duration
		probe := func(ctx context.Context, _ netip.AddrPort) error {
			starts = append(starts, time.Since(begin))
			switch len(starts) {
			case 2: // runs into its timeout
				<-ctx.Done()
				return ctx.Err()
			case 3:
				return errors.New("status 503")
			}
			return nil
		}
		var results []Result
		done := make(chan struct{})
		go func() {
			defer close(done)
			Run(ctx, netip.AddrPort{}, Schedule{Interval: 2 * time.Second, Timeout: time.Second, Spread: 100 * time.Millisecond}, probe, func(r Result) {
				results = append(results, r)
				if len(results) == 20 {
					cancel()
				}
			})
		}()
		<-done
		if starts[0] > 100*time.Millisecond {
			t.Errorf("first check after %v, want at most 100ms", starts[0])
		}
		for i := 1; i < len(starts); i++ {
			if gap := starts[i] - starts[i-1]; gap < 1800*time.Millisecond || gap > 2200*time.Millisecond {
				t.Errorf("check %d came %v after the one before, want 2s ±10%%", i, gap)
			}
		}
		var reasons []string
		for _, r := range results[:4] {
			reasons = append(reasons, r.Reason)
		}
		if got, want := strings.Join(reasons, ","), "ok,timeout,status 503,ok"; got != want {
			t.Errorf("reasons = %s, want %s", got, want)
		}
	})
}

func TestRunDoesNotReportItsOwnEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		reported := 0
		done := make(chan struct{})
		go func() {
			defer close(done)
			Run(ctx, netip.AddrPort{}, Schedule{Interval: time.Second, Timeout: time.Second}, func(ctx context.Context, _ netip.AddrPort) error {
				<-ctx.Done()
				return ctx.Err()
			}, func(Result) { reported++ })
		}()
		synctest.Wait()
		cancel()
		<-done
		if reported != 0 {
			t.Errorf("%d results of a check that was cut short", reported)
		}
	})
}
