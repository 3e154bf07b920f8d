package balance

import "math"

// aliases draws members at random by their weights in constant time: the alias
// method of Walker (1977), built as by Vose (1991). Each member has a column;
// a draw hits a column evenly, and then either its own member or the other one
// that fills the column up.
type aliases []column

type column struct {
	cut   uint32 // of 2^32: below it the column's own member, else the other
	other uint32
}

func newAliases(members []Member) aliases {
	n := len(members)
	a := make(aliases, n)
	sum := 0.0
	for _, m := range members {
		sum += float64(m.weight())
	}
	left := make([]float64, n) // of a member's share, in columns
	var light, heavy []int
	for i, m := range members {
		left[i] = float64(m.weight()) * float64(n) / sum
		a[i] = column{cut: math.MaxUint32, other: uint32(i)}
		if left[i] < 1 {
			light = append(light, i)
		} else {
			heavy = append(heavy, i)
		}
	}
	for len(light) > 0 && len(heavy) > 0 {
		l, h := light[len(light)-1], heavy[len(heavy)-1]
		light = light[:len(light)-1]
		a[l] = column{cut: uint32(max(left[l], 0) * (1 << 32)), other: uint32(h)}
		if left[h] -= 1 - left[l]; left[h] < 1 {
			heavy = heavy[:len(heavy)-1]
			light = append(light, h)
		}
	}
	return a
}

// draw returns the position that 32 random bits fall on.
func (a aliases) draw(random uint32) int {
	p := uint64(random) * uint64(len(a))
	i := p >> 32
	if c := a[i]; uint32(p) >= c.cut {
		return int(c.other)
	}
	return int(i)
}

// two draws two members, different ones unless there is only one.
func (a aliases) two(random func() uint64) (i, j int) {
	r := random()
	i, j = a.draw(uint32(r)), a.draw(uint32(r>>32))
	if i == j {
		r = random()
		if j = a.draw(uint32(r)); i == j {
			j = a.draw(uint32(r >> 32))
		}
		if i == j { // a giant among dwarfs: any dwarf
			j = (i + 1 + int(r%uint64(max(len(a)-1, 1)))) % len(a)
		}
	}
	return i, j
}
