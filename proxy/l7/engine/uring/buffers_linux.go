package uring

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// buffers is a ring of buffers that the kernel picks from as bytes arrive
// (IORING_REGISTER_PBUF_RING), so that a connection on which nothing arrives
// holds none.
type buffers struct {
	mem   []byte // the buffers
	ring  []buf
	tail  uint16
	count uint16
	size  int
}

const bufferGroup = 1

// newBuffers gives r count buffers, a power of two, of size bytes.
func newBuffers(r *ring, count uint16, size int) (*buffers, error) {
	b := &buffers{count: count, size: size}
	// Outside Go's heap: the kernel may write until the ring is gone.
	ringSize := int(count) * int(unsafe.Sizeof(buf{}))
	ringSize = (ringSize + size - 1) / size * size
	mem, err := unix.Mmap(-1, 0, ringSize+int(count)*size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	b.mem = mem
	b.ring = unsafe.Slice((*buf)(unsafe.Pointer(&mem[int(count)*size])), count)
	reg := bufReg{ringAddr: uint64(uintptr(unsafe.Pointer(&b.ring[0]))), ringEntries: uint32(count), bgid: bufferGroup}
	if err := r.register(registerPbufRing, unsafe.Pointer(&reg), 1); err != nil {
		_ = unix.Munmap(mem)
		return nil, os.NewSyscallError("io_uring_register PBUF_RING", err)
	}
	for i := range count {
		b.put(i)
	}
	return b, nil
}

// at is the first n bytes of a buffer.
func (b *buffers) at(id uint16, n int) []byte {
	off := int(id) * b.size
	return b.mem[off : off+n : off+n]
}

// put gives a buffer back to the kernel.
func (b *buffers) put(id uint16) {
	e := &b.ring[b.tail&(b.count-1)]
	e.addr = uint64(uintptr(unsafe.Pointer(&b.mem[int(id)*b.size])))
	e.len = uint32(b.size)
	e.bid = id
	b.tail++
	b.ring[0].tail = b.tail
}

// close frees the memory. The ring must be gone.
func (b *buffers) close() { _ = unix.Munmap(b.mem) }
