package traffic

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pharos-lb/pharos/lab/traffic/record"
)

// server listens on loopback and hands every connection to serve, which may
// leave it open: it is closed when the test ends.
func server(t *testing.T, serve func(n int, c *net.TCPConn)) netip.AddrPort {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		var open []net.Conn
		defer func() {
			for _, c := range open {
				_ = c.Close()
			}
		}()
		for n := 0; ; n++ {
			c, err := l.AcceptTCP()
			if err != nil {
				return
			}
			open = append(open, c)
			go serve(n, c)
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-ended })
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// request reads one request's head; false at the end of the stream.
func request(in *bufio.Reader) bool {
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return false
		}
		if line == "\r\n" {
			return true
		}
	}
}

func answerWith(text string) func(int, *net.TCPConn) {
	return func(_ int, c *net.TCPConn) {
		request(bufio.NewReader(c))
		_, _ = io.WriteString(c, text)
		_ = c.Close()
	}
}

const good = "HTTP/1.1 200 OK\r\nContent-Length: 50\r\nConnection: close\r\n\r\n" + lab

func config(target netip.AddrPort) Config {
	return Config{
		Target: target, Interval: time.Millisecond, Timeout: 10 * time.Second, Duration: time.Minute, Count: 20,
		MaxInFlight: 1000, Path: "/", ExpectStatus: 200, RequirePeer: true,
	}
}

func run(t *testing.T, ctx context.Context, c Config) (begin *record.Begin, probes []record.Probe, held []record.Held, end *record.End) {
	t.Helper()
	p, err := New(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var lines []record.Line
	if err := p.Run(ctx, func(l record.Line) { lines = append(lines, l) }); err != nil {
		t.Fatal(err)
	}
	if lines[0].Begin == nil || lines[len(lines)-1].End == nil {
		t.Fatalf("the record does not stand between a begin and an end: %+v ... %+v", lines[0], lines[len(lines)-1])
	}
	for _, l := range lines {
		switch {
		case l.Begin != nil:
			begin = l.Begin
		case l.Probe != nil:
			probes = append(probes, *l.Probe)
		case l.Held != nil:
			held = append(held, *l.Held)
		case l.End != nil:
			end = l.End
		}
	}
	if end.Sent != len(probes) {
		t.Errorf("the end says %d probes, the record has %d", end.Sent, len(probes))
	}
	return begin, probes, held, end
}

func TestEachFaultIsRecordedAsWhatItIs(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // a port that was free, and is closed again
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().(*net.TCPAddr).AddrPort()
	_ = l.Close()

	for _, tc := range []struct {
		name    string
		target  netip.AddrPort
		timeout time.Duration
		outcome record.Outcome
		stage   record.Stage
	}{
		{name: "answered", target: server(t, answerWith(good)), outcome: record.OK, stage: record.Established},
		{name: "nobody listens", target: closed, outcome: record.Refused, stage: record.Connecting},
		{name: "reset after the request", target: server(t, func(_ int, c *net.TCPConn) {
			request(bufio.NewReader(c))
			_ = c.SetLinger(0)
			_ = c.Close()
		}), outcome: record.Reset, stage: record.Established},
		{name: "closed without an answer", target: server(t, answerWith("")), outcome: record.Closed, stage: record.Established},
		{name: "closed inside the answer", target: server(t, answerWith(good[:70])), outcome: record.Closed, stage: record.Established},
		{name: "never answers", target: server(t, func(int, *net.TCPConn) {}), timeout: 20 * time.Millisecond, outcome: record.TimedOut, stage: record.Established},
		{name: "half an answer, then nothing", target: server(t, func(_ int, c *net.TCPConn) {
			_, _ = io.WriteString(c, good[:70])
		}), timeout: 20 * time.Millisecond, outcome: record.TimedOut, stage: record.Established},
		{name: "an error page", target: server(t, answerWith("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")), outcome: record.WrongAnswer, stage: record.Established},
		{name: "another server", target: server(t, answerWith("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")), outcome: record.WrongAnswer, stage: record.Established},
		{name: "another protocol", target: server(t, answerWith("220 mail ESMTP\r\n\r\n")), outcome: record.WrongAnswer, stage: record.Established},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := config(tc.target)
			if tc.timeout > 0 {
				c.Timeout = tc.timeout
			}
			_, probes, _, end := run(t, t.Context(), c)
			if len(probes) != c.Count || end.Why != "count" {
				t.Fatalf("%d probes, ended by %q; want %d by count", len(probes), end.Why, c.Count)
			}
			for _, p := range probes {
				if p.Outcome != tc.outcome || p.Stage != tc.stage {
					t.Errorf("probe %d: %s while %s (%s); want %s while %s", p.Sequence, p.Outcome, p.Stage, p.Detail, tc.outcome, tc.stage)
				}
				if (p.Outcome == record.OK) != (p.Detail == "") {
					t.Errorf("probe %d is %s with detail %q", p.Sequence, p.Outcome, p.Detail)
				}
				if p.Outcome == record.OK && (p.Peer != "10.0.1.2" || p.Backend != "b1") {
					t.Errorf("probe %d: carried by %q, answered by %q", p.Sequence, p.Peer, p.Backend)
				}
				if p.Sent < p.Scheduled || p.Ended < p.Sent || (p.Stage == record.Established) != (p.Connected >= p.Sent && p.Connected <= p.Ended) {
					t.Errorf("probe %d: times out of order: %+v", p.Sequence, p)
				}
			}
		})
	}
}

