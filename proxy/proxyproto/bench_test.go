package proxyproto

import "testing"

var work = func() map[string]func() bool {
	buf := make([]byte, 0, 1024)
	extra := Extra{Authority: []byte("api.example.com"), UniqueID: []byte("0123456789abcdef"), Checksum: true}
	full, err := AppendV2(nil, six, extra)
	if err != nil {
		panic(err)
	}
	parse := func(b []byte) func() bool {
		return func() bool {
			_, n, err := Parse(b)
			return n == len(b) && err == nil
		}
	}
	few, refused := []byte("PROXY TCP4 192.0.2.1"), []byte(signature2+"\x00")
	return map[string]func() bool{
		"parse v1 IPv4":     parse([]byte("PROXY TCP4 192.0.2.1 198.51.100.2 12345 443\r\n")),
		"parse v1 IPv6":     parse([]byte("PROXY TCP6 2001:db8:1111:2222:3333:4444:5555:6666 2001:db8:1111:2222:3333:4444:5555:7777 12345 443\r\n")),
		"parse v2 IPv4":     parse([]byte(raw(0x21, 0x11, block4))),
		"parse v2 IPv6":     parse([]byte(raw(0x21, 0x21, block6))),
		"parse v2 TLVs":     parse(full),
		"append v1":         func() bool { buf = AppendV1(buf[:0], four.Source, four.Destination); return len(buf) > 0 },
		"append v2":         func() bool { buf, _ = AppendV2(buf[:0], four, Extra{}); return len(buf) > 0 },
		"append v2 of all":  func() bool { buf, _ = AppendV2(buf[:0], six, extra); return len(buf) > 0 },
		"parse v1, too few": func() bool { _, n, err := Parse(few); return n == 0 && err == nil },
		"parse v2, refused": func() bool { _, _, err := Parse(refused); return err == ErrVersion },
	}
}()

func TestNothingAllocates(t *testing.T) {
	for name, do := range work {
		if !do() {
			t.Fatalf("%s fails", name)
		}
		if n := testing.AllocsPerRun(1000, func() { do() }); n != 0 {
			t.Errorf("%s: %v allocations, want 0", name, n)
		}
	}
}

func BenchmarkCodec(b *testing.B) {
	for name, do := range work {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				do()
			}
		})
	}
}
