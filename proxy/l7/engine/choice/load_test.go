package choice_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The benchmark's client and server are processes of their own, so that what
// the benchmark's process uses is the proxy's alone. They are this program,
// told by the environment what to be.
const roleVariable = "PHAROS_BENCHMARK_ROLE"

func TestMain(m *testing.M) {
	var err error
	switch os.Getenv(roleVariable) {
	case "":
		os.Exit(m.Run())
	case "origin":
		err = originMain()
	case "client":
		err = clientMain()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// process is one of them: a line in is answered by a line out.
type process struct {
	in  io.WriteCloser
	out *bufio.Scanner
}

func spawn(b *testing.B, role string) *process {
	b.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = in.Close() // its end
		if err := cmd.Wait(); err != nil {
			b.Errorf("%s: %v", role, err)
		}
	})
	return &process{in, bufio.NewScanner(out)}
}

func (p *process) line(b *testing.B) string {
	b.Helper()
	if !p.out.Scan() {
		b.Fatalf("a process of the benchmark ended: %v", p.out.Err())
	}
	return p.out.Text()
}

// originMain answers every request with as many bytes as its path says.
func originMain() error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(ln.Addr())
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go serve(c)
		}
	}()
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func serve(c net.Conn) {
	defer func() { _ = c.Close() }()
	responses := map[string][]byte{}
	b := make([]byte, 4096)
	n := 0
	for {
		k, err := c.Read(b[n:])
		if err != nil {
			return
		}
		n += k
		if !bytes.HasSuffix(b[:n], []byte("\r\n\r\n")) {
			continue
		}
		path, _, _ := bytes.Cut(b[len("GET /"):n], []byte(" "))
		n = 0
		res, ok := responses[string(path)]
		if !ok {
			size := 0
			_, _ = fmt.Sscan(string(path), &size)
			res = fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nServer: origin\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n", size)
			res = append(res, make([]byte, size)...)
			responses[string(path)] = res
		}
		if _, err := c.Write(res); err != nil {
			return
		}
	}
}

// clientMain takes lines "address size connections requests", makes so many
// requests over so many connections, kept between lines, and answers with the
// nanoseconds that this took.
func clientMain() error {
	pools := map[string][]net.Conn{}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var addr string
		var size, conns, requests int
		if _, err := fmt.Sscan(in.Text(), &addr, &size, &conns, &requests); err != nil {
			return err
		}
		for len(pools[addr]) < conns {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				return err
			}
			pools[addr] = append(pools[addr], c)
		}
		began := time.Now()
		if err := ask(pools[addr][:conns], size, requests); err != nil {
			return err
		}
		fmt.Println(time.Since(began).Nanoseconds())
	}
	return in.Err()
}

func ask(conns []net.Conn, size, requests int) error {
	request := fmt.Appendf(nil, "GET /%d HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: benchmark\r\nAccept: */*\r\n\r\n", size)
	var left atomic.Int64
	left.Store(int64(requests))
	errs := make([]error, len(conns))
	var group sync.WaitGroup
	for i, c := range conns {
		group.Go(func() {
			b := make([]byte, 64<<10)
			for left.Add(-1) >= 0 && errs[i] == nil {
				errs[i] = exchange(c, request, b, size)
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

func exchange(c net.Conn, request, b []byte, size int) error {
	if _, err := c.Write(request); err != nil {
		return err
	}
	for n, head := 0, 0; head == 0 || n < head+size; {
		k, err := c.Read(b[n:])
		if err != nil {
			return err
		}
		n += k
		if head == 0 {
			if end := bytes.Index(b[:n], []byte("\r\n\r\n")); end > 0 {
				head = end + 4
			}
		}
	}
	if !strings.HasPrefix(string(b[:16]), "HTTP/1.1 200 OK") {
		return fmt.Errorf("answered %q", b[:16])
	}
	return nil
}