// A server that answers nothing must not slow the schedule down: what a closed
// loop would have left out is what the drill is about.
func TestTheScheduleDoesNotWaitForAnswers(t *testing.T) {
	c := config(server(t, func(int, *net.TCPConn) {}))
	c.Count, c.Timeout = 100, time.Second
	_, probes, _, _ := run(t, t.Context(), c)
	if len(probes) != 100 {
		t.Fatalf("%d probes, want 100", len(probes))
	}
	first := probes[0].Scheduled
	for i, p := range probes { // all time out in the order sent
		if want := first + int64(i)*int64(c.Interval); p.Scheduled != want {
			t.Errorf("probe %d was due at %d, want %d", i, p.Scheduled-first, want-first)
		}
	}
	if last := probes[99]; last.Sent > probes[0].Ended {
		t.Errorf("the last probe was sent %v after the first one ended", time.Duration(last.Sent-probes[0].Ended))
	}
}

func TestBeyondMaxInFlightATickIsRecordedAsNotSent(t *testing.T) {
	c := config(server(t, func(int, *net.TCPConn) {}))
	c.MaxInFlight, c.Timeout = 5, 300*time.Millisecond
	c.Count = 10
	_, probes, _, _ := run(t, t.Context(), c)
	count := map[record.Outcome]int{}
	for _, p := range probes {
		count[p.Outcome]++
	}
	if count[record.NotSent] == 0 || count[record.TimedOut] < 5 || count[record.NotSent]+count[record.TimedOut] != 10 {
		t.Errorf("outcomes %v, want at least 5 timed out, and the others not sent", count)
	}
}

func TestStopEndsTheScheduleAndWaitsForWhatIsInFlight(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	release := make(chan struct{})
	c := config(server(t, func(n int, conn *net.TCPConn) {
		request(bufio.NewReader(conn))
		if n == 3 {
			cancel()
			close(release)
		}
		<-release
		_, _ = io.WriteString(conn, good)
	}))
	c.Count = 0
	_, probes, _, end := run(t, ctx, c)
	if end.Why != "stopped" || len(probes) < 4 {
		t.Errorf("ended by %q after %d probes", end.Why, len(probes))
	}
	for _, p := range probes {
		if p.Outcome != record.OK {
			t.Errorf("probe %d: %s (%s)", p.Sequence, p.Outcome, p.Detail)
		}
	}
}

