//go:build linux

package ipc

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Create makes the segment of key, size bytes with permissions mode, and
// attaches it. A segment that a crash left it replaces; one that must stay
// is an error that says why. What belongs to the segment, such as semaphores,
// is for prepare to make, if not nil: it runs before the attach, by which
// others know that the segment is ready. See shmget(2), shmat(2).
func Create(ctx context.Context, key Key, size int, mode Mode,
	prepare func() error) (shmid int, mem []byte, err error) {
	flags := unix.IPC_CREAT | unix.IPC_EXCL | int(mode)
	start := time.Now()
	for {
		shmid, err = unix.SysvShmGet(int(key), size, flags)
		switch err {
		case nil:
			mem, err = attachNew(shmid, prepare)
			if err != ErrRemoved {
				return shmid, mem, err
			}
			// So slow that it was taken for a leftover: once more.
		case unix.EEXIST:
			err = makeRoom(key, size, time.Since(start))
			if err != nil {
				return 0, nil, err
			}
		default:
			return 0, nil, ShmgetError(key, size, err)
		}
		if err := Pause(ctx, Tick); err != nil {
			return 0, nil, err
		}
	}
}

// attachNew attaches a segment that was made just now, or removes it again.
func attachNew(shmid int, prepare func() error) (mem []byte, err error) {
	if prepare != nil {
		err = prepare()
	}
	if err == nil {
		mem, err = Attach(shmid, 0)
	}
	if err == nil {
		if _, err = Stat(shmid); err == nil {
			return mem, nil
		}
		unix.SysvShmDetach(mem)
	}
	Remove(shmid)
	return nil, err
}

// makeRoom removes the segment of key if a crash left it. It returns nil to
// try again, and for a segment that must stay the reason. It knows only what
// the kernel does, because a peer in C leaves no other trace.
func makeRoom(key Key, size int, waited time.Duration) error {
	const patience = 3 * time.Second
	shmid, old, err := Lookup(key, size)
	if err == unix.ENOENT || err == ErrRemoved {
		return nil
	} else if err != nil {
		return err
	}
	age := time.Since(time.Unix(old.Ctime, 0)) // up to 1 s too much
	dead := Exited(old.Cpid)
	switch {
	case old.Nattch > 0 && waited < patience && (dead || old.Cpid == 0):
		return nil // its last readers may be on their way out
	case old.Nattch > 0 && dead:
		return fmt.Errorf("shmget key %v: %w: pid %d, which made it, has "+
			"ended, but %d attached\nend those, or choose another key with "+
			"-key", key, unix.EEXIST, old.Cpid, old.Nattch)
	case old.Nattch > 0:
		return fmt.Errorf("shmget key %v: %w: in use, pid %d made it, %d "+
			"attached\nwait until it ends, or choose another key with -key",
			key, unix.EEXIST, old.Cpid, old.Nattch)
	case old.Atime == 0 && age < patience && waited < patience:
		return nil // being created: not yet attached
	}
	Note("removing segment %d of key %v: a crash left it", shmid, key)
	return Remove(shmid)
}
