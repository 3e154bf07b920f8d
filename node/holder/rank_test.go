package holder

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

func TestVIPsAreSpreadOverTheNodes(t *testing.T) {
	nodes := []string{"n1", "n2", "n3"}
	const vips = 300
	held := map[string]int{}
	for i := range vips {
		ranks := map[string]uint32{}
		for _, n := range nodes {
			ranks[n] = Rank(fmt.Sprintf("vip%d", i), n, 100)
		}
		for _, n := range nodes {
			if Place(n, ranks) == 0 {
				held[n]++
			}
		}
	}
	for _, n := range nodes {
		if held[n] < vips/3*3/4 || held[n] > vips/3*5/4 {
			t.Errorf("the VIPs are spread %v", held)
		}
	}
}

func TestPriorityGoesBeforeTheHash(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[a-z0-9-]{1,9}`)
		vip, a, b := name.Draw(t, "vip"), name.Draw(t, "a"), name.Draw(t, "b")
		p := rapid.IntRange(2, 254).Draw(t, "priority")
		if Rank(vip, a, p) <= Rank(vip, b, p-1) {
			t.Fatalf("%s with %d is not before %s with %d", a, p, b, p-1)
		}
	})
}

func TestPlaces(t *testing.T) {
	ranks := map[string]uint32{"n1": 5, "n2": 9, "n3": 5}
	for node, want := range map[string]int{"n2": 0, "n1": 1, "n3": 2, "stranger": 3} {
		if got := Place(node, ranks); got != want {
			t.Errorf("%s has place %d, want %d", node, got, want)
		}
	}
}
