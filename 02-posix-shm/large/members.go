//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"cmp"
	"context"
	"fmt"
	"log"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"example.com/shm-by-example/02-posix-shm/object"
)

const size = 1048576 // bytes of the object

// A layout is laid over the mapped object.
type layout struct {
	Size  atomic.Uint64   // offset 0
	Count atomic.Int32    // offset 8: process_count
	Data  [size - 12]byte // offset 12: text, ends with NUL
}

// lock locks the object. If another process has the lock, or has removed the
// object, the error is EAGAIN: open it again. A process keeps the object closed
// while it waits for the lock. Otherwise the last process would never be alone.
func lock(fd int) error {
	err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	if err == nil && object.HasName(fd) {
		return nil
	}
	unix.Close(fd)
	if err == nil || err == unix.EINTR {
		err = unix.EAGAIN
	} else if err != unix.EAGAIN {
		err = fmt.Errorf("flock %s: %w", *name, err)
	}
	return err
}

// pause waits for a short random time if err is EAGAIN. It returns err, or the
// signal that has ended ctx.
func pause(ctx context.Context, err error) error {
	if err == unix.EAGAIN {
		err = cmp.Or(object.Pause(ctx), err)
	}
	return err
}

// isFirst tells whether no other process has the object. If the count is above
// 0 all the same, some processes were killed.
func isFirst(shared *layout, fd int) (bool, error) {
	n := shared.Count.Load()
	if n == 0 {
		return true, nil
	}
	err := object.LeaseSoon(fd, *name)
	if err == unix.EAGAIN {
		return false, nil
	} else if err == nil {
		log.Printf("process_count is %d, but nobody is there: some were killed",
			n)
		object.GiveBack(fd)
	}
	return err == nil, err
}

// isLast locks the object and tells whether no other process has it. Then this
// process has the lease: no other can open the object until this one closes
// it. Without the lock, two processes that leave at once would each find the
// other still there.
func isLast(fd int) (bool, error) {
	err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	for try := 0; err != nil && try < 100; try++ {
		time.Sleep(10 * time.Millisecond)
		err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	}
	if err == unix.EAGAIN {
		// A process that has the lock for so long will leave after us. So it
		// will remove the object.
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("flock %s: %w", *name, err)
	}
	err = object.LeaseSoon(fd, *name)
	if err == unix.EAGAIN {
		return false, nil
	}
	return err == nil && object.HasName(fd), err
}
