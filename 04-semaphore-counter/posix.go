//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"example.com/shm-by-example/04-semaphore-counter/ipc"
)

// semT is glibc's sem_t on 64-bit little-endian machines, 32 bytes.
type semT struct {
	// offset 0: the value; and in the upper half how many wait
	state   atomic.Uint64
	private uint32 // offset 8: 128 if processes share it
	_       [20]byte
}

const (
	semSize = 32
	waiter  = 1 << 32 // one of those who wait, in state
)

// posix is a POSIX named semaphore: a file in /dev/shm, which is mapped. See
// sem_overview(7).
type posix struct {
	*table
	*semT
	file *os.File
}

// openPOSIX opens the semaphore, or makes it, as sem_open(3) does.
func openPOSIX(ctx context.Context, t *table) (mechanism, error) {
	for {
		f, err := openSemaphore()
		if err == unix.ENOENT {
			f, err = createSemaphore()
		}
		switch err {
		case nil:
			mem, err := unix.Mmap(int(f.Fd()), 0, semSize,
				unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			if err != nil {
				return nil, fmt.Errorf("mmap %s: %w", f.Name(), err)
			}
			sem := (*semT)(unsafe.Pointer((*[semSize]byte)(mem)))
			return &posix{t, sem, f}, nil
		case unix.EEXIST: // another has just made it: look again
		default:
			return nil, fmt.Errorf("sem_open %s: %w", name, err)
		}
		if err := ipc.Pause(ctx, ipc.Tick); err != nil {
			return nil, err
		}
	}
}

// openSemaphore opens what exists, if it can be one of ours.
func openSemaphore() (*os.File, error) {
	path := name.Path("sem.")
	if err := examine(path); err != nil {
		return nil, err
	}
	fd, err := ipc.Open(path, unix.O_RDWR|unix.O_NOFOLLOW, 0)
	if err == unix.EACCES {
		err = fmt.Errorf("%w\nremove it with the same flags and -rm", err)
	}
	return os.NewFile(uintptr(fd), path), err
}

// examine refuses what cannot be a semaphore of ours. See lstat(2).
func examine(path string) error {
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	uid := os.Geteuid()
	switch {
	case err != nil:
	case int(st.Uid) != uid:
		err = fmt.Errorf("%w: it belongs to uid %d\ntake a name of your own: "+
			"-name %s-%d", unix.EEXIST, st.Uid, name, uid)
	case st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size != semSize:
		err = fmt.Errorf("%s is no semaphore\nremove it, or choose another "+
			"name with -name", path)
	}
	return err
}

// createSemaphore makes the file without a name, and gives it the name when
// all is in it: so nobody ever sees half a semaphore. EEXIST if another was
// faster. See O_TMPFILE in open(2).
func createSemaphore() (*os.File, error) {
	fd, err := ipc.Open("/dev/shm", unix.O_TMPFILE|unix.O_RDWR, mode)
	if err != nil {
		return nil, fmt.Errorf("making a file in /dev/shm: %w", err)
	}
	f := os.NewFile(uintptr(fd), name.Path("sem."))
	sem := semT{private: 128}
	sem.state.Store(1)
	_, err = f.Write((*[semSize]byte)(unsafe.Pointer(&sem))[:])
	if err != nil {
		err = fmt.Errorf("%w\ndf -h /dev/shm shows what there is", err)
	} else {
		err = unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd),
			unix.AT_FDCWD, f.Name(), unix.AT_SYMLINK_FOLLOW)
	}
	if err == unix.ENOENT {
		err = fmt.Errorf("linkat, with /proc: %w", err)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// lock is sem_wait(3): it takes 1 away, or waits. Nobody knows who has it.
func (p *posix) lock(ctx context.Context) error {
	return inSlices(ctx, func(d time.Duration) error {
		return ipc.Guard(func() error { return p.tryLock(d) })
	}, func() string {
		return "still waiting for " + name.String() + "\nif its holder was " +
			"killed, nobody will unlock it: remove it with the same flags " +
			"and -rm"
	})
}

func (p *posix) tryLock(d time.Duration) error {
	for end := time.Now().Add(d); ; {
		var st unix.Stat_t
		if err := unix.Fstat(int(p.file.Fd()), &st); err != nil {
			return fmt.Errorf("fstat %s: %w", name, err)
		} else if st.Nlink == 0 {
			return fmt.Errorf("%s: %w: somebody removed it", name, unix.EIDRM)
		}
		state := p.state.Load()
		switch value := uint32(state); {
		case value > 1:
			return fmt.Errorf("%s: it lets %d processes in at once\nremove "+
				"it with the same flags and -rm", name, value)
		case value == 1:
			if p.state.CompareAndSwap(state, state-1) {
				return nil
			}
		case time.Now().After(end):
			return unix.EAGAIN
		default:
			// Whoever unlocks wakes somebody only if he sees a waiter. The
			// kernel looks at the value again before it lets us sleep.
			p.state.Add(waiter)
			ipc.FutexWait(p.value(), 0, time.Until(end))
			p.state.Add(^uint64(waiter - 1)) // minus waiter: Add has no minus
		}
	}
}

// value is the half of state on which they sleep who wait: the lower one,
// which comes first on a little-endian machine.
func (p *posix) value() *atomic.Uint32 {
	return (*atomic.Uint32)(unsafe.Pointer(&p.state))
}

// unlock is sem_post(3): it adds 1, and wakes one who waits.
func (p *posix) unlock() error {
	return ipc.Guard(func() error {
		if p.state.Add(1) >= waiter {
			ipc.FutexWake(p.value(), 1)
		}
		return nil
	})
}

func removePOSIX() error {
	path := name.Path("sem.")
	err := examine(path)
	if err == nil {
		ipc.Note("removing semaphore %s", name)
		err = unix.Unlink(path)
	}
	if err == unix.ENOENT {
		ipc.Note("no semaphore %s", name)
		return nil
	} else if err != nil {
		return fmt.Errorf("sem_unlink %s: %w", name, err)
	}
	return nil
}
