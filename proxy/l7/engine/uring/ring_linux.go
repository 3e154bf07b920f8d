package uring

import (
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ring is one io_uring instance: the memory shared with the kernel, and the
// system calls on it. It knows nothing of connections.
//
// It is made by one goroutine, and from enable on used by one thread alone
// (IORING_SETUP_SINGLE_ISSUER). The kernel touches the rings only while this
// thread is in io_uring_enter, so that plain stores suffice.
type ring struct {
	fd       int
	index    int // of the registered descriptor; -1 without
	features uint32
	flags    uint32

	mem, sqeMem []byte
	sqHead      *uint32
	sqTail      *uint32
	sqMask      uint32
	sqes        []sqe
	tail        uint32 // sqTail, before it is published

	cqHead *uint32
	cqTail *uint32
	cqMask uint32
	cqes   []cqe

	// What enter passes: here, since the kernel gets addresses.
	arg getEventsArg
	ts  timespec
}

// newRing makes a ring that is disabled until enable.
func newRing(sqEntries, cqEntries uint32) (*ring, error) {
	const base = setupCQSize | setupClamp | setupSubmitAll | setupDisabled
	var err error
	for _, flags := range []uint32{
		base | setupSingleIssuer | setupDeferTaskrun | setupNoSQArray,
		base | setupSingleIssuer | setupDeferTaskrun, // before 6.6
		base | setupCoopTaskrun,                      // before 6.1
	} {
		var r *ring
		if r, err = setup(sqEntries, cqEntries, flags); err == nil {
			return r, nil
		}
		if err != unix.EINVAL {
			break
		}
	}
	return nil, os.NewSyscallError("io_uring_setup", err)
}

func setup(sqEntries, cqEntries, flags uint32) (*ring, error) {
	p := params{cqEntries: cqEntries, flags: flags}
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, uintptr(sqEntries), uintptr(unsafe.Pointer(&p)), 0)
	if errno != 0 {
		return nil, errno
	}
	r := &ring{fd: int(fd), index: -1, features: p.features, flags: flags}
	if err := r.mmap(&p); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

func (r *ring) mmap(p *params) error {
	const want = featSingleMmap | featNoDrop | featFastPoll | featExtArg
	if p.features&want != want {
		return unix.EOPNOTSUPP
	}
	size := max(
		uintptr(p.sqOff.array)+uintptr(p.sqEntries)*4,
		uintptr(p.cqOff.cqes)+uintptr(p.cqEntries)*unsafe.Sizeof(cqe{}),
	)
	var err error
	if r.mem, err = unix.Mmap(r.fd, offSQRing, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE); err != nil {
		return err
	}
	sqeSize := int(p.sqEntries) * int(unsafe.Sizeof(sqe{}))
	if r.sqeMem, err = unix.Mmap(r.fd, offSQEs, sqeSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE); err != nil {
		return err
	}
	at := func(off uint32) *uint32 { return (*uint32)(unsafe.Pointer(&r.mem[off])) }
	r.sqHead, r.sqTail, r.sqMask = at(p.sqOff.head), at(p.sqOff.tail), *at(p.sqOff.ringMask)
	r.cqHead, r.cqTail, r.cqMask = at(p.cqOff.head), at(p.cqOff.tail), *at(p.cqOff.ringMask)
	r.sqes = unsafe.Slice((*sqe)(unsafe.Pointer(&r.sqeMem[0])), p.sqEntries)
	r.cqes = unsafe.Slice((*cqe)(unsafe.Pointer(&r.mem[p.cqOff.cqes])), p.cqEntries)
	if r.flags&setupNoSQArray == 0 {
		array := unsafe.Slice(at(p.sqOff.array), p.sqEntries)
		for i := range array {
			array[i] = uint32(i)
		}
	}
	return nil
}

// enable lets operations begin, and makes the calling thread the only one
// that may use the ring.
func (r *ring) enable() error {
	if err := r.register(registerEnableRings, nil, 0); err != nil {
		return os.NewSyscallError("io_uring_register ENABLE_RINGS", err)
	}
	// Without a look-up of the descriptor in every call. A kernel may refuse:
	// the plain descriptor works as well.
	u := rsrcUpdate{offset: ^uint32(0), data: uint64(r.fd)}
	if n, _, errno := unix.Syscall6(unix.SYS_IO_URING_REGISTER, uintptr(r.fd), registerRingFDs, uintptr(unsafe.Pointer(&u)), 1, 0, 0); errno == 0 && n == 1 {
		r.index = int(u.offset)
	}
	return nil
}

func (r *ring) register(op uintptr, arg unsafe.Pointer, n uintptr) error {
	if _, _, errno := unix.Syscall6(unix.SYS_IO_URING_REGISTER, uintptr(r.fd), op, uintptr(arg), n, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// close gives all back. What is under way is cancelled by the kernel, some
// time later: whoever needs it to be over waits for completions first.
func (r *ring) close() {
	if r.index >= 0 {
		u := rsrcUpdate{offset: uint32(r.index)}
		_ = r.register(unregisterRingFDs, unsafe.Pointer(&u), 1)
	}
	if r.sqeMem != nil {
		_ = unix.Munmap(r.sqeMem)
	}
	if r.mem != nil {
		_ = unix.Munmap(r.mem)
	}
	_ = unix.Close(r.fd)
}

// push returns the next entry of the submission queue, cleared; nil if it is
// full, and what is in it must be submitted first.
func (r *ring) push() *sqe {
	if r.tail-atomic.LoadUint32(r.sqHead) > r.sqMask {
		return nil
	}
	e := &r.sqes[r.tail&r.sqMask]
	*e = sqe{}
	r.tail++
	return e
}

// queued is the number of entries that were pushed and not submitted.
func (r *ring) queued() uint32 { return r.tail - atomic.LoadUint32(r.sqHead) }

// await says what enter waits for.
type await struct {
	events  uint32        // completions, 0: none
	atLeast time.Duration // waits so long for as many, then for one (if the kernel can)
	timeout time.Duration // in all; below 0: none
	raw     bool          // without telling Go's scheduler
}

// enter submits what was pushed, runs what the kernel has deferred, and
// waits. A timeout is no error.
func (r *ring) enter(w await) unix.Errno {
	submit := r.queued()
	atomic.StoreUint32(r.sqTail, r.tail)
	fd, flags := r.fd, uintptr(enterGetEvents)
	if r.index >= 0 {
		fd, flags = r.index, flags|enterRegisteredRing
	}
	var arg, size uintptr
	if w.events > 0 && w.timeout >= 0 {
		r.ts = timespec{sec: int64(w.timeout / time.Second), nsec: int64(w.timeout % time.Second)}
		r.arg = getEventsArg{minWaitUsec: uint32(w.atLeast / time.Microsecond), ts: uint64(uintptr(unsafe.Pointer(&r.ts)))}
		arg, size = uintptr(unsafe.Pointer(&r.arg)), unsafe.Sizeof(r.arg)
		flags |= enterExtArg
	}
	var errno unix.Errno
	if w.raw || w.events == 0 {
		_, _, errno = unix.RawSyscall6(unix.SYS_IO_URING_ENTER, uintptr(fd), uintptr(submit), uintptr(w.events), flags, arg, size)
	} else {
		_, _, errno = unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(fd), uintptr(submit), uintptr(w.events), flags, arg, size)
	}
	switch errno {
	case unix.ETIME, unix.EINTR, unix.EAGAIN, unix.EBUSY:
		return 0
	}
	return errno
}

// ready is the number of completions that wait.
func (r *ring) ready() uint32 { return atomic.LoadUint32(r.cqTail) - *r.cqHead }

// pop takes the next completion, if one waits.
func (r *ring) pop() (cqe, bool) {
	head := *r.cqHead
	if head == atomic.LoadUint32(r.cqTail) {
		return cqe{}, false
	}
	e := r.cqes[head&r.cqMask]
	atomic.StoreUint32(r.cqHead, head+1)
	return e, true
}
