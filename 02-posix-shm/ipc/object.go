//go:build linux

package ipc

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const createFlags = unix.O_RDWR | unix.O_CREAT | unix.O_EXCL |
	unix.O_NOFOLLOW

// CreateObject makes the object, size bytes with permissions mode (less the
// umask), and reserves its memory: a full /dev/shm is an error here and not a
// SIGBUS later. What a crash left it replaces; an object that must stay is an
// error that says why. See shm_open(3), fallocate(2).
func CreateObject(ctx context.Context, name Name, size int64, mode Mode) (
	*os.File, error) {
	for start := time.Now(); ; {
		fd, err := Open(name.Path(""), createFlags, mode)
		switch err {
		case nil:
			f := os.NewFile(uintptr(fd), name.Path(""))
			return f, Reserve(f, name, size)
		case unix.EEXIST:
			err := makeRoomFor(name, size, time.Since(start))
			if err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("shm_open %s: %w", name, err)
		}
		// Not in step with others who look at it, too.
		if err := Pause(ctx, rand.N(2*Tick)); err != nil {
			return nil, err
		}
	}
}

// Reserve gives a new object its size and its pages, or removes it.
func Reserve(f *os.File, name Name, size int64) error {
	err := Fallocate(f, size)
	if err == nil {
		return nil
	}
	RemoveObject(name)
	f.Close()
	return fmt.Errorf("fallocate %s, %d bytes: %w\ndf -h /dev/shm shows what "+
		"there is", name, size, err)
}

// Fallocate is fallocate(2): a size for the file, and its memory. A signal does
// not disturb it.
func Fallocate(f *os.File, size int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), 0, 0, size)
		if err != unix.EINTR {
			return err
		}
	}
}

// makeRoomFor removes an object that a crash left. It returns nil to try
// again, and for an object that must stay the reason. In between the object
// is not open here, so that its last users see that they are alone, and go.
func makeRoomFor(name Name, size int64, waited time.Duration) error {
	f, err := examine(name, unix.O_RDWR, size)
	if err == unix.ENOENT || err == unix.EAGAIN {
		return nil
	} else if err != nil {
		return err
	}
	defer f.Close()
	// Of several who want to remove it one may, lest another's new object of
	// the same name is removed. The others have it open for an instant.
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Nlink == 0 {
		return err
	}
	if !Unused(f) && waited < 2*time.Second {
		return nil
	} else if !Unused(f) {
		return fmt.Errorf("shm_open %s: %w: in use\nwait until it ends, or "+
			"choose another name with -name", name, unix.EEXIST)
	}
	Note("removing %s: a crash left it", name)
	return RemoveObject(name)
}

// examine opens an object that exists, and refuses what cannot be one of
// ours: ENOENT or EAGAIN mean to look again later.
func examine(name Name, access int, size int64) (*os.File, error) {
	fd, err := Open(name.Path(""), access|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	var st unix.Stat_t
	if err == unix.ENOENT || err == unix.EAGAIN {
		return nil, err
	} else if err == nil {
		err = unix.Fstat(fd, &st)
	} else {
		unix.Lstat(name.Path(""), &st) // to say what it is instead
	}
	uid := os.Geteuid()
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG && st.Mode != 0:
		err = fmt.Errorf("shm_open %s: it is no shared memory object\nremove "+
			"%s, or choose another name with -name", name, name.Path(""))
	case st.Mode != 0 && int(st.Uid) != uid:
		err = fmt.Errorf("shm_open %s: %w: it belongs to uid %d\ngive all "+
			"programs a name of your own: -name %s-%d",
			name, unix.EEXIST, st.Uid, name, uid)
	case err != nil:
		err = fmt.Errorf("shm_open %s: %w", name, err)
	case st.Nlink == 0:
		err = unix.ENOENT
	case st.Size != 0 && st.Size != size:
		err = fmt.Errorf("shm_open %s: %w: %d bytes, %d wanted\nchoose "+
			"another name with -name, or remove %s",
			name, unix.EEXIST, st.Size, size, name.Path(""))
	}
	if err != nil {
		if fd >= 0 {
			unix.Close(fd)
		}
		return nil, err
	}
	return os.NewFile(uintptr(fd), name.Path("")), nil
}

// OpenObject waits until somebody has made the object, of size bytes, and has
// it open, and opens it with access unix.O_RDONLY or O_RDWR. A timeout of 0 is
// no limit. See shm_open(3).
func OpenObject(ctx context.Context, name Name, size int64, access int,
	timeout time.Duration) (*os.File, error) {
	waiting := sync.OnceFunc(func() { Note("waiting for %s", name) })
	hint := time.AfterFunc(5*time.Second, func() {
		Note("still waiting: other -name, other user, other container?")
	})
	defer hint.Stop()
	for start, inUse := time.Now(), 0; ; {
		f, err := examine(name, access, size)
		if err == nil {
			st, err := f.Stat()
			if err == nil && st.Size() == size && !Unused(f) {
				inUse++
			} else {
				inUse = 0 // not ready, or left by a crash
			}
			// Once may have been another who only looked at what is left.
			if inUse == 3 {
				return f, nil
			}
			f.Close()
		} else if err != unix.ENOENT && err != unix.EAGAIN {
			return nil, err
		} else {
			inUse = 0
		}
		if inUse == 0 {
			waiting()
		}
		if timeout > 0 && time.Since(start) > timeout {
			return nil, fmt.Errorf("%s did not come within %v", name, timeout)
		}
		if err := Pause(ctx, rand.N(2*Tick)); err != nil {
			return nil, err
		}
	}
}

// OpenOrCreate opens the object if there is one, and else creates it, without
// a size yet. See shm_open(3).
func OpenOrCreate(name Name, size int64, mode Mode) (*os.File, error) {
	for {
		f, err := examine(name, unix.O_RDWR, size)
		if err != unix.ENOENT && err != unix.EAGAIN {
			return f, err
		}
		fd, err := Open(name.Path(""), createFlags, mode)
		if err == nil {
			return os.NewFile(uintptr(fd), name.Path("")), nil
		} else if err != unix.EEXIST {
			return nil, fmt.Errorf("shm_open %s: %w", name, err)
		}
	}
}

// Unused tells whether nobody else has the object open or mapped, whatever
// language it is written in: only then does the kernel grant a write lease,
// which is given back at once. See F_SETLEASE in fcntl(2).
func Unused(f *os.File) bool {
	_, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK)
	if err != nil {
		return false
	}
	unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
	return true
}

// Abandoned is Unused, asked again for half a second: others may open the
// object for an instant, to look at it, as we do.
func Abandoned(f *os.File) bool {
	for range 50 {
		if Unused(f) {
			return true
		}
		time.Sleep(rand.N(2 * Tick))
	}
	return false
}

// RemoveObject removes the name; the memory goes when nobody has it open or
// mapped. That it is gone already is no error. See shm_unlink(3).
func RemoveObject(name Name) error {
	if err := unix.Unlink(name.Path("")); err != nil && err != unix.ENOENT {
		return fmt.Errorf("shm_unlink %s: %w", name, err)
	}
	return nil
}
