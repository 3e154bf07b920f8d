package probe

import (
	"fmt"

	"golang.org/x/sys/unix"
)

const (
	// diskReserve is what the data directory's disk must have left: less does not
	// hold a snapshot and the log that goes on after it.
	diskReserve = 16 << 20
	// descriptorReserve is how many descriptors must be left: a connection takes
	// two, and files that the node needs are to be opened still.
	descriptorReserve = 64
)

// DiskFull says what is wanting on the disk of a directory; empty: nothing is, or
// it cannot be told. It may wait for the disk.
func DiskFull(dir string) string {
	var st unix.Statfs_t
	if dir == "" || unix.Statfs(dir, &st) != nil {
		return ""
	}
	return judgeDisk(dir, st.Bavail*uint64(st.Bsize), st.Files, st.Ffree)
}

// judgeDisk is DiskFull on what statfs has said. Some file systems have no fixed
// number of files: then both are 0.
func judgeDisk(dir string, free, files, freeFiles uint64) string {
	switch {
	case free < diskReserve:
		return fmt.Sprintf("%s: the disk has %d KiB left, at least %d MiB are needed", dir, free>>10, diskReserve>>20)
	case files > 0 && freeFiles == 0:
		return dir + ": the disk takes no further files"
	}
	return ""
}

// DescriptorsUsedUp says that this process can open nothing more, or hardly;
// empty: it can. It costs three system calls, however many there are: a new
// descriptor gets the lowest number that is free.
func DescriptorsUsedUp() string {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return ""
	}
	fd, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err == unix.EMFILE || err == unix.ENFILE {
		return fmt.Sprintf("no further descriptor can be opened: %v (the limit is %d)", err, limit.Cur)
	}
	if err != nil {
		return ""
	}
	_ = unix.Close(fd)
	return judgeDescriptors(uint64(fd), limit.Cur)
}

// judgeDescriptors judges by the lowest number that is free. A small limit keeps a
// smaller part in reserve.
func judgeDescriptors(lowest, limit uint64) string {
	if reserve := min(descriptorReserve, limit/8); lowest+reserve < limit {
		return ""
	}
	return fmt.Sprintf("%d of at most %d descriptors are open", lowest, limit)
}
