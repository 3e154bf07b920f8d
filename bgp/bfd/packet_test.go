package bfd

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// good is a packet as FRR 8.4 sends it.
func good() []byte {
	return []byte{0x20, 0xc0, 3, 24, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0xc3, 0x50, 0, 0, 0xc3, 0x50, 0, 0, 0xc3, 0x50}
}

// RFC 5880 4.1.
func TestPacketIsRead(t *testing.T) {
	got, err := Parse(good())
	want := Packet{
		State: Up, DetectMult: 3, MyDiscriminator: 0x01020304, YourDiscriminator: 0x05060708,
		DesiredMinTx: 50 * time.Millisecond, RequiredMinRx: 50 * time.Millisecond, RequiredMinEchoRx: 50 * time.Millisecond,
	}
	if err != nil || got != want {
		t.Errorf("%v, %v", got, err)
	}
}

// RFC 5880 6.8.6, the checks that need no session.
func TestBadPacketsAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func([]byte) []byte
		want   error
	}{
		"empty":                           {func([]byte) []byte { return nil }, errShort},
		"cut":                             {func(b []byte) []byte { return b[:23] }, errShort},
		"version 0":                       {func(b []byte) []byte { b[0] = 0; return b }, errVersion},
		"version 2":                       {func(b []byte) []byte { b[0] = 0x40; return b }, errVersion},
		"length too small":                {func(b []byte) []byte { b[3] = 23; return b }, errShort},
		"length beyond the payload":       {func(b []byte) []byte { b[3] = 25; return b }, errShort},
		"authenticated, length too small": {func(b []byte) []byte { b[1] |= flagAuthenticated; return append(b, 1, 2) }, errShort},
		"authenticated":                   {func(b []byte) []byte { b[1] |= flagAuthenticated; b[3] = 26; return append(b, 1, 2) }, errAuthenticated},
		"detect multiplier 0":             {func(b []byte) []byte { b[2] = 0; return b }, errDetectMult},
		"multipoint":                      {func(b []byte) []byte { b[1] |= flagMultipoint; return b }, errMultipoint},
		"my discriminator 0":              {func(b []byte) []byte { clear(b[4:8]); return b }, errMyDiscr},
		"your discriminator 0 in Up":      {func(b []byte) []byte { clear(b[8:12]); return b }, errYourDiscr},
		"your discriminator 0 in Init":    {func(b []byte) []byte { clear(b[8:12]); b[1] = 0x80; return b }, errYourDiscr},
		"your discriminator 0 in Down":    {func(b []byte) []byte { clear(b[8:12]); b[1] = 0x40; return b }, nil},
		"your discriminator 0, AdminDown": {func(b []byte) []byte { clear(b[8:12]); b[1] = 0; return b }, nil},
		"octets behind its length":        {func(b []byte) []byte { return append(b, 0xff) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Parse(c.change(good())); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Errorf("error %v, want %v", err, c.want)
			}
		})
	}
}

func anyPacket(t *rapid.T) Packet {
	micro := rapid.Custom(func(t *rapid.T) time.Duration { return time.Duration(rapid.Uint32().Draw(t, "µs")) * time.Microsecond })
	return Packet{
		Diag:  Diag(rapid.IntRange(0, 31).Draw(t, "diag")),
		State: State(rapid.IntRange(0, 3).Draw(t, "state")),
		Poll:  rapid.Bool().Draw(t, "poll"), Final: rapid.Bool().Draw(t, "final"),
		Independent: rapid.Bool().Draw(t, "independent"), Demand: rapid.Bool().Draw(t, "demand"),
		DetectMult:        rapid.Uint8Min(1).Draw(t, "multiplier"),
		MyDiscriminator:   rapid.Uint32Min(1).Draw(t, "mine"),
		YourDiscriminator: rapid.Uint32Min(1).Draw(t, "yours"),
		DesiredMinTx:      micro.Draw(t, "tx"), RequiredMinRx: micro.Draw(t, "rx"), RequiredMinEchoRx: micro.Draw(t, "echo"),
	}
}

func TestPacketsAreReadAsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := anyPacket(t)
		got, err := Parse(want.Append(nil))
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Fatalf("%v\n%s", err, diff)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add(good())
	f.Add(append(good(), 1, 2, 3))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse(b)
		if err != nil {
			if p != (Packet{}) {
				t.Errorf("%v beside an error", p)
			}
			return
		}
		again := p.Append(nil)
		back, err := Parse(again)
		if err != nil || back != p {
			t.Errorf("%v is read back as %v, %v", p, back, err)
		}
		// But for its length, which Append sets to 24, nothing is lost.
		again[3] = b[3]
		if string(again) != string(b[:lengthMandatory]) {
			t.Errorf("%x is written as %x", b[:lengthMandatory], again)
		}
		if p.String() == "" {
			t.Error("no words for it")
		}
	})
}
