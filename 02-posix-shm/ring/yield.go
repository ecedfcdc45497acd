//go:build linux && (amd64 || arm64 || riscv64)

package ring

import (
	"time"

	"golang.org/x/sys/unix"
)

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
