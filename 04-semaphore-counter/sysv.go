//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	semUndo = 0x1000 // SEM_UNDO in <linux/sem.h>
	getPid  = 11     // GETPID
	getVal  = 12     // GETVAL
)

// sysv is a System V semaphore: 1 is unlocked, 0 is locked. It is the only
// semaphore of its set. A set has an id, as a segment has.
type sysv struct {
	*table
	semid int
}

// openSysV creates the set, or finds it. A new semaphore is 0, which is locked.
// The process that creates the set unlocks it once. Until then the set is not
// ready, and the other processes wait. If the creator was killed before that,
// one of the others removes the set after 2 s, and all of them begin again.
func openSysV(ctx context.Context, t *table) (mechanism, error) {
	// The set that was not ready at the last look, and when it was first seen.
	unready, start := -1, time.Now()
	for {
		semid, err := semget(1, unix.IPC_CREAT|unix.IPC_EXCL|0o600)
		switch err {
		case nil: // this process has created the set
			if err = unlockFirst(semid); !removed(err) {
				return &sysv{t, semid}, err
			}
		case unix.EEXIST: // another process has created it
			if semid, err = findSet(); err == nil {
				return &sysv{t, semid}, nil
			}
		default: // the kernel refuses to create a set
			return nil, fmt.Errorf("semget key %#x: %w", *semKey, err)
		}
		switch {
		case err == unix.ENOENT || removed(err):
			// Somebody has removed the set between two of our calls.
		case err != unix.EAGAIN:
			return nil, fmt.Errorf("semget key %#x: %w", *semKey, err)
		case semid != unready: // seen for the first time: 2 s from now
			unready, start = semid, time.Now()
		case time.Since(start) > 2*time.Second:
			log.Printf("removing semaphore set %d: the process that made it "+
				"did not unlock it", semid)
			semctl(semid, unix.IPC_RMID, nil)
		}
		select { // and try again
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// unlockFirst unlocks a new set. It adds 1 with semop, not with SETVAL. semop
// also sets sem_otime, so the others see that the set is ready. Without
// SEM_UNDO the set stays unlocked when this process ends.
func unlockFirst(semid int) error {
	err := semop(semid, +1, 0)
	if err != nil && !removed(err) {
		semctl(semid, unix.IPC_RMID, nil)
		err = fmt.Errorf("semop set %d: %w", semid, err)
	}
	return err
}

// findSet finds the set of -semkey. EAGAIN means that the set is not ready: it
// is locked, and no process has ever called semop on it. A set of another user,
// or with more than one semaphore, is an error.
func findSet() (semid int, err error) {
	if semid, err = semget(1, 0); err != nil {
		return -1, err
	}
	var ds semidDS
	_, err = semctl(semid, unix.IPC_STAT, &ds)
	value, _ := semctl(semid, getVal, nil)
	_, more := semget(2, 0)
	switch {
	case err == unix.EACCES || err == nil && int(ds.UID) != os.Geteuid():
		err = fmt.Errorf("%v: it is another user's\n"+
			"choose another key with -semkey", unix.EEXIST)
	case err == nil && more == nil:
		err = fmt.Errorf("%v: it has more than one semaphore\n"+
			"choose another key with -semkey", unix.EEXIST)
	case err == nil && value == 0 && ds.Otime == 0:
		err = unix.EAGAIN
	}
	return semid, err
}

// lock is the tutorial's semaphore_wait: it takes the 1, or waits for it. With
// SEM_UNDO the kernel gives it back when this process ends, or is killed.
func (s *sysv) lock(ctx context.Context) error {
	waitsFor := func() string {
		pid, _ := semctl(s.semid, getPid, nil) // it called semop last
		return fmt.Sprintf("the lock: pid %d had it last\nif it has ended "+
			"without unlocking, remove it with the same flags and -rm", pid)
	}
	err := inSlices(ctx, func() error { return semop(s.semid, -1, semUndo) },
		waitsFor)
	if err != nil {
		return fmt.Errorf("semop set %d: %w", s.semid, err)
	}
	if n, _ := semctl(s.semid, getVal, nil); n > 0 { // it should be 0 now
		return fmt.Errorf("set %d lets %d processes in at once"+cure, s.semid,
			n+1)
	}
	return nil
}

// unlock is the tutorial's semaphore_signal. It needs SEM_UNDO, too. So the
// kernel has nothing left to give back.
func (s *sysv) unlock() error {
	if err := semop(s.semid, +1, semUndo); err != nil {
		return fmt.Errorf("semop set %d: %w", s.semid, err)
	}
	return nil
}

func removeSysV() error {
	semid, err := findSet()
	if err == nil || err == unix.EAGAIN {
		_, err = semctl(semid, unix.IPC_RMID, nil)
	}
	return removal(fmt.Sprintf("semaphore set of key %#x", *semKey), err)
}

// golang.org/x/sys/unix has the numbers of the system calls for semaphores, but
// no functions for them. Here they are, with the names that C has.

// semget finds the set of -semkey, if it has at least n semaphores, or creates
// it. See semget(2).
func semget(n, flags int) (semid int, err error) {
	id, _, errno := unix.Syscall(unix.SYS_SEMGET, uintptr(*semKey), uintptr(n),
		uintptr(flags))
	if errno != 0 {
		return -1, errno
	}
	return int(id), nil
}

// semop adds op to the semaphore. If the value would become negative, semop
// waits for a slice, and then returns EAGAIN. See semop(2).
func semop(semid int, op, flags int16) error {
	sembuf := struct{ num, op, flags int16 }{0, op, flags}
	limit := unix.NsecToTimespec(int64(slice))
	for {
		_, _, errno := unix.Syscall6(unix.SYS_SEMTIMEDOP, uintptr(semid),
			uintptr(unsafe.Pointer(&sembuf)), 1,
			uintptr(unsafe.Pointer(&limit)), 0, 0)
		if errno == 0 {
			return nil
		} else if errno != unix.EINTR || op < 0 {
			return errno
		} // EINTR: a signal of the Go runtime. Call again.
	}
}

// semidDS is struct semid_ds: the fields that we need, and room for the rest.
type semidDS struct {
	_     int32
	UID   uint32
	_     [40]byte
	Otime int64 // offset 48: of the last semop; 0 is never
	_     [72]byte
}

// semctl applies a command to the set. See semctl(2).
func semctl(semid, command int, ds *semidDS) (int, error) {
	n, _, errno := unix.Syscall6(unix.SYS_SEMCTL, uintptr(semid), 0,
		uintptr(command), uintptr(unsafe.Pointer(ds)), 0, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}
