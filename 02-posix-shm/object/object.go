//go:build linux && (amd64 || arm64 || riscv64)

// Package object holds what the programs of this lesson share. Is the file of a
// name one of our objects? Does any other process have it?
package object

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Careful are flags for open(2). Every user may create files in /dev/shm. With
// these flags the call does not follow a symbolic link, and does not wait for
// the other end of a FIFO.
const Careful = unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC

// Cure says what helps when an object cannot be created.
const Cure = "\n/dev/shm must be a writable tmpfs with room: see df -h " +
	"/dev/shm, df -i /dev/shm and mount"

// Path returns the path of an object's file: shm_open(3) is open(2) of it.
func Path(name string) (string, error) {
	file, ok := strings.CutPrefix(name, "/")
	if !ok || file == "" || file == "." || file == ".." || len(file) > 254 ||
		strings.ContainsAny(file, "/\x00") {
		return "", fmt.Errorf("-name %q: want a slash and a file name", name)
	}
	return "/dev/shm/" + file, nil
}

// Check takes the results of open(2) and tells whether fd is one of our
// objects: a regular file of this user that has size bytes, or none yet, since
// its creator is still at work. It returns ENOENT if there is no object, and
// EAGAIN if the caller should open it again. Any other error says what is wrong
// with the object, and what to do. After an error fd is closed.
func Check(fd int, err error, name string, size int64) error {
	switch err {
	case nil:
		err = checkOpen(fd, name, size)
		if err != nil {
			unix.Close(fd)
		}
		return err
	case unix.ENOENT, unix.EAGAIN:
		return err
	case unix.EINTR: // a signal has interrupted the call
		return unix.EAGAIN
	}
	return explain(err, name)
}

// checkOpen looks at an object that is open.
func checkOpen(fd int, name string, size int64) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("fstat %s: %w", name, err)
	} else if err := checkOwn(&st, name); err != nil {
		return err
	}
	if st.Nlink == 0 { // it has been removed since
		return unix.EAGAIN
	}
	if st.Size != 0 && st.Size != size {
		return fmt.Errorf("shm_open %s: %v: it has %d bytes, not %d\n"+
			"remove /dev/shm%s, or choose another name with -name", name,
			unix.EEXIST, st.Size, size, name)
	}
	return nil
}

// explain says why open(2) has failed.
func explain(err error, name string) error {
	path, _ := Path(name)
	var st unix.Stat_t
	if unix.Lstat(path, &st) == nil {
		if err := checkOwn(&st, name); err != nil {
			return err
		}
		if err == unix.EACCES && st.Mode&0o600 != 0o600 {
			// Its mode keeps out its own user: it was created under umask
			// 777, say. Mend the mode, and have the caller open it again.
			if err = unix.Chmod(path, 0o600); err == nil {
				return unix.EAGAIN
			}
		}
	}
	return fmt.Errorf("shm_open %s: %w"+Cure, name, err)
}

// checkOwn returns an error unless the file is a regular one, and this user's.
func checkOwn(st *unix.Stat_t, name string) error {
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fmt.Errorf("shm_open %s: it is no shared memory object\n"+
			"remove /dev/shm%s, or choose another name with -name", name, name)
	} else if int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("shm_open %s: %v: it belongs to uid %d\ngive all "+
			"programs a name of your own: -name %s-%d", name, unix.EEXIST,
			st.Uid, name, os.Geteuid())
	}
	return nil
}

// HasName tells whether the object still has a name. If somebody has removed
// it, the name may be another object's by now.
func HasName(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Nlink > 0
}

// Lease takes a write lease of the object. The kernel grants it only if no
// other process has the object open or mapped. If one has, the error is EAGAIN.
// Until the lease is given back, no other process can open the object. See
// F_SETLEASE in fcntl(2).
func Lease(fd int, name string) error {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_WRLCK)
	for err == unix.EINTR {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_WRLCK)
	}
	if err != nil && err != unix.EAGAIN {
		path, _ := Path(name)
		err = fmt.Errorf("fcntl F_SETLEASE %s: %w: so nobody can tell "+
			"whether it is in use\nremove %s when no program uses it",
			name, err, path)
	}
	return err
}

// GiveBack gives a lease back, as closing the object does.
func GiveBack(fd int) {
	unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_UNLCK)
}

// LeaseSoon asks for the lease up to ten times: another process may have opened
// the object for an instant, only to look at it.
func LeaseSoon(fd int, name string) (err error) {
	for range 10 {
		if err = Lease(fd, name); err == nil {
			break
		}
		time.Sleep(rand.N(pollInterval))
	}
	return err
}

// Fault turns a fault in mapped memory into an error: somebody has truncated
// the object, or it never got memory and /dev/shm is full. In C it is a
// SIGBUS. Call it with defer, after debug.SetPanicOnFault(true).
func Fault(name string, err *error) {
	switch fault := recover().(type) {
	case nil:
	case interface{ Addr() uintptr }:
		*err = errors.Join(*err, fmt.Errorf("%s: no memory behind the object: "+
			"it was truncated, or /dev/shm is full (address %#x)", name,
			fault.Addr()))
	default:
		panic(fault)
	}
}
