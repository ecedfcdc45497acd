//go:build linux

package main

import (
	"context"
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"example.com/shm-by-example/02-posix-shm/ipc"
)

// members are the processes that have the object attached, as the kernel
// knows them: each has locked one byte, far behind the data, where no byte
// need be. The kernel unlocks it when the process ends, however it ends: so
// the locks are right after a crash, when process_count in the object is not.
// See F_OFD_SETLK in fcntl(2).
type members struct{ object *os.File }

const (
	gate  = 1 << 40  // who has locked this byte may come, go and count
	first = gate + 1 // the first of the bytes of the members
)

// lock locks a byte; EAGAIN if another process has.
func (m members) lock(at int64) error {
	return unix.FcntlFlock(m.object.Fd(), unix.F_OFD_SETLK,
		&unix.Flock_t{Type: unix.F_WRLCK, Start: at, Len: 1})
}

// enter waits for the gate. A process that is stopped in it keeps the others
// waiting, one that is killed does not.
func (m members) enter(ctx context.Context) error {
	for {
		err := m.lock(gate)
		if !errors.Is(err, unix.EAGAIN) {
			return err
		}
		if err := ipc.Pause(ctx, ipc.Tick); err != nil {
			return err
		}
	}
}

// leave opens the gate for the next.
func (m members) leave() {
	unix.FcntlFlock(m.object.Fd(), unix.F_OFD_SETLK,
		&unix.Flock_t{Type: unix.F_UNLCK, Start: gate, Len: 1})
}

// join locks the first byte that is free.
func (m members) join() error {
	for at := int64(first); ; at++ {
		if err := m.lock(at); !errors.Is(err, unix.EAGAIN) {
			return err
		}
	}
}

// others counts the bytes that other processes have locked.
func (m members) others() (n int32, err error) {
	for at := int64(first); ; n++ {
		// Len 0 is all that follows.
		lock := unix.Flock_t{Type: unix.F_WRLCK, Start: at, Len: 0}
		err := unix.FcntlFlock(m.object.Fd(), unix.F_OFD_GETLK, &lock)
		if err != nil || lock.Type == unix.F_UNLCK {
			return n, err
		}
		at = lock.Start + 1
	}
}
