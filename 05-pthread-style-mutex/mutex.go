//go:build linux

package main

import (
	"os"
	"sync/atomic"
	"time"

	"example.com/shm-by-example/05-pthread-style-mutex/ipc"
)

// mutex is glibc's pthread_mutex_t, without the padding at its end. All but
// word and kind is written by its owner alone. See pthread_mutex_lock(3) and
// futex(2).
type mutex struct {
	word       atomic.Uint32 // offset 0: 0 free, 1 locked, 2 waited for, too
	count      uint32        // offset 4
	owner      int32         // offset 8: its thread, 0 if it is free
	users      uint32        // offset 12
	kind       atomic.Uint32 // offset 16
	_          [4]byte
	prev, next uintptr // offset 24, 32: see robust.go
}

const (
	processShared = 128 // bits of kind; none is PTHREAD_MUTEX_NORMAL
	robustKind    = 16

	slice = 200 * time.Millisecond // of a wait, and then it looks around
)

// self is this thread: the main one, since package ipc locks main to it.
var self = int32(os.Getpid())

// lock locks the mutex. An error of stuck, which it calls now and then while
// it waits, ends the wait.
func (m *mutex) lock(stuck func() error) error {
	if !m.word.CompareAndSwap(0, 1) {
		for m.word.Swap(2) != 0 {
			ipc.FutexWait(&m.word, 2, slice)
			if err := stuck(); err != nil {
				return err
			}
		}
	}
	m.owner = self
	m.users++
	return nil
}

// unlock unlocks the mutex, and wakes one of those who wait for it.
func (m *mutex) unlock() {
	m.owner = 0
	m.users--
	if m.word.Swap(0) == 2 {
		ipc.FutexWake(&m.word, 1)
	}
}
