//go:build linux

package main

import (
	"context"
	"fmt"
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
	err := ipc.Lock(m.object, unix.F_OFD_SETLK,
		&unix.Flock_t{Type: unix.F_WRLCK, Start: at, Len: 1})
	if err != nil && err != unix.EAGAIN {
		err = fmt.Errorf("fcntl F_OFD_SETLK %s: %w", m.object.Name(), err)
	}
	return err
}

// enter waits for the gate. A process that is stopped in it keeps the others
// waiting, one that is killed does not.
func (m members) enter(ctx context.Context) error {
	for {
		err := m.lock(gate)
		if err != unix.EAGAIN {
			return err
		}
		if err := ipc.Pause(ctx, ipc.Tick); err != nil {
			return err
		}
	}
}

// leave opens the gate for the next.
func (m members) leave() {
	ipc.Lock(m.object, unix.F_OFD_SETLK,
		&unix.Flock_t{Type: unix.F_UNLCK, Start: gate, Len: 1})
}

// join locks the first byte that is free.
func (m members) join() error {
	for at := int64(first); ; at++ {
		if err := m.lock(at); err != unix.EAGAIN {
			return err
		}
	}
}

// others counts the bytes that other processes have locked.
func (m members) others() (int32, error) { return m.count(first, 1<<41) }

// count does so from one byte to another. Of several locks the kernel names
// any, not the first: so it looks on both sides of it.
func (m members) count(from, to int64) (int32, error) {
	if from == to {
		return 0, nil // to the kernel, 0 bytes are all that follow
	}
	lock := unix.Flock_t{Type: unix.F_WRLCK, Start: from, Len: to - from}
	err := ipc.Lock(m.object, unix.F_OFD_GETLK, &lock)
	if err != nil {
		return 0, fmt.Errorf("fcntl F_OFD_GETLK %s: %w", m.object.Name(), err)
	} else if lock.Type == unix.F_UNLCK {
		return 0, nil
	}
	before, err := m.count(from, lock.Start)
	if err != nil {
		return 0, err
	}
	after, err := m.count(lock.Start+1, to)
	return before + 1 + after, err
}
