//go:build linux

package ring

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"example.com/shm-by-example/02-posix-shm/ipc"
)

// Peer is the process at the other end of the ring.
type Peer interface {
	Check() error // why nothing more can come from it, nil if it can
}

const (
	maxSleep = 100 * time.Millisecond // and then the peer is looked after

	// How often to look before sleeping: at the most for some 100 µs, which
	// is longer than it takes to wake a process on another CPU.
	minSpins, maxSpins = 2000, 200_000
)

// A waiter waits for the peer, and learns from it.
type waiter struct {
	peer    Peer
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
			ipc.FutexWait(index, old, sleep)
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
		ipc.FutexWake(index, 1)
	}
}

// yield lets all others run that want this CPU: the peer, it is hoped. If it
// takes too long, there are more: a peer that is woken comes before those, so
// it is better to sleep for some time. See sched_yield(2).
func (w *waiter) yield() {
	if w.crowded > 0 {
		w.crowded--
		return
	}
	start := time.Now()
	unix.Syscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
	if time.Since(start) > time.Millisecond/2 {
		w.crowded = 1000
	}
}
