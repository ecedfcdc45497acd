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
	maxSleep = 100 * time.Millisecond // then ask whether the peer runs

	// How often to look before sleeping. All looks together take about 100 µs
	// at most, which is longer than it takes to wake a process.
	minSpins, maxSpins = 2000, 200_000
)

// A waiter waits for the peer, and learns from it.
type waiter struct {
	peer    Checker
	spins   int // looks before the next sleep
	crowded int // so many of the next calls of yield do nothing
}

// wait waits until the index is no longer old, and returns it. First it
// looks again and again, which is fast if the peer runs on another CPU. Then
// it gives the CPU away (see yield.go), which is fast if the peer wants this
// one. Then it sleeps until the peer wakes it, but not for long: a peer in C
// may wake nobody, and a dead peer cannot.
//
// How long should it look before it sleeps? If the two run on different CPUs,
// looking is faster: a process that sleeps has to be woken, and meanwhile the
// other finds nothing to do and falls asleep, too. If they share one CPU,
// looking is lost time: the peer can only run when this process stops. A waiter
// cannot know which is so. It learns: if the index moved while it looked, it
// looks twice as often the next time. If not, it looks half as often.
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
		// First set the flag, then look at the index. If the index moves after
		// this look, the peer sees the flag, and wakes this process. Look also
		// after Check: what the peer did before it ended still counts.
		err := context.Cause(ctx)
		if err == nil && sleep == maxSleep {
			err = w.peer.Check()
		}
		waits.Store(1)
		now := index.Load()
		if now == old && err == nil {
			sleepOn(index, old, sleep)
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
		wakeOne(index)
	}
}

// Operations of futex(2). Neither is private: other processes share the word.
const futexWait, futexWake = 0, 1

// sleepOn sleeps as long as *word is value, until wakeOne wakes it, and at most
// for d. It may return for no reason: look at the word again. See futex(2).
func sleepOn(word *atomic.Uint32, value uint32, d time.Duration) {
	limit := unix.NsecToTimespec(int64(d))
	unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWait,
		uintptr(value), uintptr(unsafe.Pointer(&limit)), 0, 0)
}

// wakeOne wakes one process that sleeps on word.
func wakeOne(word *atomic.Uint32) {
	unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWake, 1,
		0, 0, 0)
}
