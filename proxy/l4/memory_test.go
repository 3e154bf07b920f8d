package l4

import (
	"net"
	"net/netip"
	"runtime"
	"runtime/debug"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pharos-lb/pharos/proxy/l7/engine/choice"
	"github.com/pharos-lb/pharos/proxy/proxytest"
)

// Idle connections, 10,000 or as many as there are descriptors for, cost at most
// 8 KiB each, of this process. The other ends are bare descriptors, which cost
// it next to nothing.
func TestMemoryOfAnIdleConnection(t *testing.T) {
	proxytest.EachEngine(t, testMemoryOfAnIdleConnection)
}

func testMemoryOfAnIdleConnection(t *testing.T, kind choice.Kind) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur < 5000 || testing.Short() {
		t.Skipf("%d descriptors are allowed", limit.Cur)
	}
	connections := min(10000, int(limit.Cur-1000)/4)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	raw, err := ln.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = raw.Close() }()
	if err := unix.SetNonblock(int(raw.Fd()), false); err != nil {
		t.Fatal(err)
	}
	f, _, address := serve(t, kind, 100*patience, ln.Addr().(*net.TCPAddr).AddrPort())
	to := netip.MustParseAddrPort(address)
	var ends []int
	defer func() {
		for _, fd := range ends {
			_ = unix.Close(fd)
		}
	}()
	connect := func() {
		client, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, client)
		if err := unix.Connect(client, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}); err != nil {
			t.Fatal(err)
		}
		server, _, err := unix.Accept(int(raw.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, server)
		// Once there and back, so that buffers were needed.
		var b [4]byte
		for _, way := range [][2]int{{client, server}, {server, client}} {
			if _, err := unix.Write(way[0], []byte("ping")); err != nil {
				t.Fatal(err)
			}
			if n, err := unix.Read(way[1], b[:]); n != len(b) || err != nil {
				t.Fatalf("%d bytes arrived, %v", n, err)
			}
		}
	}
	connect()            // what is made once
	debug.FreeOSMemory() // what other tests have left could be used again, unseen
	before := resident(t)
	for range connections {
		connect()
	}
	if n := f.Open(); n != connections+1 {
		t.Fatalf("%d connections are open, want %d", n, connections+1)
	}
	runtime.GC()
	each := (resident(t) - before) / connections
	t.Logf("%d bytes for each of %d connections", each, connections)
	if each > 8<<10 {
		t.Errorf("%d bytes for each connection, want at most 8 KiB", each)
	}
}
