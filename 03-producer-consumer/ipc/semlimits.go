//go:build linux

package ipc

import (
	"fmt"
	"unsafe"

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
			"it with sysctl", call, key, err, semLimits())
	}
	return fmt.Errorf("%s key %v: %w", call, key, err)
}

// semLimits is that setting: by semctl(2), for a container may hide files of
// /proc. IPC_INFO fills in struct seminfo, which has ten ints.
func semLimits() string {
	const ipcInfo = 3
	var info struct{ _, mni, mns, _, msl, opm, _, _, _, _ int32 }
	unix.Syscall6(unix.SYS_SEMCTL, 0, 0, ipcInfo,
		uintptr(unsafe.Pointer(&info)), 0, 0)
	return fmt.Sprintf("%d %d %d %d", info.msl, info.mns, info.opm, info.mni)
}
