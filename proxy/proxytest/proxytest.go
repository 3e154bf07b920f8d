// Package proxytest is what tests of the proxy's packages share: servers over
// loopback, the engines that work here, and waiting.
package proxytest

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/proxy/l7/engine/choice"
	"github.com/pharos-lb/pharos/proxy/l7/engine/uring"
)

// Patience bounds each wait: far more than a slow machine needs.
const Patience = 20 * time.Second

// EachEngine runs a test on each engine, but for io_uring where the kernel
// refuses it.
func EachEngine(t *testing.T, test func(t *testing.T, kind choice.Kind)) {
	for _, kind := range []choice.Kind{choice.Epoll, choice.IOUring} {
		t.Run(string(kind), func(t *testing.T) {
			var refused *uring.NotAllowedError
			if _, err := choice.Make(kind); errors.As(err, &refused) {
				t.Skip(err)
			}
			test(t, kind)
		})
	}
}

// Eventually waits until ok reports true; it is for what has no event to wait
// for.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(Patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain: %s", Patience, what)
		}
		time.Sleep(time.Millisecond) // between looks; nothing depends on its length
	}
}

// TCP serves each connection with handle, and closes it then, until the test
// ends.
func TCP(t testing.TB, handle func(*net.TCPConn)) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				handle(c.(*net.TCPConn))
			}()
		}
	}()
	return ln.Addr().(*net.TCPAddr).AddrPort()
}

// Echo answers with what it reads, until the other side ends.
func Echo(c *net.TCPConn) { _, _ = io.Copy(c, c) }

// UDP answers each datagram with a name and the datagram, until the test ends.
// At is where, with port 0 for any.
func UDP(t testing.TB, at, name string) (netip.AddrPort, *net.UDPConn) {
	t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(at)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	go func() {
		b := make([]byte, 64<<10)
		for {
			n, from, err := c.ReadFromUDPAddrPort(b)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				_, _ = c.WriteToUDPAddrPort(append([]byte(name), b[:n]...), from)
			}
		}
	}()
	return c.LocalAddr().(*net.UDPAddr).AddrPort(), c
}
