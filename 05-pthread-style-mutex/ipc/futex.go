//go:build linux

package ipc

import (
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// FutexWait sleeps as long as *word is value, until FutexWake wakes it, and at
// the most for d. It may return for no reason, on a signal say: look at the
// word again, and at nothing else. See futex(2).
func FutexWait(word *atomic.Uint32, value uint32, d time.Duration) {
	const futexWait = 0 // without FUTEX_PRIVATE_FLAG: other processes share it
	limit := unix.NsecToTimespec(int64(d))
	unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWait,
		uintptr(value), uintptr(unsafe.Pointer(&limit)), 0, 0)
}

// FutexWake wakes up to n of those that sleep on word. See futex(2).
func FutexWake(word *atomic.Uint32, n int) {
	const futexWake = 1
	unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWake,
		uintptr(n), 0, 0, 0)
}
