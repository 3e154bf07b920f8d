package arpwatch

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var compareAddresses = cmpopts.EquateComparable(netip.Addr{})

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The frames are as tcpdump shows those of a Linux kernel and of arping.
const (
	ether4 = "ffffffffffff 02000000000b 0806 "
	reply4 = "02000000000a 02000000000b 0806 0001080006040002 02000000000b 0a003264 02000000000a 0a00321f"
	head6  = "333300000001 02000000000b 86dd 6000000000203aff 20010db8005000000000000000000011 ff020000000000000000000000000001 "
	vip6   = "20010db8005000000000000000000100"
)

func TestParse(t *testing.T) {
	b := MAC{0x02, 0, 0, 0, 0, 0x0b}
	vip4, client4 := netip.MustParseAddr("10.0.50.100"), netip.MustParseAddr("10.0.50.31")
	vip, node := netip.MustParseAddr("2001:db8:50::100"), netip.MustParseAddr("2001:db8:50::11")
	tests := []struct {
		name  string
		frame string
		want  Message
	}{
		{"RFC 826: a reply", reply4, Message{Claimed: vip4, MAC: b, Kind: Answer}},
		{"a reply to everybody", strings.Replace(reply4, "02000000000a 02", "ffffffffffff 02", 1), Message{Claimed: vip4, MAC: b, Kind: Announcement}},
		{"RFC 5227 section 3: an announcement", ether4 + "0001080006040001 02000000000b 0a003264 000000000000 0a003264", Message{Claimed: vip4, MAC: b, Kind: Announcement}},
		{"a gratuitous reply", ether4 + "0001080006040002 02000000000b 0a003264 ffffffffffff 0a003264", Message{Claimed: vip4, MAC: b, Kind: Announcement}},
		{"a request claims its sender's address", ether4 + "0001080006040001 02000000000b 0a00321f 000000000000 0a003264", Message{Claimed: client4, MAC: b, Kind: Use, Asked: vip4, From: client4}},
		{"RFC 5227 section 2.1.1: a probe claims nothing", ether4 + "0001080006040001 02000000000b 00000000 000000000000 0a003264", Message{MAC: b, Asked: vip4, From: netip.IPv4Unspecified()}},
		{"padding of Ethernet", reply4 + strings.Repeat("00", 18), Message{Claimed: vip4, MAC: b, Kind: Answer}},
		{"RFC 4861 section 7.2.4: a solicited advertisement", head6 + "88000000 60000000" + vip6 + "0201 02000000000c", Message{Claimed: vip, MAC: MAC{0x02, 0, 0, 0, 0, 0x0c}, Kind: Answer}},
		{"section 7.2.6: an unsolicited one", head6 + "88000000 20000000" + vip6 + "0201 02000000000c", Message{Claimed: vip, MAC: MAC{0x02, 0, 0, 0, 0, 0x0c}, Kind: Announcement}},
		{"one without a target option is of who sent it", strings.Replace(head6, "00203aff", "00183aff", 1) + "88000000 20000000" + vip6, Message{Claimed: vip, MAC: b, Kind: Announcement}},
		{"one with another option first", strings.Replace(head6, "00203aff", "00283aff", 1) + "88000000 20000000" + vip6 + "0501 000000000000 0201 02000000000c", Message{Claimed: vip, MAC: MAC{0x02, 0, 0, 0, 0, 0x0c}, Kind: Announcement}},
		{"section 7.2.2: a solicitation claims its source", head6 + "87000000 00000000" + vip6 + "0101 02000000000c", Message{Claimed: node, MAC: MAC{0x02, 0, 0, 0, 0, 0x0c}, Kind: Use, Asked: vip, From: node}},
		{"RFC 4862 section 5.4.2: a probe", strings.Replace(strings.Replace(head6, "20010db8005000000000000000000011", strings.Repeat("00", 16), 1), "00203aff", "00183aff", 1) + "87000000 00000000" + vip6, Message{Asked: vip, From: netip.IPv6Unspecified()}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Parse(unhex(t, tt.frame))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, compareAddresses); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	tests := []struct{ name, frame, want string }{
		{"nothing", "", "no Ethernet frame"},
		{"IPv4", "02000000000a 02000000000b 0800" + strings.Repeat("00", 40), "another protocol"},
		{"a short ARP packet", reply4[:len(reply4)-2], "short"},
		{"ARP of another network", strings.Replace(reply4, "00010800", "00060800", 1), "not for IPv4 on Ethernet"},
		{"ARP for another protocol", strings.Replace(reply4, "00010800", "000186dd", 1), "not for IPv4 on Ethernet"},
		{"RARP's operations", strings.Replace(reply4, "06040002", "06040004", 1), "ARP operation 4"},
		{"a reply of nobody", strings.Replace(reply4, "0a003264", "00000000", 1), "says nothing"},
		{"RFC 4861 section 7.1: a hop limit of another link", strings.Replace(head6, "3aff", "3afe", 1) + "88000000 60000000" + vip6 + "0201 02000000000c", "no ICMPv6 message of this link"},
		{"UDP", strings.Replace(head6, "3aff", "11ff", 1) + "88000000 60000000" + vip6 + "0201 02000000000c", "no ICMPv6 message of this link"},
		{"a short advertisement", head6 + "88000000 60000000" + vip6[:30], "no ICMPv6 message"},
		{"a length beyond the frame", strings.Replace(head6, "00203aff", "00213aff", 1) + "88000000 60000000" + vip6 + "0201 02000000000c", "a length of 33 in 32 bytes"},
		{"a router advertisement", head6 + "86000000 60000000" + vip6 + "0201 02000000000c", "ICMPv6 type 134"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse(unhex(t, tt.frame))
			if !errors.Is(err, ErrNotNeighbor) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q in it", err, tt.want)
			}
		})
	}
}

