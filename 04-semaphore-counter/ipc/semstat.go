//go:build linux

package ipc

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// SemDesc is the beginning of struct semid64_ds, which is the same on all
// 64-bit machines, and room for the rest.
type SemDesc struct {
	Key                  int32
	Uid, Gid, Cuid, Cgid uint32
	Mode                 uint32
	_                    [24]byte
	Otime                int64 // last semop, in Unix seconds; 0 is never
	_                    [72]byte
}

// Stat returns what the kernel knows of a set; EINVAL or EIDRM if it has been
// removed. SEM_STAT_ANY is IPC_STAT that asks for no permission; it takes an
// index, for which the id will do, and returns an id. See semctl(2).
func (s Semaphores) Stat() (ds SemDesc, err error) {
	const semStatAny = 20
	found, _, errno := unix.Syscall6(unix.SYS_SEMCTL, uintptr(s), 0,
		semStatAny, uintptr(unsafe.Pointer(&ds)), 0, 0)
	switch {
	case errno == unix.EINVAL || errno == unix.EIDRM:
		return ds, errno
	case errno != 0:
		return ds, fmt.Errorf("semctl set %d: %w", s, errno)
	case Semaphores(found) != s:
		return ds, unix.EIDRM
	}
	return ds, nil
}
