//go:build linux

package ipc

import (
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Semaphores is a System V semaphore set, by its id. golang.org/x/sys has the
// numbers of these system calls but no functions for them. See svipc(7).
type Semaphores int

// NoWait is IPC_NOWAIT: EAGAIN rather than wait.
const NoWait = 0o4000

type sembuf struct{ num, op, flag int16 } // see semop(2)

// Semget finds the set of key, which has n semaphores or more; or makes it
// if flags has unix.IPC_CREAT, with permissions in the low bits. See semget(2).
func Semget(key Key, n, flags int) (Semaphores, error) {
	id, _, errno := unix.Syscall(unix.SYS_SEMGET, uintptr(key), uintptr(n),
		uintptr(flags))
	if errno != 0 {
		return 0, errno
	}
	return Semaphores(id), nil
}

// Add adds op to semaphore num. A negative op waits until there is as much,
// for at the most d, and then returns EAGAIN. EIDRM means that the set has
// been removed. A signal does not disturb it. See semtimedop(2).
func (s Semaphores) Add(num, op, flag int16, d time.Duration) error {
	return s.semtimedop([]sembuf{{num, op, flag}}, d)
}

func (s Semaphores) semtimedop(ops []sembuf, d time.Duration) error {
	limit := unix.NsecToTimespec(int64(d))
	for end := (time.Time{}); ; {
		_, _, errno := unix.Syscall6(unix.SYS_SEMTIMEDOP, uintptr(s),
			uintptr(unsafe.Pointer(&ops[0])), uintptr(len(ops)),
			uintptr(unsafe.Pointer(&limit)), 0, 0)
		switch errno {
		case 0:
			return nil
		case unix.EINVAL: // no such set any more
			return unix.EIDRM
		case unix.EINTR: // Go's own signals interrupt it too
		default:
			return errno
		}
		if end.IsZero() {
			end = time.Now().Add(d)
		}
		limit = unix.NsecToTimespec(max(0, int64(time.Until(end))))
	}
}

// Value returns the value of semaphore num, or -1 if the set has been removed.
// See GETVAL in semctl(2).
func (s Semaphores) Value(num int) int { return s.get(num, 12) }

// LastPid returns who did the last operation on semaphore num, 0 if nobody
// or not known, -1 if the set has been removed. See GETPID in semctl(2).
func (s Semaphores) LastPid(num int) int32 { return int32(s.get(num, 11)) }

func (s Semaphores) get(num, what int) int {
	n, _, errno := unix.Syscall6(unix.SYS_SEMCTL, uintptr(s), uintptr(num),
		uintptr(what), 0, 0, 0)
	if errno != 0 {
		return -1
	}
	return int(n)
}

// Remove removes the set; who waits in it gets EIDRM. That it has been
// removed before is no error. See IPC_RMID in semctl(2).
func (s Semaphores) Remove() error {
	_, _, errno := unix.Syscall6(unix.SYS_SEMCTL, uintptr(s), 0,
		unix.IPC_RMID, 0, 0, 0)
	if errno != 0 && errno != unix.EINVAL && errno != unix.EIDRM {
		return fmt.Errorf("semctl set %d: %w", s, errno)
	}
	return nil
}
