package route

import (
	"encoding/binary"
	"math/bits"
	"testing"

	"pgregory.net/rapid"
)

// Places spread evenly over the line hit each side as often as its weight
// says, but for one place at each of its ends.
func TestSplitShares(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weights := rapid.SliceOfN(rapid.IntRange(0, MaxWeight), 1, 12).Draw(t, "weights")
		s, err := NewSplit(weights)
		if err != nil {
			t.Fatal(err)
		}
		sum := 0
		for _, w := range weights {
			sum += w
		}
		if sum == 0 {
			if got := s.Pick(rapid.Uint64().Draw(t, "place")); got != None {
				t.Fatalf("side %d, and all weigh 0", got)
			}
			return
		}
		const places = 1 << 13
		offset := rapid.Uint64Range(0, 1<<51-1).Draw(t, "offset")
		counts := make([]int, len(weights))
		for i := range uint64(places) {
			counts[s.Pick(i<<51+offset)]++
		}
		for i, w := range weights {
			if off := counts[i]*sum - places*w; off > sum || off < -sum || w == 0 && counts[i] > 0 {
				t.Fatalf("side %d of weight %d of %d got %d of %d", i, w, sum, counts[i], places)
			}
		}
	})
}

// Keys spread as well as random numbers would: within five standard
// deviations of their share.
func TestSplitSharesOfKeys(t *testing.T) {
	for _, canary := range []int{1, 5, 50} {
		s, err := NewSplit([]int{100 - canary, canary})
		if err != nil {
			t.Fatal(err)
		}
		const clients = 100_000
		got := 0
		for i := range uint32(clients) {
			if s.Pick(Key("web", binary.BigEndian.AppendUint32(nil, 0x0a000000+i))) == 1 {
				got++
			}
		}
		mean := clients * canary / 100
		if off := got - mean; off*off > 25*mean*(100-canary)/100 {
			t.Errorf("%d of %d clients in a canary of %d %%", got, clients, canary)
		}
	}
}

func TestClientStaysOnItsSide(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		client := rapid.SliceOf(rapid.Byte()).Draw(t, "client")
		place := Key("web", client)
		was := 0
		for canary := range MaxWeight {
			s, err := NewSplit([]int{MaxWeight - canary, canary})
			if err != nil {
				t.Fatal(err)
			}
			side := s.Pick(place)
			if side < was {
				t.Fatalf("the canary grew to %d, and the client left it", canary)
			}
			if s.Pick(Key("web", client)) != side {
				t.Fatal("the same client is on two sides")
			}
			was = side
		}
	})
}

// Clients of one canary are no likelier than others to be in another.
func TestCanariesAreIndependent(t *testing.T) {
	s, err := NewSplit([]int{1, 1})
	if err != nil {
		t.Fatal(err)
	}
	const clients = 10_000
	both := 0
	for i := range uint32(clients) {
		client := binary.BigEndian.AppendUint32(nil, i)
		if s.Pick(Key("web", client)) == 1 && s.Pick(Key("api", client)) == 1 {
			both++
		}
	}
	if off := both - clients/4; off*off > 25*clients*3/16 {
		t.Errorf("%d of %d clients in both, want about %d", both, clients, clients/4)
	}
}

// Keys are the same in every version: were they not, an upgrade would move
// clients.
func TestKeyIsStable(t *testing.T) {
	if got, want := Key("web", []byte("192.0.2.1")), uint64(0xe1d968b50fcbe375); got != want {
		t.Errorf("Key = %#x, want %#x", got, want)
	}
	if a, b := Key("a", []byte("bc")), Key("ab", []byte("c")); bits.OnesCount64(a^b) == 0 {
		t.Error("the split's name runs into the client")
	}
}

func TestNewSplitRefuses(t *testing.T) {
	_, err := NewSplit([]int{-1, 0, 256, 257})
	want := "weights[0]: -1 is not within 0 to 256\nweights[3]: 257 is not within 0 to 256"
	if err == nil || err.Error() != want {
		t.Errorf("NewSplit: %v, want %s", err, want)
	}
	s, err := NewSplit(nil)
	if err != nil || s.Pick(1) != None {
		t.Errorf("no sides: %v, %v", s, err)
	}
}

func BenchmarkSplit(b *testing.B) {
	s, err := NewSplit([]int{95, 5})
	if err != nil {
		b.Fatal(err)
	}
	client := []byte("192.0.2.1")
	b.ReportAllocs()
	for b.Loop() {
		s.Pick(Key("web", client))
	}
}
