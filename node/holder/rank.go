package holder

import (
	"cmp"
	"hash/fnv"
	"slices"
)

// Rank settles which node gets a VIP: the one of the highest priority, 1 to 254,
// and among equals by a hash of VIP and node (rendezvous hashing), so that VIPs
// are spread over the nodes, and a node that goes moves none but its own.
func Rank(vip, node string, priority int) uint32 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(vip))
	_, _ = h.Write([]byte{0})
	_, _ = h.Write([]byte(node))
	x := h.Sum64()
	// FNV alone leaves names that end in different digits close together.
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	x ^= x >> 33
	return uint32(min(max(priority, 0), 255))<<24 | uint32(x&0xffffff)
}

// Place is that of a node in the order in which nodes of these ranks try for a
// VIP, from 0; of one that has no rank, the last.
func Place(node string, ranks map[string]uint32) int {
	var order []string
	for name := range ranks {
		order = append(order, name)
	}
	slices.SortFunc(order, func(a, b string) int {
		return cmp.Or(-cmp.Compare(ranks[a], ranks[b]), cmp.Compare(a, b))
	})
	if i := slices.Index(order, node); i >= 0 {
		return i
	}
	return len(order)
}
