//go:build linux

package transfer

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"example.com/shm-by-example/03-producer-consumer/ipc"
)

// peers are what the other process of a benchmark does.
var peers = map[string]func(mem []byte) error{"echo": echo}

// The token goes to the other process and comes back: two system calls here
// and two there, and a sleep for each.
func BenchmarkSemop(b *testing.B) {
	sems, err := ipc.CreateSemaphores(unix.IPC_PRIVATE, 0o600, 0, 0)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { sems.Remove() })
	benchmarkPair(b, "echo", func(b *testing.B, mem []byte) {
		setIn(mem).Store(int32(sems) + 1)
		b.ReportAllocs()
		for n := 1; b.Loop(); n++ {
			if n%512 == 0 {
				runtime.Gosched() // for the reason that Take has
			}
			err := sems.Add(Read, 1, 0, 0)
			if err == nil {
				err = sems.Add(Write, -1, 0, 10*slice)
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}

func echo(mem []byte) error {
	id := setIn(mem).Load()
	for ; id == 0; id = setIn(mem).Load() {
		time.Sleep(ipc.Tick)
	}
	sems := ipc.Semaphores(id - 1)
	twoProcessors()
	for n := 1; ; n++ {
		if n%512 == 0 {
			runtime.Gosched()
		}
		err := sems.Add(Read, -1, 0, slice)
		if err == unix.EAGAIN {
			continue
		} else if err == nil {
			err = sems.Add(Write, 1, 0, 0)
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
