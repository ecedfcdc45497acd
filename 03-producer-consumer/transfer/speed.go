//go:build linux && (amd64 || arm64 || riscv64)

package transfer

import "runtime"

// Four things look odd in the writer and the reader. Without them the two are
// half as fast as the C programs when they share one CPU. Two are here, the
// others in the writer: it reads 64 KiB ahead, and it asks only now and then
// who the reader is.

// TwoProcessors is for a process that may use one CPU only. The Go runtime
// then has one processor, in its own sense of the word. A thread that sleeps
// in semop would lose it to nobody, and get it back, each time.
func TwoProcessors() { runtime.GOMAXPROCS(max(2, runtime.GOMAXPROCS(0))) }

// NowAndThen is true in every 64th turn, the second first. It calls the
// scheduler then: the runtime looks after a goroutine that has not done so
// for 10 ms, every 20 µs, which takes time from the only CPU.
func NowAndThen(turn int) bool {
	if turn%64 != 2 {
		return false
	}
	runtime.Gosched()
	return true
}
