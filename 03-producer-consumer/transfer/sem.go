//go:build linux && (amd64 || arm64 || riscv64)

package transfer

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// golang.org/x/sys/unix has the numbers of the calls for semaphores, but no
// functions for them. Here they are, with the names that C has.

// Commands of Semctl, from <linux/sem.h>.
const (
	GETPID = 11 // the process that used the semaphore last
	GETVAL = 12
	SETVAL = 16
)

const ipcNowait = 0o4000 // IPC_NOWAIT in <linux/ipc.h>

// Semget finds the set of n semaphores that has the key, or creates it. See
// semget(2).
func Semget(key, n, flags int) (semid int, err error) {
	id, _, errno := unix.Syscall(unix.SYS_SEMGET, uintptr(key), uintptr(n),
		uintptr(flags))
	if errno != 0 {
		return -1, errno
	}
	return int(id), nil
}

// Semctl applies the command cmd to semaphore num. See semctl(2).
func Semctl(semid, num, cmd, arg int) (int, error) {
	n, _, errno := unix.Syscall6(unix.SYS_SEMCTL, uintptr(semid), uintptr(num),
		uintptr(cmd), uintptr(arg), 0, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}

// Semop adds op to semaphore num. +1 is V, and never waits. -1 is P: it waits
// until there is 1 to take. While it waits, it calls look every 200 ms and
// after each signal. An error of look ends the wait. See semop(2).
func Semop(semid, num, op int, look func() error) error {
	err := semtimedop(semid, num, op, 0)
	for err == unix.EAGAIN || err == unix.EINTR {
		if e := look(); e != nil {
			// Perhaps the other process made V before it ended. So try once
			// more, without waiting.
			if semtimedop(semid, num, op, ipcNowait) == nil {
				return nil
			}
			return e
		}
		err = semtimedop(semid, num, op, 0)
	}
	switch err {
	case nil:
		return nil
	case unix.EINVAL, unix.EIDRM:
		return fmt.Errorf("semop set %d: %w: the other process stopped, or "+
			"removed the semaphores", semid, unix.EIDRM)
	}
	return fmt.Errorf("semop set %d: %w", semid, err)
}

func semtimedop(semid, num, op, flag int) error {
	sembuf := [3]int16{int16(num), int16(op), int16(flag)}
	limit := unix.Timespec{Nsec: 200e6}
	var errno unix.Errno
	if op > 0 { // V never waits: Go's scheduler need not know of the call
		_, _, errno = unix.RawSyscall6(unix.SYS_SEMTIMEDOP, uintptr(semid),
			uintptr(unsafe.Pointer(&sembuf)), 1, 0, 0, 0)
	} else {
		_, _, errno = unix.Syscall6(unix.SYS_SEMTIMEDOP, uintptr(semid),
			uintptr(unsafe.Pointer(&sembuf)), 1,
			uintptr(unsafe.Pointer(&limit)), 0, 0)
	}
	if errno != 0 {
		return errno
	}
	return nil
}
