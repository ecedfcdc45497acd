//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mutex is glibc's pthread_mutex_t, without the padding at its end. Only the
// owner writes the fields other than word and kind. See pthread_mutex_lock(3).
type mutex struct {
	word       atomic.Uint32 // offset 0: 0 unlocked, 1 locked, 2 with waiters
	count      uint32        // offset 4
	owner      int32         // offset 8: its thread; 0 while unlocked
	nusers     uint32        // offset 12
	kind       atomic.Uint32 // offset 16
	_          [4]byte
	prev, next uintptr // offset 24, 32: see robust.go
}

const (
	processShared = 128 // bits of kind; its low bits, the type, stay 0
	robustKind    = 16

	slice = 200 * time.Millisecond // the longest sleep, then call stuck
)

// self is the number of the main thread. children.go keeps main on it.
var self = int32(os.Getpid())

// lock locks the mutex. While it waits, it calls stuck after each slice. An
// error of stuck ends the wait.
func (m *mutex) lock(stuck func() error) error {
	if !m.word.CompareAndSwap(0, 1) {
		// Swap in 2, not 1. This process does not know whether others sleep.
		// With 1, its own unlock would wake nobody. A Swap that finds 0 has
		// locked the mutex.
		for m.word.Swap(2) != 0 {
			futexWait(&m.word, 2)
			if err := stuck(); err != nil {
				// Perhaps unlock has just woken this process, and no other.
				// Another may be a C program, which has no time limit.
				futexWake(&m.word, 1)
				return err
			}
		}
	}
	m.owner = self
	m.nusers++
	return nil
}

// unlock unlocks the mutex, and wakes one process that waits for it.
func (m *mutex) unlock() {
	m.owner = 0
	m.nusers--
	if m.word.Swap(0) == 2 {
		futexWake(&m.word, 1)
	}
}

// futexWait sleeps if the word has this value: until futexWake wakes it, and at
// most for a slice. It may return for no reason, so the caller looks at the
// word again. See futex(2).
func futexWait(word *atomic.Uint32, value uint32) {
	const futexWait = 0 // without FUTEX_PRIVATE_FLAG: other processes share it
	limit := unix.NsecToTimespec(int64(slice))
	unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWait,
		uintptr(value), uintptr(unsafe.Pointer(&limit)), 0, 0)
}

// futexWake wakes up to n processes that sleep on the word. See futex(2).
func futexWake(word *atomic.Uint32, n int) {
	const futexWake = 1
	unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWake,
		uintptr(n), 0, 0, 0)
}
