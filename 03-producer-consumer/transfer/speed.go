//go:build linux && (amd64 || arm64 || riscv64)

package transfer

import "runtime"

// Four things look odd in the writer and the reader. Without them the two are
// half as fast as the C programs when they share one CPU. Two are here, the
// others in the writer: it reads 64 KiB ahead, and it asks only now and then
// which process reads.

// TwoProcessors is for a process that may use one CPU only. The Go runtime
// then has one processor, which a thread must have to run Go code. A thread
// that sleeps in semop would lose it each time, and would have to get it back,
// though no other thread wants it.
func TwoProcessors() { runtime.GOMAXPROCS(max(2, runtime.GOMAXPROCS(0))) }

// NowAndThen is true in the second turn, and in every 64th after it. It calls
// the scheduler then. If a goroutine does not do so for 10 ms, the runtime
// looks at it every 20 µs, and that takes time from the only CPU.
func NowAndThen(turn int) bool {
	if turn%64 != 2 {
		return false
	}
	runtime.Gosched()
	return true
}
