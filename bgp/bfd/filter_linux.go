package bfd

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// A flood of forged packets should not get as far as a socket's queue, where
// it would crowd out the neighbor's. A classic BPF program on the socket lets
// pass what has come over one hop, from a neighbor, and with a discriminator
// of ours, or none (which is how a session begins). Sessions make the same
// checks again: the filter saves work, and decides nothing.

const (
	// netOffset reaches into the IP header (SKF_NET_OFF).
	netOffset = 0xfff00000
	// A socket's program sees the UDP header first.
	offYourDiscr = 8 + 8
	// mostFiltered bounds the program, which may have 4096 instructions.
	mostFiltered = 300
)

// filterProgram lets packets from these sources, for these discriminators of
// ours, pass.
func filterProgram(ipv4 bool, sources []source, discriminators []uint32) []unix.SockFilter {
	const (
		loadWord = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		loadByte = unix.BPF_LD | unix.BPF_B | unix.BPF_ABS
		equal    = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		jump     = unix.BPF_JMP | unix.BPF_JA
		ret      = unix.BPF_RET | unix.BPF_K
		all      = 0xffff
	)
	var offHops, offSource, words uint32 = netOffset + 8, netOffset + 12, 1
	if !ipv4 {
		offHops, offSource, words = netOffset+7, netOffset+8, 4
	}
	program := []unix.SockFilter{
		{Code: loadByte, K: offHops},
		{Code: equal, K: hopLimit, Jt: 1},
		{Code: ret, K: 0},
	}
	if len(sources) > mostFiltered || len(discriminators) > mostFiltered {
		return append(program, unix.SockFilter{Code: ret, K: all})
	}
	var toCheck []int // jumps to the check of the discriminator
	for _, s := range sources {
		b := s.addr.AsSlice()
		for w := range words {
			after := uint8(2*(words-w-1) + 1) // instructions of this source that are left
			program = append(program,
				unix.SockFilter{Code: loadWord, K: offSource + 4*w},
				unix.SockFilter{Code: equal, K: binary.BigEndian.Uint32(b[4*w:]), Jf: after})
		}
		toCheck = append(toCheck, len(program))
		program = append(program, unix.SockFilter{Code: jump})
	}
	program = append(program, unix.SockFilter{Code: ret, K: 0})
	for _, i := range toCheck {
		program[i].K = uint32(len(program) - i - 1)
	}
	program = append(program, unix.SockFilter{Code: loadWord, K: offYourDiscr})
	for _, d := range append([]uint32{0}, discriminators...) {
		program = append(program,
			unix.SockFilter{Code: equal, K: d, Jf: 1},
			unix.SockFilter{Code: ret, K: all})
	}
	return append(program, unix.SockFilter{Code: ret, K: 0})
}

// filter replaces the socket's program.
func (r *receiver) filter(program []unix.SockFilter) error {
	return unix.SetsockoptSockFprog(r.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
}
