//go:build linux

package ipc

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ShmgetError says why shmget(2) made no segment: which of the kernel's limits
// there is to raise, or memory to free. See proc_sys_kernel(5).
func ShmgetError(key Key, size int, err error) error {
	limit, cause := "", fmt.Sprintf("%d bytes", size)
	limits, segments := shmLimits()
	switch err {
	case unix.EINVAL:
		limit = fmt.Sprintf("shmmax is %d", limits.max)
	case unix.ENOSPC: // too many pages, or too many segments
		limit = fmt.Sprintf("shmall is %d", limits.all)
		if uint64(segments) >= limits.mni {
			limit = fmt.Sprintf("shmmni is %d", limits.mni)
			cause = fmt.Sprintf("%d segments", segments)
		}
		cause += ", ipcs -m shows all"
	case unix.ENOMEM:
		return fmt.Errorf("shmget key %v: %w: %s\nfree -b shows how much "+
			"memory there is", key, err, cause)
	default:
		return fmt.Errorf("shmget key %v: %w", key, err)
	}
	return fmt.Errorf("shmget key %v: %w: %s, and kernel.%s\nremove "+
		"what nobody needs with ipcrm, or ask root to raise it with sysctl",
		key, err, cause, limit)
}

// shminfo is struct shminfo of shmctl(2).
type shminfo struct{ max, min, mni, seg, all uint64 }

// shmLimits asks the kernel for the limits of segments, and how many there
// are: by shmctl(2), for a container may hide files of /proc. IPC_INFO fills
// in a struct shminfo, SHM_INFO one that begins with that number as an int;
// struct shmid_ds has room for either.
func shmLimits() (limits shminfo, segments int32) {
	const ipcInfo, shmInfo = 3, 14
	var buf, use unix.SysvShmDesc
	unix.SysvShmCtl(0, ipcInfo, &buf)
	unix.SysvShmCtl(0, shmInfo, &use)
	return *(*shminfo)(unsafe.Pointer(&buf)), *(*int32)(unsafe.Pointer(&use))
}
