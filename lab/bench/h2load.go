package bench

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// h2load is a load of HTTP/2 requests, or of HTTP/1.1 ones at a rate, by
// h2load(1).
type h2load struct {
	port        int
	path        string
	connections int
	streams     int // at one time on each; 0: one
	secure      bool
	http1       bool
}

var (
	h2loadTook  = regexp.MustCompile(`(?m)^finished in ([\d.]+\w+),`)
	h2loadCount = regexp.MustCompile(`(?m)^requests: \d+ total, \d+ started, (\d+) done, \d+ succeeded, (\d+) failed, (\d+) errored, (\d+) timeout`)
)

func (h h2load) run(ctx context.Context, b *box, cores string, d time.Duration) (Sample, error) {
	scheme := "http"
	if h.secure {
		scheme = "https"
	}
	log := filepath.Join(b.dir, "h2load.log")
	if err := os.RemoveAll(log); err != nil {
		return Sample{}, err
	}
	args := []string{
		"-c", cores, "h2load", "-t", "2", "-c", strconv.Itoa(h.connections), "-m", strconv.Itoa(max(h.streams, 1)),
		"-D", strconv.Itoa(int(d.Seconds())), "--log-file", log,
	}
	if h.http1 {
		args = append(args, "--h1")
	}
	if b.rate > 0 {
		args = append(args, "--rps", fmt.Sprintf("%.1f", b.rate/float64(h.connections)))
	}
	args = append(args, fmt.Sprintf("%s://%s:%d%s", scheme, vip, h.port, h.path))
	out, err := exec.CommandContext(ctx, "taskset", args...).CombinedOutput()
	if err != nil {
		return Sample{}, fmt.Errorf("h2load: %w: %s", err, out)
	}
	s, err := parseH2load(string(out))
	if err != nil {
		return s, err
	}
	latencies, err := os.ReadFile(log)
	if err != nil {
		return s, err
	}
	s.P50, s.P99, err = percentiles(latencies)
	return s, err
}

// parseH2load reads what h2load prints.
func parseH2load(out string) (Sample, error) {
	var s Sample
	took, count := h2loadTook.FindStringSubmatch(out), h2loadCount.FindStringSubmatch(out)
	if took == nil || count == nil {
		return s, fmt.Errorf("h2load printed %q", out)
	}
	var err error
	if s.Took, err = time.ParseDuration(took[1]); err != nil {
		return s, fmt.Errorf("h2load printed %q", out)
	}
	s.Units, _ = strconv.Atoi(count[1])
	for _, text := range count[2:] {
		n, _ := strconv.Atoi(text)
		s.Failed += n
	}
	if s.Units == 0 {
		return s, fmt.Errorf("no request was answered: %s", out)
	}
	return s, nil
}

// percentiles reads h2load's log: for each request the time of its start, its
// status and the microseconds that it took.
func percentiles(log []byte) (p50, p99 time.Duration, err error) {
	var all []int
	for line := range bytes.Lines(log) {
		f := bytes.Fields(line)
		if len(f) != 3 {
			continue // the last one may be cut
		}
		n, err := strconv.Atoi(string(f[2]))
		if err != nil {
			return 0, 0, fmt.Errorf("h2load logged %q", line)
		}
		all = append(all, n)
	}
	if len(all) == 0 {
		return 0, 0, fmt.Errorf("h2load logged nothing")
	}
	slices.Sort(all)
	at := func(share float64) time.Duration {
		return time.Duration(all[int(share*float64(len(all)-1))]) * time.Microsecond
	}
	return at(0.5), at(0.99), nil
}
