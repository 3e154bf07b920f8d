package bfd

import (
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The kernel's interface, from include/uapi/linux/io_uring.h. Names follow it;
// the version in which each thing came stands beside it.
const (
	opNop           = 0
	opSendmsg       = 9
	opTimeout       = 11
	opTimeoutRemove = 12

	sqeLink = 1 << 2 // io_uring_sqe.flags: the next one waits for this one

	timeoutAbs         = 1 << 0 // io_uring_sqe.timeout_flags
	timeoutETimeIsGood = 1 << 5 // a link goes on after it, 5.16

	enterGetEvents = 1 << 0
	featSingleMmap = 1 << 0
	featNoDrop     = 1 << 1
	offSQEs        = 0x10000000

	ringEntries = 128
)

// sqe is struct io_uring_sqe.
type sqe struct {
	opcode   uint8
	flags    uint8
	_        uint16
	fd       int32
	off      uint64
	addr     uint64
	len      uint32
	opFlags  uint32
	userData uint64
	_        [3]uint64
}

// cqe is struct io_uring_cqe.
type cqe struct {
	userData uint64
	res      int32
	_        uint32
}

// ringParams is struct io_uring_params.
type ringParams struct {
	sqEntries, cqEntries uint32
	_                    [3]uint32
	features             uint32
	_                    [4]uint32
	sqOff                struct {
		head, tail, ringMask, ringEntries, flags, dropped, array, _ uint32
		_                                                           uint64
	}
	cqOff struct {
		head, tail, ringMask, ringEntries, overflow, cqes, flags, _ uint32
		_                                                           uint64
	}
}

// ring is an io_uring. One thread uses it, the one whose packets it sends: the
// kernel completes what is due in the name of that thread, whatever it waits
// for, and not while it is stopped or once it is gone.
type ring struct {
	fd          int
	mem, sqeMem []byte
	sqHead      *uint32
	sqTail      *uint32
	sqMask      uint32
	sqes        []sqe
	tail        uint32 // sqTail, before it is published
	cqHead      *uint32
	cqTail      *uint32
	cqMask      uint32
	cqes        []cqe
	past        unix.Timespec // here, since the kernel gets its address
}

// newRing makes a ring, if the kernel has what is needed of it and allows it.
func newRing() (*ring, error) {
	var p ringParams
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, ringEntries, uintptr(unsafe.Pointer(&p)), 0)
	if errno != 0 {
		return nil, os.NewSyscallError("io_uring_setup", errno)
	}
	r := &ring{fd: int(fd)}
	err := r.mmap(&p)
	if err == nil {
		err = r.try()
	}
	if err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

func (r *ring) mmap(p *ringParams) error {
	const want = featSingleMmap | featNoDrop
	if p.features&want != want {
		return unix.EOPNOTSUPP
	}
	size := max(
		uintptr(p.sqOff.array)+uintptr(p.sqEntries)*4,
		uintptr(p.cqOff.cqes)+uintptr(p.cqEntries)*unsafe.Sizeof(cqe{}),
	)
	var err error
	if r.mem, err = unix.Mmap(r.fd, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE); err != nil {
		return os.NewSyscallError("mmap", err)
	}
	sqeSize := int(p.sqEntries) * int(unsafe.Sizeof(sqe{}))
	if r.sqeMem, err = unix.Mmap(r.fd, offSQEs, sqeSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE); err != nil {
		return os.NewSyscallError("mmap", err)
	}
	at := func(off uint32) *uint32 { return (*uint32)(unsafe.Pointer(&r.mem[off])) }
	r.sqHead, r.sqTail, r.sqMask = at(p.sqOff.head), at(p.sqOff.tail), *at(p.sqOff.ringMask)
	r.cqHead, r.cqTail, r.cqMask = at(p.cqOff.head), at(p.cqOff.tail), *at(p.cqOff.ringMask)
	r.sqes = unsafe.Slice((*sqe)(unsafe.Pointer(&r.sqeMem[0])), p.sqEntries)
	r.cqes = unsafe.Slice((*cqe)(unsafe.Pointer(&r.mem[p.cqOff.cqes])), p.cqEntries)
	array := unsafe.Slice(at(p.sqOff.array), p.sqEntries)
	for i := range array {
		array[i] = uint32(i)
	}
	return nil
}

// try has something happen after a timeout, which is what the ring is for.
func (r *ring) try() error {
	r.push(sqe{opcode: opTimeout, flags: sqeLink, addr: addressOf(&r.past), len: 1, opFlags: timeoutAbs | timeoutETimeIsGood, userData: 1})
	r.push(sqe{opcode: opNop, userData: 2})
	if err := r.enter(2); err != nil {
		return err
	}
	err := unix.EOPNOTSUPP
	for c, ok := r.next(); ok; c, ok = r.next() {
		if c.userData == 2 && c.res == 0 {
			err = 0
		}
	}
	if err != 0 {
		return os.NewSyscallError("io_uring_enter", err)
	}
	return nil
}

// room says whether n more entries can be pushed.
func (r *ring) room(n uint32) bool {
	return r.tail-atomic.LoadUint32(r.sqHead)+n <= r.sqMask+1
}

func (r *ring) push(e sqe) {
	r.sqes[r.tail&r.sqMask] = e
	r.tail++
}

// enter submits what was pushed, and waits for so many completions. It does
// not tell Go's scheduler: what is waited for is there at once.
func (r *ring) enter(completions int) error {
	count := r.tail - *r.sqTail
	atomic.StoreUint32(r.sqTail, r.tail)
	for {
		_, _, errno := unix.RawSyscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), uintptr(count), uintptr(completions), enterGetEvents, 0, 0)
		if errno == unix.EINTR {
			count = r.tail - atomic.LoadUint32(r.sqHead)
			continue
		}
		if errno != 0 {
			return os.NewSyscallError("io_uring_enter", errno)
		}
		return nil
	}
}

// next takes a completion, if there is one.
func (r *ring) next() (cqe, bool) {
	head := *r.cqHead
	if head == atomic.LoadUint32(r.cqTail) {
		return cqe{}, false
	}
	c := r.cqes[head&r.cqMask]
	atomic.StoreUint32(r.cqHead, head+1)
	return c, true
}

// close gives all back. The kernel cancels what is under way.
func (r *ring) close() {
	if r.sqeMem != nil {
		_ = unix.Munmap(r.sqeMem)
	}
	if r.mem != nil {
		_ = unix.Munmap(r.mem)
	}
	_ = unix.Close(r.fd)
}

func addressOf[T any](p *T) uint64 { return uint64(uintptr(unsafe.Pointer(p))) }
