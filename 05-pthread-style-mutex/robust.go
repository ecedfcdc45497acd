//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"errors"
	"fmt"
	"math"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The word of a robust mutex holds the number of its owner's thread and these
// bits. The kernel sets ownerDied when that thread ends. See
// get_robust_list(2).
const (
	waiters   = 0x80000000
	ownerDied = 0x40000000
)

// The field owner holds one of these after the owner has died. It is
// inconsistent until the next owner has repaired what the mutex protects. If
// the next owner unlocks without repair, it is notRecoverable for ever.
const (
	inconsistent   = 0x7fffffff
	notRecoverable = 0x7ffffffe
)

var errNotRecoverable = errors.New("mutex not recoverable: its owner died, " +
	"and the next did not repair what it protects")

// robustList is struct robust_list_head. The kernel looks there for the
// mutexes of a thread that has ended. So it must never move. A global variable
// never moves. Here the list has one mutex at most.
var robustList struct {
	head    uintptr // address of the held mutex's next; if none, its own
	offset  int64   // from a mutex's next to its word
	pending uintptr // list_op_pending: the mutex being locked or unlocked
}

// robust is a mutex that survives its owner.
type robust struct{ *mutex }

// registerRobust tells the kernel where this thread's list is. See
// set_robust_list(2).
func registerRobust() error {
	robustList.head = uintptr(unsafe.Pointer(&robustList))
	robustList.offset = -int64(unsafe.Offsetof(mutex{}.next))
	_, _, errno := unix.Syscall(unix.SYS_SET_ROBUST_LIST,
		uintptr(unsafe.Pointer(&robustList)), unsafe.Sizeof(robustList), 0)
	if errno != 0 {
		return fmt.Errorf("set_robust_list: %w", errno)
	}
	return nil
}

// lock is mutex.lock for a robust mutex. If the last owner has died, lock
// succeeds, too, and died is true. Then the caller must repair what the mutex
// protects, and call consistent before unlock.
func (m robust) lock(stuck func() error) (died bool, err error) {
	list := &robustList
	list.pending = uintptr(unsafe.Pointer(&m.next))
	defer func() { list.pending = 0 }()
	mine := uint32(self)
	for {
		old := m.word.Load()
		switch {
		case old == 0, old&ownerDied != 0:
			if !m.word.CompareAndSwap(old, mine|(old&waiters)) {
				continue
			}
			// Put the mutex into this thread's list.
			m.prev = uintptr(unsafe.Pointer(list))
			m.next = m.prev
			list.head = list.pending
			return m.locked(old)
		case old&waiters == 0 && !m.word.CompareAndSwap(old, old|waiters):
			continue
		}
		futexWait(&m.word, old|waiters)
		mine |= waiters // others may wait, too: unlock must wake one
		if err := stuck(); err != nil {
			futexWake(&m.word, 1) // as in mutex.lock
			return false, err
		}
	}
}

// locked sets the other fields, once the word holds this thread's number.
func (m robust) locked(old uint32) (died bool, err error) {
	m.count = 1
	switch {
	case m.owner == notRecoverable:
		m.nusers++
		m.unlock()
		return false, errNotRecoverable
	case old&ownerDied != 0:
		m.owner = inconsistent
		return true, nil // nusers still counts the dead owner: no + 1
	}
	m.owner = self
	m.nusers++
	return false, nil
}

// consistent says that what the mutex protects has been repaired. See
// pthread_mutex_consistent(3).
func (m robust) consistent() { m.owner = self }

// unlock is mutex.unlock for a robust mutex. If an owner has died, and nobody
// has called consistent, it makes the mutex useless, and wakes all that wait.
func (m robust) unlock() {
	list := &robustList
	list.pending = uintptr(unsafe.Pointer(&m.next))
	list.head = uintptr(unsafe.Pointer(list))
	m.prev, m.next, m.count = 0, 0, 0
	wake := 1
	switch m.owner {
	case inconsistent, notRecoverable:
		m.owner = notRecoverable
		wake = math.MaxInt32
	default:
		m.owner = 0
	}
	m.nusers--
	if m.word.Swap(0)&waiters != 0 {
		futexWake(&m.word, wake)
	}
	list.pending = 0
}
