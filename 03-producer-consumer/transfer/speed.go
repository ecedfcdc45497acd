//go:build linux && (amd64 || arm64 || riscv64)

package transfer

import "runtime"

// Four things look odd in the writer and the reader. Without them the two
// programs are half as fast as the C programs when they share one CPU. Two of
// the four are here. The others are in the writer: it reads 64 KiB ahead, and
// it asks only now and then which process reads.

// TwoProcessors helps a process that may use only one CPU. The Go runtime then
// has one processor, which a thread must have to run Go code. A thread that
// sleeps in semop loses the processor each time, and has to get it back,
// though no other thread wants it. With two processors it keeps its own.
func TwoProcessors() { runtime.GOMAXPROCS(max(2, runtime.GOMAXPROCS(0))) }

// NowAndThen is true in turn 2, and in every 64th turn after it. In these
// turns it also calls the scheduler. If a goroutine does not do that for 10 ms,
// the runtime looks at it every 20 µs, and that takes time from the only CPU.
func NowAndThen(turn int) bool {
	if turn%64 != 2 {
		return false
	}
	runtime.Gosched()
	return true
}
