package registry

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestWellKnownCommunities(t *testing.T) {
	for name, want := range map[string]string{
		"graceful-shutdown": "65535:0", "blackhole": "65535:666", "no-export": "65535:65281", "no-advertise": "65535:65282",
	} {
		byName, ok1 := ParseCommunity(name)
		byNumber, ok2 := ParseCommunity(want)
		if !ok1 || !ok2 || byName != byNumber {
			t.Errorf("%s is %#x (%v), and %s %#x (%v)", name, byName, ok1, want, byNumber, ok2)
		}
		if got := FormatCommunity(byNumber); got != name {
			t.Errorf("%s is shown as %s", want, got)
		}
	}
}

func TestCommunitiesAreReadAsTheyAreWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := rapid.OneOf(rapid.Uint32(), rapid.SampledFrom([]uint32{0xffff0000, 0xffffff01})).Draw(t, "community")
		if again, ok := ParseCommunity(FormatCommunity(c)); !ok || again != c {
			t.Errorf("%#x is written as %s, and read as %#x (%v)", c, FormatCommunity(c), again, ok)
		}
	})
}

// What is accepted has one way to be written, so that no two elements of a list
// are the same community but for a well-known one's name.
func FuzzCommunities(f *testing.F) {
	for _, s := range []string{"65000:1", "no-export", "4294967295:0:1", "1:02", "1:2:3:4", ":", "-1:1", "+1:1:1", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if c, ok := ParseCommunity(s); ok && s != FormatCommunity(c) && s != fmt.Sprintf("%d:%d", c>>16, c&0xffff) {
			t.Errorf("%q was taken for %s", s, FormatCommunity(c))
		}
		if c, ok := ParseLargeCommunity(s); ok && s != strings.ReplaceAll(strings.Trim(fmt.Sprint(c), "[]"), " ", ":") {
			t.Errorf("%q was taken for %v", s, c)
		}
	})
}
