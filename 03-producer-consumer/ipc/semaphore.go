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

// CreateSemaphores makes the set of key with these values. Only who has just
// created the segment that it belongs to may call it: a set that exists was
// then left by a crash, and is replaced. Linux makes a set of zeros, which
// nobody can pass; one semop adds all the values at once. See semget(2).
func CreateSemaphores(key Key, mode Mode, values ...int16) (Semaphores, error) {
	n, flags := len(values), unix.IPC_CREAT|unix.IPC_EXCL|int(mode)
	set, err := semget(key, n, flags)
	for start := time.Now(); err == unix.EEXIST; {
		if err := removeOld(key, n, time.Since(start)); err != nil {
			return 0, err
		}
		set, err = semget(key, n, flags)
	}
	if err != nil {
		return 0, fmt.Errorf("semget key %v: %w", key, err)
	}
	ops := make([]sembuf, n)
	for i, value := range values {
		ops[i] = sembuf{int16(i), value, 0}
	}
	if err := set.semtimedop(ops, 0); err != nil {
		set.Remove()
		return 0, fmt.Errorf("semop set %d: %w", set, err)
	}
	return set, nil
}

// removeOld removes the set of key, unless it is in use: then it returns nil
// for a while, since its last user may be on its way out, and an error later.
func removeOld(key Key, n int, waited time.Duration) error {
	old, err := semget(key, 0, 0)
	if err == unix.ENOENT {
		return nil
	} else if err != nil {
		return fmt.Errorf("semget key %v: %w\nchoose another key with -semkey",
			key, err)
	}
	for num := range n {
		pid := old.LastPid(num)
		if pid <= 0 || Exited(pid) {
			continue
		} else if waited < 3*time.Second {
			time.Sleep(Tick)
			return nil
		}
		return fmt.Errorf("semget key %v: %w: in use by pid %d\nchoose "+
			"another key with -semkey", key, unix.EEXIST, pid)
	}
	Note("removing semaphore set %d of key %v: a crash left it", old, key)
	return old.Remove()
}

// OpenSemaphores finds the set of key, of n semaphores or more; ENOENT if
// there is none. See semget(2).
func OpenSemaphores(key Key, n int) (Semaphores, error) {
	return semget(key, n, 0)
}

func semget(key Key, n, flags int) (Semaphores, error) {
	id, _, errno := unix.Syscall(unix.SYS_SEMGET, uintptr(key), uintptr(n),
		uintptr(flags))
	if errno != 0 {
		return 0, errno
	}
	return Semaphores(id), nil
}

// Add adds op to semaphore num. A negative op waits until there is as much,
// for at the most d, and then returns EAGAIN. EIDRM and EINVAL mean that the
// set has been removed. A signal does not disturb it. See semtimedop(2).
func (s Semaphores) Add(num, op, flag int16, d time.Duration) error {
	return s.semtimedop([]sembuf{{num, op, flag}}, d)
}

func (s Semaphores) semtimedop(ops []sembuf, d time.Duration) error {
	for end := time.Now().Add(d); ; {
		limit := unix.NsecToTimespec(max(0, int64(time.Until(end))))
		_, _, errno := unix.Syscall6(unix.SYS_SEMTIMEDOP, uintptr(s),
			uintptr(unsafe.Pointer(&ops[0])), uintptr(len(ops)),
			uintptr(unsafe.Pointer(&limit)), 0, 0)
		if errno == 0 {
			return nil
		} else if errno != unix.EINTR { // Go's own signals interrupt it too
			return errno
		}
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
