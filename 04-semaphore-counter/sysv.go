//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"example.com/shm-by-example/04-semaphore-counter/ipc"
)

// semUndo is SEM_UNDO: the kernel takes the operation back when the process
// ends, so a lock is unlocked even if its holder is killed. See semop(2).
const semUndo = 0x1000

// sysv is a System V semaphore: 1 is unlocked, 0 locked.
type sysv struct {
	*table
	set ipc.Semaphores
}

// openSysV opens the set, or makes it. One process makes it, and adds 1 once;
// the others wait until that has been done. See semget(2).
func openSysV(ctx context.Context, t *table) (mechanism, error) {
	for start, before := time.Now(), ipc.Semaphores(-1); ; {
		set, err := ipc.Semget(semKey, 1,
			unix.IPC_CREAT|unix.IPC_EXCL|int(mode))
		if err == nil {
			err = set.Add(0, 1, 0, 0) // not to be undone
		} else if err == unix.EEXIST {
			if set, err = ipc.Semget(semKey, 1, 0); err == nil {
				err = ready(set)
			}
		}
		switch err {
		case nil:
			return &sysv{t, set}, nil
		case unix.EAGAIN:
			if set != before {
				start, before = time.Now(), set
			} else if time.Since(start) > 2*time.Second {
				ipc.Note("removing semaphore set %d: whoever made it did "+
					"not come to unlock it", set)
				if err := set.Remove(); err != nil {
					return nil, err
				}
			}
		case unix.ENOENT, unix.EIDRM: // just removed: look again
		default:
			return nil, ipc.SemError("semget", semKey, err)
		}
		if err := ipc.Pause(ctx, ipc.Tick); err != nil {
			return nil, err
		}
	}
}

// ready returns EAGAIN for a set that nobody has added the 1 to, and an error
// for one that is not a lock of ours.
func ready(set ipc.Semaphores) error {
	ds, err := set.Stat()
	switch {
	case err == unix.EINVAL:
		return unix.EIDRM
	case err != nil:
		return err
	case int(ds.Uid) != os.Geteuid():
		return fmt.Errorf("%w: it belongs to uid %d\nchoose another key "+
			"with -semkey", unix.EEXIST, ds.Uid)
	case set.Value(1) >= 0:
		return fmt.Errorf("%w: it has more than one semaphore\nanother "+
			"lesson uses this key: choose one with -semkey", unix.EEXIST)
	}
	switch value := set.Value(0); {
	case value < 0:
		return unix.EIDRM
	case value == 0 && ds.Otime == 0:
		return unix.EAGAIN
	}
	return nil
}

func (s *sysv) lock(ctx context.Context) error {
	err := inSlices(ctx, func(d time.Duration) error {
		return s.set.Add(0, -1, semUndo, d)
	}, func() string {
		pid := s.set.LastPid(0)
		if pid <= 0 {
			return "still waiting: a process that cannot be seen has the lock"
		} else if ipc.Exited(pid) {
			return fmt.Sprintf("still waiting: pid %d has ended with the "+
				"lock\nremove it with the same flags and -rm", pid)
		}
		return fmt.Sprintf("still waiting: pid %d has the lock", pid)
	})
	if err != nil {
		return s.failed(err)
	}
	if n := s.set.Value(0); n > 0 {
		return fmt.Errorf("semaphore set %d: it lets %d processes in at once"+
			"\nremove it with the same flags and -rm", s.set, n+1)
	}
	return nil
}

func (s *sysv) unlock() error {
	return s.failed(s.set.Add(0, 1, semUndo, 0))
}

func (s *sysv) failed(err error) error {
	errno, ok := err.(unix.Errno)
	if errno == unix.EIDRM {
		err = fmt.Errorf("%w: somebody removed it", err)
	}
	if ok {
		err = fmt.Errorf("semop set %d: %w", s.set, err)
	}
	return err
}

func removeSysV() error {
	set, err := ipc.Semget(semKey, 1, 0)
	if err == nil {
		err = ready(set)
	}
	switch err {
	case nil, unix.EAGAIN:
		ipc.Note("removing semaphore set %d of key %v", set, semKey)
		return set.Remove()
	case unix.ENOENT, unix.EIDRM:
		ipc.Note("no semaphore set of key %v", semKey)
		return nil
	}
	return fmt.Errorf("semget key %v: %w", semKey, err)
}
