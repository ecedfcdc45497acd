//go:build linux

package ipc

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// SemError says why a call, semget(2) or the first semop(2), made no set. The
// setting kernel.sem has four numbers: how many semaphores a set may have, how
// many there may be in all sets, how many operations a semop, how many sets.
func SemError(call string, key Key, err error) error {
	switch err {
	case unix.ENOSPC, unix.EINVAL, unix.E2BIG:
		return fmt.Errorf("%s key %v: %w: kernel.sem is %s, ipcs -s shows "+
			"all\nremove what nobody needs with ipcrm, or ask root to raise "+
			"it with sysctl", call, key, err, sysctl("sem"))
	}
	return fmt.Errorf("%s key %v: %w", call, key, err)
}
