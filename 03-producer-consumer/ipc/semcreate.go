//go:build linux

package ipc

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// CreateSemaphores makes the set of key with these values. Only who has just
// created the segment that it belongs to may call it: a set that exists was
// then left by a crash, and is replaced. Linux makes a set of zeros, which
// nobody can pass; one semop adds all the values at once. See semget(2).
func CreateSemaphores(key Key, mode Mode, values ...int16) (Semaphores, error) {
	n, flags := len(values), unix.IPC_CREAT|unix.IPC_EXCL|int(mode)
	set, err := Semget(key, n, flags)
	for start := time.Now(); err == unix.EEXIST; {
		if err := removeOld(key, n, time.Since(start)); err != nil {
			return 0, err
		}
		set, err = Semget(key, n, flags)
	}
	if err != nil {
		return 0, SemError("semget", key, err)
	}
	ops := make([]sembuf, n)
	for i, value := range values {
		ops[i] = sembuf{int16(i), value, 0}
	}
	if err := set.semtimedop(ops, 0); err != nil {
		set.Remove()
		return 0, SemError("semop", key, err)
	}
	return set, nil
}

// removeOld removes the set of key, unless it is in use: then it returns nil
// for a while, since its last user may be on its way out, and an error later.
func removeOld(key Key, n int, waited time.Duration) error {
	old, err := Semget(key, 0, 0)
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
