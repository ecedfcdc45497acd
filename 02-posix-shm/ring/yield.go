//go:build linux && (amd64 || arm64 || riscv64)

package ring

import (
	"time"

	"golang.org/x/sys/unix"
)

// yield gives the CPU away once. The kernel runs the processes that wait for
// this CPU. If only the peer waits, this is the fastest way to let it run. If
// yield takes long, other processes have run, too. Then it is faster to sleep:
// the kernel runs a process that has just been woken before those. So the next
// 1000 calls of yield do nothing. See sched_yield(2).
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
