//go:build linux

package ipc

import (
	"os"

	"golang.org/x/sys/unix"
)

// Lock is fcntl(2) with a command for locks, such as F_OFD_SETLK. A signal
// does not disturb it.
func Lock(f *os.File, command int, lock *unix.Flock_t) error {
	for {
		err := unix.FcntlFlock(f.Fd(), command, lock)
		if err != unix.EINTR {
			return err
		}
	}
}
