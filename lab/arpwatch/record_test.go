package arpwatch

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestRecordRoundTrip(t *testing.T) {
	at := time.Date(2026, 11, 25, 4, 0, 0, 123456789, time.UTC)
	vip := netip.MustParseAddr("2001:db8:50::100")
	want := []Line{
		{Begin: &Begin{At: at, Interval: 5 * time.Millisecond, Ports: []string{"sw1-n1"}, Addresses: []netip.Addr{vip}}},
		{Claim: &Claim{At: at.Add(1), Port: "sw1-n1", Address: vip, MAC: MAC{2, 0, 0, 0, 0, 11}, Kind: Announcement}},
		{End: &End{At: at.Add(2), Asked: 7, Unasked: 1, Claims: 1, Lost: 3}},
	}
	var text []byte
	var err error
	for _, l := range want {
		if text, err = Append(text, l); err != nil {
			t.Fatal(err)
		}
	}
	var got []Line
	if err := Read(bytes.NewReader(text), func(l Line) error { got = append(got, l); return nil }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, compareAddresses); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestReadRefusesHalfARecord(t *testing.T) {
	take := func(Line) error { return nil }
	if err := Read(strings.NewReader(`{"begin":{"interval":1}}`+"\n"), take); !errors.Is(err, errEnded) {
		t.Errorf("without an end: %v", err)
	}
	if err := Read(strings.NewReader("{\"begin\":{}}\n{\"claim\":{\"mac\":\"2:0\"}}\n"), take); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("a broken line: %v", err)
	}
	stop := errors.New("enough")
	if err := Read(strings.NewReader("{\"end\":{}}\n"), func(Line) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("a taker that refuses: %v", err)
	}
}
