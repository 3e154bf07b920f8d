package handover

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

func TestMessagesAreReadBack(t *testing.T) {
	port := rapid.Custom(func(t *rapid.T) netip.AddrPort {
		b := rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "address")
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b)), rapid.Uint16().Draw(t, "port"))
	})
	rapid.Check(t, func(t *rapid.T) {
		want := Message{Kind: Take, Version: rapid.String().Draw(t, "version"), Revision: rapid.Uint64().Draw(t, "revision")}
		for range rapid.IntRange(0, 5).Draw(t, "sockets") {
			want.Sockets = append(want.Sockets, Socket{Use: Traffic, Transport: "tcp", Address: port.Draw(t, "socket")})
		}
		for range rapid.IntRange(0, 3).Draw(t, "sessions") {
			want.Sessions = append(want.Sessions, Session{
				Neighbor: rapid.String().Draw(t, "neighbor"), Ours: rapid.SliceOfN(rapid.Byte(), 1, 60).Draw(t, "ours"),
				Told: []netip.Prefix{netip.PrefixFrom(port.Draw(t, "told").Addr(), 32)}, Since: time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "since"), 0).UTC(),
			})
		}
		header, body, err := want.encode()
		if err != nil {
			t.Fatal(err)
		}
		length, descriptors, err := decodeHeader(header)
		if err != nil || length != len(body) {
			t.Fatalf("header: %d octets of %d, %v", length, len(body), err)
		}
		got, err := decode(body, descriptors)
		if err != nil || !reflect.DeepEqual(got, valid(want)) {
			t.Fatalf("%+v is read back as %+v, %v", want, got, err)
		}
	})
}

// valid is m as JSON can carry it: text that is not UTF-8 is mended.
func valid(m Message) Message {
	m.Version = strings.ToValidUTF8(m.Version, "\ufffd")
	for i := range m.Sessions {
		m.Sessions[i].Neighbor = strings.ToValidUTF8(m.Sessions[i].Neighbor, "\ufffd")
	}
	return m
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"kind":"ready","version":"v1"}`), 0)
	f.Add([]byte(`{"kind":"take","sockets":[{"use":"traffic","transport":"tcp","address":"127.0.0.1:80"}]}`), 1)
	f.Add([]byte(`{"kind":"sessions","sessions":[{"neighbor":"tor1","ours":"AA==","told":["198.51.100.1/32"],"since":"2026-11-25T00:00:00Z"}]}`), 1)
	f.Add([]byte(`{}`), 0)
	f.Fuzz(func(t *testing.T, body []byte, descriptors int) {
		m, err := decode(body, descriptors)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Errorf("%v is not ErrFormat", err)
			}
			return
		}
		if m.Kind == "" || len(m.Sockets)+len(m.Sessions) != descriptors {
			t.Errorf("taken, with %d descriptors: %+v", descriptors, m)
		}
		if _, _, err := m.encode(); err != nil {
			t.Errorf("read, and cannot be written: %v", err)
		}
	})
}

// pair is two ends of a line in one process.
func pair(t *testing.T) (a, b *Conn) {
	t.Helper()
	a, file, err := newPair()
	if err != nil {
		t.Fatal(err)
	}
	b, err = connOf(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close(); _ = b.Close() })
	return a, b
}

func TestDescriptorsComeInTheirOrder(t *testing.T) {
	for _, n := range []int{0, 1, batch, batch + 1, 3*batch - 1} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			a, b := pair(t)
			m := Message{Kind: Take}
			var files []*os.File
			var fds []int
			for i := range n {
				f, err := os.Create(filepath.Join(t.TempDir(), "f"))
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				files, fds = append(files, f), append(fds, int(f.Fd()))
				m.Sockets = append(m.Sockets, Socket{Use: Traffic, Address: netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(i+1))})
			}
			sent := make(chan error, 1)
			go func() { sent <- errors.Join(a.Send(m, fds...), a.Send(Message{Kind: Released})) }()
			got, received, err := b.Receive(t.Context())
			if err != nil || len(received) != n || len(got.Sockets) != n {
				t.Fatalf("%d sockets, %d descriptors, %v", len(got.Sockets), len(received), err)
			}
			defer closeAll(received)
			for i, fd := range received {
				var have unix.Stat_t
				if err := unix.Fstat(fd, &have); err != nil {
					t.Fatal(err)
				}
				var want unix.Stat_t
				if err := unix.Fstat(int(files[i].Fd()), &want); err != nil {
					t.Fatal(err)
				}
				if have.Ino != want.Ino || have.Dev != want.Dev {
					t.Fatalf("descriptor %d is of another file", i)
				}
				if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
					t.Fatalf("descriptor %d outlives an exec", i)
				}
			}
			if next, _, err := b.Receive(t.Context()); err != nil || next.Kind != Released {
				t.Errorf("the next message: %+v, %v", next, err)
			}
			if err := <-sent; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestReceiveRefuses(t *testing.T) {
	header := func(length, descriptors uint32) []byte {
		return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, length), descriptors)
	}
	for _, tt := range []struct {
		name string
		sent []byte
		want error
	}{
		{"the end", nil, io.EOF},
		{"half a header", header(2, 0)[:5], io.EOF},
		{"a message cut short", append(header(20, 0), `{"kind"`...), io.EOF},
		{"a length beyond all bounds", header(1<<31, 0), ErrFormat},
		{"descriptors beyond all bounds", header(2, 1<<31), ErrFormat},
		{"descriptors that do not come", append(header(16, 1), "F"+`{"kind":"ready"}`...), ErrFormat},
		{"no JSON", append(header(4, 0), "what"...), ErrFormat},
		{"no kind", append(header(2, 0), "{}"...), ErrFormat},
		{"sockets without descriptors", append(header(31, 0), `{"kind":"take","sockets":[{  }]}`[:31]...), ErrFormat},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, b := pair(t)
			if _, err := a.conn.Write(tt.sent); err != nil {
				t.Fatal(err)
			}
			_ = a.conn.CloseWrite()
			if m, _, err := b.Receive(t.Context()); !errors.Is(err, tt.want) {
				t.Errorf("got %+v, %v, want %v", m, err, tt.want)
			}
		})
	}
	t.Run("for longer than asked", func(t *testing.T) {
		_, b := pair(t)
		cause := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		if _, _, err := b.Receive(ctx); !errors.Is(err, cause) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("descriptors that the message does not name are not sent", func(t *testing.T) {
		a, _ := pair(t)
		if err := a.Send(Message{Kind: Released}, 0); err == nil {
			t.Error("sent")
		}
	})
}
