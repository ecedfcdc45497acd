//go:build linux

package ring

import (
	"context"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Peer is the process at the other end of the ring.
type Peer interface {
	Check() error // why nothing more can come from it, nil if it can
}

const (
	spins     = 2000                   // looks before sleeping
	maxSleep  = 100 * time.Millisecond // and then the peer is looked after
	futexWait = 0                      // FUTEX_WAIT, see futex(2)
	futexWake = 1                      // FUTEX_WAKE
)

// wait waits until the index is no longer old, and returns it. First it
// looks again and again, which is fast if the peer runs on another CPU; then
// it sleeps until the peer wakes it, but not for long, since a peer in C may
// wake nobody, or be dead.
func wait(ctx context.Context, index *atomic.Uint32, old uint32,
	waits *atomic.Uint32, peer Peer) (uint32, error) {
	if runtime.NumCPU() > 1 {
		for range spins {
			if now := index.Load(); now != old {
				return now, nil
			}
		}
	}
	for sleep := time.Millisecond; ; sleep = min(2*sleep, maxSleep) {
		// In this order: if the index moves after the look at it, the peer
		// sees the flag. What it did before its end is seen, too.
		err := context.Cause(ctx)
		if err == nil && sleep == maxSleep {
			err = peer.Check()
		}
		waits.Store(1)
		now := index.Load()
		if now == old && err == nil {
			futex(index, futexWait, old, sleep)
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
		futex(index, futexWake, 1, 0)
	}
}

// futex is futex(2) on an index that other processes share: hence without
// FUTEX_PRIVATE_FLAG. That it returns too early, on a signal say, does not
// matter; so there is nothing to be learnt from its error.
func futex(index *atomic.Uint32, op int, value uint32, d time.Duration) {
	limit := unix.NsecToTimespec(int64(d))
	unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(index)), uintptr(op),
		uintptr(value), uintptr(unsafe.Pointer(&limit)), 0, 0)
}
