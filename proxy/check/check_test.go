package check

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what must come, on however slow a machine.
const patience = 20 * time.Second

func addrOf(t testing.TB, s string) netip.AddrPort {
	t.Helper()
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func compile(t testing.TB, s Spec) Probe {
	t.Helper()
	s.Validate(func(field, reason string) { t.Errorf("%s: %s", field, reason) })
	p, err := Compile(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// ask probes server once, and returns the reason; "" passes.
func ask(t testing.TB, p Probe, server netip.AddrPort) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := p(ctx, server); err != nil {
		return err.Error()
	}
	return ""
}

// serve hands every connection to each, until the test ends.
func serve(t testing.TB, each func(net.Conn)) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			each(c)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() {
		_ = ln.Close()
		<-ended
	})
	return addrOf(t, ln.Addr().String())
}

// deaf is an address that takes connections into its queue, and never
// answers.
func deaf(t testing.TB) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return addrOf(t, ln.Addr().String())
}

func dead(t testing.TB) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	return addrOf(t, ln.Addr().String())
}

var everyKind = []Spec{{}, {Kind: KindHTTP}, {Kind: KindGRPC}}

func TestAClosedPortIsRefusedWhateverTheKind(t *testing.T) {
	server := dead(t)
	for _, s := range everyKind {
		if got := ask(t, compile(t, s), server); got != "connect: connection refused" {
			t.Errorf("%q probe of a closed port = %q", s.Kind, got)
		}
	}
}

func TestTCP(t *testing.T) {
	if got := ask(t, compile(t, Spec{}), deaf(t)); got != "" {
		t.Errorf("probe of an open port: %s", got)
	}
}

func TestADeafServerTimesOut(t *testing.T) {
	tests := []struct {
		name string
		spec Spec
		want string
	}{
		{"http", Spec{Kind: KindHTTP}, "http: timeout"},
		{"grpc", Spec{Kind: KindGRPC}, "grpc: timeout"},
		{"tls", Spec{TLS: clientTLS(t, "")}, "tls: timeout"},
	}
	server := deaf(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
			defer cancel()
			if err := compile(t, tt.spec)(ctx, server); err == nil || err.Error() != tt.want {
				t.Errorf("probe = %v, want %s", err, tt.want)
			}
		})
	}
}

func TestACancelledCheckReturnsAtOnce(t *testing.T) {
	server := deaf(t)
	for _, s := range []Spec{{TLS: clientTLS(t, "")}, {Kind: KindHTTP}, {Kind: KindGRPC}} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		began := time.Now()
		time.AfterFunc(20*time.Millisecond, cancel)
		if err := compile(t, s)(ctx, server); err == nil {
			t.Errorf("%q probe of a deaf server passed", s.Kind)
		}
		if time.Since(began) >= patience {
			t.Errorf("%q probe outlived its cancellation", s.Kind)
		}
		cancel()
	}
}

func TestCompileRefusesWhatValidateDoes(t *testing.T) {
	for _, s := range []Spec{{Kind: "icmp"}, {Kind: KindHTTP, Body: "("}} {
		if _, err := Compile(s); err == nil {
			t.Errorf("%+v compiled", s)
		}
	}
}