func TestHeldConnections(t *testing.T) {
	keepAlive := strings.Replace(good, "Connection: close\r\n", "", 1)
	serveHTTP := func(then func(c *net.TCPConn)) func(int, *net.TCPConn) {
		return func(n int, c *net.TCPConn) {
			in := bufio.NewReader(c)
			for i := 0; request(in); i++ {
				if n == 0 && i == 2 {
					then(c)
					return
				}
				_, _ = io.WriteString(c, keepAlive)
			}
		}
	}
	echo := func(n int, c *net.TCPConn) {
		in := bufio.NewReader(c)
		_, _ = fmt.Fprintf(c, "b1 10.0.1.2:77\n")
		for i := 0; ; i++ {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			if n == 0 && i == 2 {
				_ = c.SetLinger(0)
				_ = c.Close()
				return
			}
			_, _ = io.WriteString(c, line)
		}
	}
	for _, tc := range []struct {
		name     string
		protocol Protocol
		serve    func(int, *net.TCPConn)
		every    time.Duration
		timeout  time.Duration
		outcome  record.Outcome
		count    int // exchanges before the end
	}{
		{name: "reset during a request", protocol: HeldHTTP, outcome: record.Reset, count: 2, serve: serveHTTP(func(c *net.TCPConn) { _ = c.SetLinger(0); _ = c.Close() })},
		{name: "closed during a request", protocol: HeldHTTP, outcome: record.Closed, count: 2, serve: serveHTTP(func(c *net.TCPConn) { _ = c.Close() })},
		{name: "finished with the answer", protocol: HeldHTTP, outcome: record.Finished, count: 3, serve: serveHTTP(func(c *net.TCPConn) { _, _ = io.WriteString(c, good); _ = c.Close() })},
		{name: "closed while idle", protocol: HeldHTTP, every: 5 * time.Second, outcome: record.Finished, count: 1, serve: func(n int, c *net.TCPConn) {
			if request(bufio.NewReader(c)); n == 0 {
				_, _ = io.WriteString(c, keepAlive)
				_ = c.Close()
			}
		}},
		{name: "hangs", protocol: HeldHTTP, timeout: 50 * time.Millisecond, outcome: record.TimedOut, count: 2, serve: serveHTTP(func(*net.TCPConn) {})},
		{name: "echo, closed while idle", protocol: HeldEcho, every: 5 * time.Second, outcome: record.Closed, count: 1, serve: func(n int, c *net.TCPConn) {
			_, _ = fmt.Fprintf(c, "b1 10.0.1.2:77\n")
			if line, err := bufio.NewReader(c).ReadString('\n'); err == nil && n == 0 {
				_, _ = io.WriteString(c, line)
				_ = c.Close()
			}
		}},
		{name: "echo, reset", protocol: HeldEcho, outcome: record.Reset, count: 2, serve: echo},
	} {
		t.Run(tc.name, func(t *testing.T) {
			target := server(t, tc.serve)
			c := config(server(t, answerWith(good)))
			c.Count = 0
			h := HeldConfig{Protocol: tc.protocol, Target: target, Count: 1, Every: tc.every, Path: "/", Timeout: 10 * time.Second}
			if tc.timeout > 0 {
				h.Timeout = tc.timeout
			}
			c.Held = []HeldConfig{h}
			p, err := New(c, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			var held []record.Held
			if err := p.Run(ctx, func(l record.Line) {
				if l.Held != nil {
					held = append(held, *l.Held)
					cancel()
				}
			}); err != nil {
				t.Fatal(err)
			}
			if len(held) == 0 {
				t.Fatal("no end of a held connection was recorded")
			}
			if got := held[0]; got.Outcome != tc.outcome || got.Exchanges != tc.count || got.Peer != "10.0.1.2" || got.Stage != record.Established {
				t.Errorf("%+v; want %s after %d exchanges through 10.0.1.2", got, tc.outcome, tc.count)
			}
		})
	}
}

func TestHeldConnectionsThatLiveToTheEndAreOK(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := config(server(t, answerWith(good)))
	c.Count = 0
	c.Held = []HeldConfig{{Protocol: HeldEcho, Count: 3, Timeout: 10 * time.Second, Target: server(t, func(n int, conn *net.TCPConn) {
		_, _ = io.WriteString(conn, "b2 10.0.2.2:1\n")
		_, err := io.CopyN(conn, conn, 40)
		if err == nil && n == 2 {
			cancel()
		}
		_, _ = io.Copy(conn, conn)
	})}}
	begin, _, held, _ := run(t, ctx, c)
	if begin.Held != 3 || len(held) != 3 {
		t.Fatalf("%d held connections announced, %d recorded; want 3", begin.Held, len(held))
	}
	for _, h := range held {
		if h.Outcome != record.OK {
			t.Errorf("slot %d: %s (%s)", h.Slot, h.Outcome, h.Detail)
		}
	}
}

func TestConnectOutcome(t *testing.T) {
	for err, want := range map[unix.Errno]record.Outcome{
		unix.ECONNREFUSED: record.Refused, unix.ECONNRESET: record.Reset, unix.ETIMEDOUT: record.TimedOut,
		unix.ENETUNREACH: record.Unreachable, unix.EHOSTUNREACH: record.Unreachable, unix.EACCES: record.Unreachable,
		unix.EADDRNOTAVAIL: record.NotSent, unix.EMFILE: record.NotSent,
	} {
		if got := connectOutcome(err); got != want {
			t.Errorf("connectOutcome(%v) = %s, want %s", err, got, want)
		}
	}
}

func TestValidateNamesEveryFaultyField(t *testing.T) {
	err := Config{Path: "x y", Host: "a b", Count: -1, Held: []HeldConfig{{Protocol: "smtp", Every: -1}, {Protocol: HeldEcho, Count: 1, Timeout: time.Second}}}.Validate()
	if err == nil {
		t.Fatal("an empty configuration is accepted")
	}
	for _, field := range []string{
		"target", "interval", "timeout", "duration", "count", "max_in_flight", "expect_status", "path", "host",
		"held[0].protocol", "held[0].count", "held[0].every", "held[0].timeout", "held[1].target",
	} {
		if !strings.Contains("\n"+err.Error(), "\n"+field+": ") {
			t.Errorf("%s is not among the faults:\n%v", field, err)
		}
	}
	if err := config(netip.MustParseAddrPort("127.0.0.1:80")).Validate(); err != nil {
		t.Errorf("a good one is refused: %v", err)
	}
}

// BenchmarkProbe is the cost of one probe, client side (and the test server's).
func BenchmarkProbe(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	go func() {
		buf := make([]byte, 4096)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(buf)
			_, _ = io.WriteString(c, good)
			_ = c.Close()
		}
	}()
	c := config(l.Addr().(*net.TCPAddr).AddrPort())
	c.Count, c.Interval, c.Duration = b.N, 100*time.Microsecond, time.Hour
	p, err := New(c, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	if err := p.Run(b.Context(), func(record.Line) {}); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(cpuTime())/float64(b.N), "cpu-ns/probe")
}
