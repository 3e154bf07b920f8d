package bench

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"time"
)

// The service under test, the same for every proxy.
const (
	vip       = "198.51.100.1"
	httpPort  = 8080
	httpsPort = 8443
	tcpPort   = 8081
	grpcPort  = 8082
)

// load is what sends the units of a case for a while, and counts them.
type load interface {
	run(ctx context.Context, b *box, cores string, d time.Duration) (Sample, error)
}

// wrk is a closed loop of HTTP/1.1 requests by wrk(1).
type wrk struct {
	port        int
	path        string
	connections int
	secure      bool
	close       bool   // a new connection for each request
	cookie      string // sent with each
}

var (
	wrkTotal   = regexp.MustCompile(`(?m)^ +(\d+) requests in ([\d.]+\w+),`)
	wrkP50     = regexp.MustCompile(`(?m)^ +50% +([\d.]+\w+)`)
	wrkP99     = regexp.MustCompile(`(?m)^ +99% +([\d.]+\w+)`)
	wrkErrors  = regexp.MustCompile(`(?m)^ +Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)`)
	wrkRefused = regexp.MustCompile(`(?m)^ +Non-2xx or 3xx responses: (\d+)`)
)

func (w wrk) run(ctx context.Context, b *box, cores string, d time.Duration) (Sample, error) {
	scheme := "http"
	if w.secure {
		scheme = "https"
	}
	threads := min(2, w.connections)
	args := []string{
		"-c", cores, "wrk", "-t", strconv.Itoa(threads), "-c", strconv.Itoa(w.connections), "-d", fmt.Sprintf("%ds", int(d.Seconds())), "--latency",
	}
	if w.close {
		args = append(args, "-H", "Connection: close")
	}
	if w.cookie != "" {
		args = append(args, "-H", "Cookie: "+w.cookie)
	}
	args = append(args, fmt.Sprintf("%s://%s:%d%s", scheme, vip, w.port, w.path))
	out, err := exec.CommandContext(ctx, "taskset", args...).CombinedOutput()
	if err != nil {
		return Sample{}, fmt.Errorf("wrk: %w: %s", err, out)
	}
	return parseWrk(string(out), w.close)
}

// parseWrk reads what wrk prints. With a new connection for each request, wrk
// counts the server's closing as a read error.
func parseWrk(out string, closes bool) (Sample, error) {
	var s Sample
	m := wrkTotal.FindStringSubmatch(out)
	if m == nil {
		return s, fmt.Errorf("wrk printed %q", out)
	}
	s.Units, _ = strconv.Atoi(m[1])
	s.Took, _ = time.ParseDuration(m[2])
	if m := wrkP50.FindStringSubmatch(out); m != nil {
		s.P50, _ = time.ParseDuration(m[1])
	}
	if m := wrkP99.FindStringSubmatch(out); m != nil {
		s.P99, _ = time.ParseDuration(m[1])
	}
	if m := wrkErrors.FindStringSubmatch(out); m != nil {
		for i, text := range m[1:] {
			if n, _ := strconv.Atoi(text); !closes || i != 1 {
				s.Failed += n
			}
		}
	}
	if m := wrkRefused.FindStringSubmatch(out); m != nil {
		n, _ := strconv.Atoi(m[1])
		s.Failed += n
	}
	if s.Units == 0 {
		return s, fmt.Errorf("no request was answered: %s", out)
	}
	return s, nil
}
