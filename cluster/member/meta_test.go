package member

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func full() Meta {
	return Meta{
		Control: "192.0.2.1:7443", Addresses: []string{"192.0.2.1", "2001:db8::1"},
		Ready: true, Draining: true, AppliedVersion: 1 << 40, Load: 0.125,
		Unwell: []uint32{VIPHash("web"), VIPHash("dns")},
	}
}

func TestMetaRoundTrip(t *testing.T) {
	for name, m := range map[string]Meta{
		"empty": {}, "full": full(), "overloaded": {Load: 12.5},
		"ready": {Ready: true}, "nothing well": {AllUnwell: true}, "draining": {Draining: true},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := m.encode()
			if err != nil {
				t.Fatal(err)
			}
			got, err := decodeMeta(b)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(m, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestMetaWithoutANumberForLoadIsZero(t *testing.T) {
	for _, load := range []float64{math.NaN(), math.Inf(-1), -1} {
		b, err := Meta{Load: load}.encode()
		if err != nil {
			t.Fatal(err)
		}
		if m, err := decodeMeta(b); err != nil || m.Load != 0 {
			t.Errorf("%v became %v, %v", load, m.Load, err)
		}
	}
}

func TestMetaTooLong(t *testing.T) {
	for name, m := range map[string]Meta{
		"one field":       {Control: strings.Repeat("x", 256)},
		"all of them":     {Addresses: []string{strings.Repeat("x", 255), strings.Repeat("y", 255)}},
		"many and little": {Addresses: make([]string, 300)},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := m.encode(); !errors.Is(err, ErrMetaTooLong) {
				t.Errorf("error %v, want ErrMetaTooLong", err)
			}
		})
	}
}

func TestMetaRefusesWhatItCannotRead(t *testing.T) {
	for name, b := range map[string][]byte{
		"nothing":            nil,
		"another version":    {2},
		"a tag alone":        {metaVersion, tagControl},
		"a field cut short":  {metaVersion, tagControl, 5, 'a'},
		"no flags":           {metaVersion, tagFlags, 0},
		"an endless number":  append([]byte{metaVersion, tagApplied, 11}, bytes.Repeat([]byte{0x80}, 11)...),
		"a number and more":  {metaVersion, tagApplied, 2, 1, 1},
		"a load of one byte": {metaVersion, tagLoad, 1, 1},
		"half a VIP":         {metaVersion, tagUnwell, 2, 1, 1},
		"too many VIPs":      append([]byte{metaVersion, tagUnwell, 4*maxUnwell + 4}, make([]byte, 4*maxUnwell+4)...),
	} {
		t.Run(name, func(t *testing.T) {
			if m, err := decodeMeta(b); !errors.Is(err, ErrMetaFormat) {
				t.Errorf("%+v, %v, want ErrMetaFormat", m, err)
			}
		})
	}
}

func TestMetaSkipsFieldsOfANewerVersion(t *testing.T) {
	b, err := full().encode()
	if err != nil {
		t.Fatal(err)
	}
	newer := append([]byte{metaVersion, 200, 3, 'n', 'e', 'w'}, b[1:]...)
	got, err := decodeMeta(newer)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(full(), got); diff != "" {
		t.Error(diff)
	}
}

func FuzzDecodeMeta(f *testing.F) {
	b, err := full().encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{metaVersion})
	f.Add([]byte{metaVersion, tagApplied, 1, 0x80})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMeta(b)
		if err != nil {
			return
		}
		again, err := m.encode()
		if errors.Is(err, ErrMetaTooLong) {
			return // unknown fields or repeats made room that ours need not fit in
		}
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeMeta(again)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(m, got); diff != "" {
			t.Error(diff)
		}
	})
}

func FuzzDecodeClock(f *testing.F) {
	f.Add(encodeClock(time.Unix(1, 2)))
	f.Add([]byte{clockVersion})
	f.Fuzz(func(t *testing.T, b []byte) {
		if at, ok := decodeClock(b); ok && !bytes.Equal(encodeClock(at), b) {
			t.Errorf("%x is not what %v encodes to", b, at)
		}
	})
}

func TestWhichVIPsAreWell(t *testing.T) {
	many := Meta{AppliedVersion: 1, Unwell: make([]uint32, maxUnwell+1)}
	b, err := many.encode()
	if err != nil {
		t.Fatal(err)
	}
	if many, err = decodeMeta(b); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		meta Meta
		want bool
	}{
		"runs nothing":         {Meta{}, false},
		"all":                  {Meta{AppliedVersion: 1}, true},
		"all but another":      {Meta{AppliedVersion: 1, Unwell: []uint32{VIPHash("dns")}}, true},
		"not this one":         {Meta{AppliedVersion: 1, Unwell: []uint32{VIPHash("dns"), VIPHash("web")}}, false},
		"none":                 {Meta{AppliedVersion: 1, AllUnwell: true}, false},
		"too many to be named": {many, false},
	} {
		if got := c.meta.Well("web"); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestDue(t *testing.T) {
	ready := Meta{Ready: true}
	for name, c := range map[string]struct {
		sent, want Meta
		since      time.Duration
		wait       time.Duration
		tell       bool
	}{
		"nothing changed":                 {since: time.Hour},
		"readiness, long after":           {want: ready, since: time.Minute, tell: true},
		"readiness, in a burst":           {want: ready, since: 5 * time.Millisecond, wait: 15 * time.Millisecond, tell: true},
		"an address":                      {want: Meta{Addresses: []string{"a"}}, since: time.Minute, tell: true},
		"a version":                       {want: Meta{AppliedVersion: 1}, since: time.Minute, tell: true},
		"a VIP that is not well":          {want: Meta{Unwell: []uint32{1}}, since: time.Minute, tell: true},
		"jitter of the load":              {want: Meta{Load: 0.09}, since: time.Hour},
		"a leap of the load":              {want: Meta{Load: 0.5}, since: time.Minute, tell: true},
		"a leap of the load, in a burst":  {want: Meta{Load: 0.5}, since: 100 * time.Millisecond, wait: 900 * time.Millisecond, tell: true},
		"load and readiness, in a burst":  {want: Meta{Load: 0.5, Ready: true}, since: 100 * time.Millisecond, tell: true},
		"the load falls as well as rises": {sent: Meta{Load: 0.9}, want: Meta{Load: 0.1}, since: time.Minute, tell: true},
	} {
		t.Run(name, func(t *testing.T) {
			wait, tell := due(c.sent, c.want, c.since)
			if wait != c.wait || tell != c.tell {
				t.Errorf("wait %v, tell %v; want %v, %v", wait, tell, c.wait, c.tell)
			}
		})
	}
}

func TestClockFilterPrefersTheShortestRoundTrip(t *testing.T) {
	var f clockFilter
	if _, ok := f.best(); ok {
		t.Error("a best sample of none")
	}
	for i, rtt := range []time.Duration{9, 3, 7} {
		f.add(sample{offset: time.Duration(i), rtt: rtt})
	}
	if best, _ := f.best(); best.offset != 1 {
		t.Errorf("offset %d, want that of the shortest round trip", best.offset)
	}
	for range len(f.samples) {
		f.add(sample{offset: 50, rtt: 20})
	}
	if best, _ := f.best(); best.offset != 50 {
		t.Error("old samples are kept for ever: a clock that was set is never noticed")
	}
}
