package userns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// reportFd is where the holder says that it is ready, or why it cannot be.
const reportFd = 3

// Hold is the holder's life: as the first process of its namespaces, it sets
// them up, tells Enter, and then only buries orphans until ctx ends.
func Hold(ctx context.Context) error {
	report := os.NewFile(reportFd, "report")
	if report == nil {
		return errors.New("hold a user namespace: only `pharos lab up` can start this")
	}
	if err := setUp(); err != nil {
		fmt.Fprintln(report, err)
		report.Close()
		return err
	}
	fmt.Fprintln(report, "ready")
	report.Close()
	return Reap(ctx)
}

// setUp gives the namespaces a /proc and a /run of their own.
func setUp() error {
	if os.Getpid() != 1 {
		return errors.New("the holder is not the first process of its namespace")
	}
	// Nothing mounted here may show outside.
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := syscall.Mount("proc", "/proc", "proc", syscall.MS_NOSUID|syscall.MS_NODEV|syscall.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := syscall.Mount("tmpfs", "/run", "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, "mode=755"); err != nil {
		return fmt.Errorf("mount /run: %w", err)
	}
	return nil
}

// Reap waits for ctx to end, and buries the children that are left to this
// process, as the first process of a container or a namespace must.
func Reap(ctx context.Context) error {
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)
	defer signal.Stop(children)
	for {
		for {
			pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
			if errors.Is(err, syscall.EINTR) {
				continue
			}
			if err != nil || pid <= 0 {
				break
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-children:
		}
	}
}
