package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
)

// hold opens connections that have had one answer each, and measures what they
// take of the proxy's memory.
func (b *box) hold(ctx context.Context, n int, name string, p *process) (Sample, error) {
	n = min(n, b.idle(name))
	var open []net.Conn
	defer func() {
		for _, c := range open {
			_ = c.Close()
		}
	}()
	add := func(n int) error {
		for range n {
			c, err := b.idleConnection(ctx)
			if err != nil {
				return fmt.Errorf("connection %d: %w", len(open)+1, err)
			}
			open = append(open, c)
		}
		return nil
	}
	// The first ones touch what is there whatever the number.
	if err := add(n / 20); err != nil {
		return Sample{}, err
	}
	before, err := p.memory()
	if err != nil {
		return Sample{}, err
	}
	first := len(open)
	if err := add(n - first); err != nil {
		return Sample{}, err
	}
	after, err := p.memory()
	if err != nil {
		return Sample{}, err
	}
	return Sample{Units: n, Memory: (after - before) / int64(n-first)}, nil
}

// idle is how many connections a proxy can hold with the descriptors that there
// are: HAProxy asks for two for each that it may have.
func (b *box) idle(proxy string) int {
	if proxy == "haproxy" {
		return (b.files - 1000) / 2
	}
	return b.files - 1000
}

// idleConnection is a connection on which one request was answered.
func (b *box) idleConnection(ctx context.Context) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", fmt.Sprintf("%s:%d", vip, httpPort))
	if err != nil {
		return nil, err
	}
	_ = c.(*net.TCPConn).SetLinger(0)
	_, err = io.WriteString(c, "GET /small HTTP/1.1\r\nHost: bench.example\r\n\r\n")
	answer := make([]byte, 4096)
	for read := 0; err == nil; {
		var n int
		n, err = c.Read(answer[read:])
		if read += n; bytes.HasSuffix(answer[:read], []byte("xxxx")) && bytes.HasPrefix(answer, []byte("HTTP/1.1 200")) {
			return c, nil
		}
	}
	_ = c.Close()
	return nil, err
}

// memory is what the program's processes take, each page that they share
// counted once (Pss), bytes.
func (p *process) memory() (int64, error) {
	var sum int64
	for _, pid := range p.pids() {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return 0, err
		}
		for line := range bytes.Lines(text) {
			f := bytes.Fields(line)
			if len(f) == 3 && string(f[0]) == "Pss:" {
				n, err := strconv.ParseInt(string(f[1]), 10, 64)
				if err != nil {
					return 0, err
				}
				sum += n << 10
			}
		}
	}
	if sum == 0 {
		return 0, errors.New("the kernel tells nothing of the processes' memory")
	}
	return sum, nil
}
