//go:build linux && (amd64 || arm64 || riscv64)

// Package object holds what the programs of this lesson share. Is the file of a
// name one of our objects? Does any other process have it?
package object

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Careful are flags for open(2) in /dev/shm, where every user may create files.
// With them open follows no symbolic link, and does not wait at a FIFO.
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

// Check gets the results of open(2). It tells whether open has opened an object
// of this user that has this size, or is still empty. ENOENT means that there
// is none. EAGAIN means: open it again. After an error the object is closed.
func Check(fd int, err error, name string, size int64) error {
	path, _ := Path(name)
	var st unix.Stat_t
	if err == nil {
		unix.Fstat(fd, &st)
	} else {
		unix.Lstat(path, &st) // to say what it is instead
	}
	found := st.Mode != 0
	switch {
	case err == unix.ENOENT || err == unix.EAGAIN:
	case err == unix.EINTR:
		err = unix.EAGAIN
	case found && st.Mode&unix.S_IFMT != unix.S_IFREG:
		err = fmt.Errorf("shm_open %s: it is no shared memory object\n"+
			"remove %s, or choose another name with -name", name, path)
	case found && int(st.Uid) != os.Geteuid():
		err = fmt.Errorf("shm_open %s: %w: it belongs to uid %d\ngive all "+
			"programs a name of your own: -name %s-%d", name, unix.EEXIST,
			st.Uid, name, os.Geteuid())
	case err == unix.EACCES && found && st.Mode&0o600 != 0o600:
		// Our own, created under umask 777, say. Let us open it again.
		if err = unix.Chmod(path, 0o600); err == nil {
			err = unix.EAGAIN
		}
	case err != nil:
		err = fmt.Errorf("shm_open %s: %w"+Cure, name, err)
	case st.Nlink == 0: // removed since
		err = unix.EAGAIN
	case st.Size != 0 && st.Size != size:
		err = fmt.Errorf("shm_open %s: %w: it has %d bytes, not %d\n"+
			"remove %s, or choose another name with -name", name,
			unix.EEXIST, st.Size, size, path)
	}
	if err != nil && fd >= 0 {
		unix.Close(fd)
	}
	return err
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
		*err = fmt.Errorf("%s: no memory behind the object: it was truncated, "+
			"or /dev/shm is full (address %#x)", name, fault.Addr())
	default:
		panic(fault)
	}
}
