//go:build linux && (amd64 || arm64 || riscv64)

package transfer

import (
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// peers are what the other process of a benchmark does.
var peers = map[string]func(mem []byte) error{"echo": echo}

// The turn goes to the other process and comes back: two system calls here
// and two there, and a sleep for each.
func BenchmarkSemop(b *testing.B) {
	semid, err := Semget(unix.IPC_PRIVATE, 2, unix.IPC_CREAT|0o600)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { Semctl(semid, 0, unix.IPC_RMID, 0) })
	benchmarkPair(b, "echo", func(b *testing.B, mem []byte) {
		setIn(mem).Store(int32(semid) + 1)
		b.ReportAllocs()
		for turn := 0; b.Loop(); turn++ {
			NowAndThen(turn)
			err := Semop(semid, Read, +1, wait)
			if err == nil {
				err = Semop(semid, Write, -1, wait)
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}

// wait waits for ever: a benchmark kills the other process.
func wait() error { return nil }

func echo(mem []byte) error {
	id := setIn(mem).Load()
	for ; id == 0; id = setIn(mem).Load() {
		time.Sleep(time.Millisecond)
	}
	semid := int(id - 1)
	TwoProcessors()
	for turn := 0; ; turn++ {
		NowAndThen(turn)
		err := Semop(semid, Read, -1, wait)
		if err == nil {
			err = Semop(semid, Write, +1, wait)
		}
		if err != nil {
			return err
		}
	}
}

// setIn is where the other process finds the id of the semaphores, plus one.
func setIn(mem []byte) *atomic.Int32 {
	return (*atomic.Int32)(unsafe.Pointer(&mem[0]))
}