func TestQuestionAsTheKernelAsks(t *testing.T) {
	self := Identity{MAC: MAC{0x02, 0, 0, 0, 0, 0x0b}, IPv4: netip.MustParseAddr("10.0.50.31"), IPv6: netip.MustParseAddr("2001:db8:50::31")}
	for _, tt := range []struct{ asked, want string }{
		{"10.0.50.100", ether4 + "0001080006040001 02000000000b 0a00321f 000000000000 0a003264"},
		{"2001:db8:50::100", "3333ff000100 02000000000b 86dd 6000000000203aff 20010db8005000000000000000000031 ff0200000000000000000001ff000100" +
			"87001951 00000000 20010db8005000000000000000000100 0101 02000000000b"},
	} {
		got := Question(self, netip.MustParseAddr(tt.asked))
		if want := unhex(t, tt.want); !bytes.Equal(got, want) {
			t.Errorf("question for %s:\n%x, want\n%x", tt.asked, got, want)
		}
	}
}

// What we send must mean to us what we mean by it, whoever asks for what.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte{10, 0, 50, 31}, []byte{10, 0, 50, 100}, []byte{2, 0, 0, 0, 0, 1})
	f.Add(netip.MustParseAddr("2001:db8::1").AsSlice(), netip.MustParseAddr("2001:db8::2").AsSlice(), []byte{2, 0, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, own, asked, mac []byte) {
		self, ok1 := netip.AddrFromSlice(own)
		a, ok2 := netip.AddrFromSlice(asked)
		if !ok1 || !ok2 || len(mac) != 6 || self.Is4() != a.Is4() || self.IsUnspecified() || a.IsUnspecified() || self == a {
			t.Skip()
		}
		i := Identity{MAC: MAC(mac), IPv4: self, IPv6: self}
		m, err := Parse(Question(i, a))
		if err != nil || m.Asked != a || m.From != self || m.Claimed != self || m.MAC != i.MAC || m.Kind != Use {
			t.Errorf("question: %+v, %v", m, err)
		}
		asker := MAC{2, 0, 0, 0, 0, 9}
		m, err = Parse(Reply(i, Message{Asked: self, From: a}, asker))
		if err != nil || m.Claimed != self || m.MAC != i.MAC || m.Kind != Answer || m.Asked.IsValid() {
			t.Errorf("reply: %+v, %v", m, err)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{reply4, ether4, head6 + "88000000 60000000" + vip6 + "0201 02000000000c", head6 + "87000000 00000000" + vip6 + "0100 02000000000c"} {
		b, err := hex.DecodeString(strings.Join(strings.Fields(text), ""))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		m, err := Parse(frame)
		if err != nil {
			if !errors.Is(err, ErrNotNeighbor) {
				t.Errorf("error %v is of no known kind", err)
			}
			return
		}
		if m.Claimed.IsValid() == (m.Kind == "") || !m.Claimed.IsValid() && !m.Asked.IsValid() || m.Asked.IsValid() != m.From.IsValid() {
			t.Errorf("%+v says half a thing", m)
		}
	})
}

func TestChecksumOfAKnownMessage(t *testing.T) {
	// With its checksum in place, a message sums up to nothing (RFC 1071).
	f := Question(Identity{MAC: MAC{2, 3, 4, 5, 6, 7}, IPv6: netip.MustParseAddr("fe80::1")}, netip.MustParseAddr("fe80::2"))
	if sum := checksum(f[etherLength:]); sum != 0 {
		t.Errorf("the sum over a whole message is %#x, want 0", sum)
	}
}
