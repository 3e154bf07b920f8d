package uring

// The kernel's interface, from include/uapi/linux/io_uring.h. Names follow
// it; the version in which each thing came stands beside it.

// Operations (io_uring_sqe.opcode).
const (
	opPollAdd     = 6
	opAccept      = 13
	opAsyncCancel = 14
	opConnect     = 16
	opClose       = 19
	opSend        = 26
	opRecv        = 27
)

// io_uring_setup flags.
const (
	setupCQSize       = 1 << 3
	setupClamp        = 1 << 4
	setupDisabled     = 1 << 6  // 5.10
	setupSubmitAll    = 1 << 7  // 5.18
	setupCoopTaskrun  = 1 << 8  // 5.19
	setupSingleIssuer = 1 << 12 // 6.0
	setupDeferTaskrun = 1 << 13 // 6.1
	setupNoSQArray    = 1 << 16 // 6.6
)

// Features that io_uring_setup reports.
const (
	featSingleMmap = 1 << 0
	featNoDrop     = 1 << 1
	featFastPoll   = 1 << 5
	featExtArg     = 1 << 8  // 5.11
	featMinTimeout = 1 << 15 // 6.12
)

// io_uring_enter flags.
const (
	enterGetEvents      = 1 << 0
	enterExtArg         = 1 << 3
	enterRegisteredRing = 1 << 4 // 5.18
)

// io_uring_register operations.
const (
	registerProbe       = 8
	registerEnableRings = 12
	registerRingFDs     = 20
	unregisterRingFDs   = 21
	registerPbufRing    = 22 // 5.19
)

const (
	offSQRing = 0
	offSQEs   = 0x10000000

	sqeBufferSelect = 1 << 5 // io_uring_sqe.flags

	pollAddMulti    = 1 << 0 // io_uring_sqe.len of opPollAdd
	acceptMultishot = 1 << 0 // io_uring_sqe.ioprio of opAccept, 5.19
	recvPollFirst   = 1 << 0 // io_uring_sqe.ioprio of opRecv, 5.19
	recvMultishot   = 1 << 1 // the same, 6.0

	cqeBuffer      = 1 << 0 // io_uring_cqe.flags: a provided buffer was used,
	cqeBufferShift = 16     // with this identifier
	cqeMore        = 1 << 1 // a multishot operation goes on

	opSupported = 1 << 0 // io_uring_probe_op.flags
)

// sqe is struct io_uring_sqe.
type sqe struct {
	opcode      uint8
	flags       uint8
	ioprio      uint16
	fd          int32
	off         uint64
	addr        uint64
	len         uint32
	opFlags     uint32
	userData    uint64
	bufGroup    uint16
	personality uint16
	fileIndex   int32
	addr3       uint64
	_           uint64
}

// cqe is struct io_uring_cqe.
type cqe struct {
	userData uint64
	res      int32
	flags    uint32
}

// params is struct io_uring_params.
type params struct {
	sqEntries, cqEntries uint32
	flags                uint32
	sqThreadCPU          uint32
	sqThreadIdle         uint32
	features             uint32
	wqFD                 uint32
	_                    [3]uint32
	sqOff                struct {
		head, tail, ringMask, ringEntries, flags, dropped, array, _ uint32
		userAddr                                                    uint64
	}
	cqOff struct {
		head, tail, ringMask, ringEntries, overflow, cqes, flags, _ uint32
		userAddr                                                    uint64
	}
}

// getEventsArg is struct io_uring_getevents_arg.
type getEventsArg struct {
	sigmask     uint64
	sigmaskSize uint32
	minWaitUsec uint32 // 6.12
	ts          uint64 // a *timespec
}

// timespec is struct __kernel_timespec.
type timespec struct{ sec, nsec int64 }

// bufReg is struct io_uring_buf_reg.
type bufReg struct {
	ringAddr    uint64
	ringEntries uint32
	bgid        uint16
	flags       uint16
	_           [3]uint64
}

// buf is struct io_uring_buf. In the first one of a ring, tail is where the
// kernel reads up to which buffers are provided.
type buf struct {
	addr uint64
	len  uint32
	bid  uint16
	tail uint16
}

// rsrcUpdate is struct io_uring_rsrc_update.
type rsrcUpdate struct {
	offset uint32
	_      uint32
	data   uint64
}

// probe is struct io_uring_probe with room for the operations used.
type probe struct {
	lastOp uint8
	opsLen uint8
	_      uint16
	_      [3]uint32
	ops    [64]struct {
		op    uint8
		_     uint8
		flags uint16
		_     uint32
	}
}
