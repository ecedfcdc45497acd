//go:build linux && (amd64 || arm64 || riscv64)

package ring

import (
	"context"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	maxSleep = 100 * time.Millisecond // and then the peer is looked after

	// How often to look before sleeping: at the most for some 100 µs, which
	// is longer than it takes to wake a process on another CPU.
	minSpins, maxSpins = 2000, 200_000
)

// A waiter waits for the peer, and learns from it.
type waiter struct {
	peer    checker
	spins   int // looks before the next sleep
	crowded int // how often not to give the CPU away
}

// wait waits until the index is no longer old, and returns it. First it
// looks again and again, which is fast if the peer runs on another CPU; then
// it gives the CPU away, which is fast if the peer wants this one; then it
// sleeps until the peer wakes it, but not for long, since a peer in C may
// wake nobody, or be dead.
//
// Two that both give up early would fall asleep in turn, each for as long as
// the other takes to wake up; while on one CPU, the peer cannot run until this
// process does not. So it looks twice as often after it was right to look, and
// half as often after it was not.
func (w *waiter) wait(ctx context.Context, index *atomic.Uint32, old uint32,
	waits *atomic.Uint32) (uint32, error) {
	for range w.spins {
		if now := index.Load(); now != old {
			w.spins = min(2*w.spins, maxSpins)
			return now, nil
		}
	}
	w.spins = max(w.spins/2, minSpins)
	w.yield()
	for sleep := time.Millisecond; ; sleep = min(2*sleep, maxSleep) {
		// In this order: if the index moves after the look at it, the peer
		// sees the flag. What it did before its end is seen, too.
		err := context.Cause(ctx)
		if err == nil && sleep == maxSleep {
			err = w.peer.Check()
		}
		waits.Store(1)
		now := index.Load()
		if now == old && err == nil {
			futexWait(index, old, sleep)
			now = index.Load()
		}
		waits.Store(0)
		if now != old {
			return now, nil
		} else if err != nil {
			return old, err
		}
	}
}

// wake wakes the process that waits for the index to move, if there is one.
func wake(index, waits *atomic.Uint32) {
	if waits.Load() == 1 && waits.CompareAndSwap(1, 0) {
		futexWake(index)
	}
}

// futexWait sleeps as long as *word is value, until futexWake wakes it, and at
// most for d. It may return for no reason: look at the word again. See
// futex(2).
func futexWait(word *atomic.Uint32, value uint32, d time.Duration) {
	const futexWait = 0 // FUTEX_WAIT; not private: other processes share it
	limit := unix.NsecToTimespec(int64(d))
	unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWait,
		uintptr(value), uintptr(unsafe.Pointer(&limit)), 0, 0)
}

// futexWake wakes one process that sleeps on word.
func futexWake(word *atomic.Uint32) {
	const futexWake = 1 // FUTEX_WAKE
	unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWake, 1,
		0, 0, 0)
}
