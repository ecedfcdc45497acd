//go:build linux

package shm_test

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Data goes through an attached segment without any system call, to and fro.
// Through a pipe, each message takes two.
func TestStatement49NoSystemCall(t *testing.T) {
	id := newSegment(t, 2048) // not parallel: two that spin need two CPUs
	mem := attach(t, id, 0)
	sum := 0
	calls := traceExchange(t, "memory", id, func(pid int) {
		echoes(t, pid, mem, func() {
			for _, b := range mem[8 : 8+messageSize] {
				sum += int(b)
			}
		}, nothing)
	})
	if len(calls) != 0 {
		t.Errorf("through memory: system calls %v, want none", calls)
	}
	if sum != (0+1+2+3+4)*messageSize {
		t.Errorf("the messages did not arrive: %d", sum)
	}
	if calls := traceExchange(t, "pipe", 0, nil); len(calls) != 2*messages {
		t.Errorf("through a pipe: %d system calls, want 2 for each message", len(calls))
	}
}

// echoes is the partner of an exchange through memory: it does something
// before and after it answers each message. A process that sends none is
// killed, so that its tracer does not wait for ever.
func echoes(t *testing.T, pid int, mem []byte, before, after func()) {
	turn := int32At(mem, 0)
	for n, end := int32(0), time.Now().Add(untilTime); n < messages; {
		if time.Now().After(end) {
			t.Errorf("message %d did not come in %v", n, untilTime)
			unix.Kill(pid, unix.SIGKILL)
			return
		} else if atomic.LoadInt32(turn) != 2*n+1 {
			runtime.Gosched()
			continue
		}
		before()
		n++
		atomic.StoreInt32(turn, 2*n)
		after()
	}
}

func nothing() {}

// Copies between the processes and the kernel: none through shared memory,
// two through a pipe, a message queue or a socket.
func TestStatement50Copies(t *testing.T) {
	id := newSegment(t, 2048)
	mem := attach(t, id, 0)
	queue, _, errno := unix.Syscall(unix.SYS_MSGGET, uintptr(newKey()),
		unix.IPC_CREAT|unix.IPC_EXCL|0o600, 0)
	if errno != 0 {
		t.Fatalf("msgget: %v", errno)
	}
	defer remove("msg", int(queue))
	for _, way := range []struct {
		how     string
		id      int
		partner func(int)
		copies  int
	}{
		{"memory", id, func(pid int) { echoes(t, pid, mem, nothing, nothing) }, 0},
		{"pipe", 0, nil, 2},
		{"queue", int(queue), nil, 2},
		{"socket", 0, nil, 2},
	} {
		bytes := 0
		for _, call := range traceExchange(t, way.how, way.id, way.partner) {
			bytes += call.copied()
		}
		if bytes != way.copies*messages*messageSize {
			t.Errorf("%s: %d bytes copied, want %d times %d", way.how, bytes,
				way.copies, messages*messageSize)
		}
	}
}

// "It is the fastest IPC": while nobody has to be woken. A reader that sleeps
// takes two system calls for each message, as with a pipe: its own, to sleep,
// and one of the writer's, to wake it.
func TestStatement51FastestUnlessItSleeps(t *testing.T) {
	const rounds = 20_000
	data, buffer := make([]byte, messageSize), make([]byte, messageSize)
	mem := attach(t, newSegment(t, messageSize), 0)
	var pipe [2]int
	want(t, "pipe", unix.Pipe2(pipe[:], unix.O_CLOEXEC), nil)
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	throughMemory := cpuTimeOf(func() {
		for range rounds {
			copy(mem, data)
			copy(buffer, mem)
		}
	})
	throughPipe := cpuTimeOf(func() {
		for range rounds {
			unix.Write(pipe[1], data)
			unix.Read(pipe[0], buffer)
		}
	})
	t.Logf("a message: memory %v, pipe %v", throughMemory/rounds, throughPipe/rounds)
	if throughPipe < 2*throughMemory {
		t.Errorf("memory %v, pipe %v: not faster", throughMemory, throughPipe)
	}

	// The same exchange as in statement 49, but the other one sleeps until it
	// is woken.
	id, wakes := newSegment(t, 2048), 0
	shared := attach(t, id, 0)
	sleeps := traceExchange(t, "woken", id, func(pid int) {
		echoes(t, pid, shared, func() { untilAsleep(pid) }, func() {
			unix.Syscall(unix.SYS_FUTEX, addressOf(shared), futexWake, 1)
			wakes++
		})
	})
	if len(sleeps) < messages || wakes != messages {
		t.Errorf("%d calls to sleep, %d to wake, want 1 and 1 for each of %d messages",
			len(sleeps), wakes, messages)
	}
}

// cpuTimeOf is how much processor time a thread takes for something. Other
// processes do not change it much, however busy they are.
func cpuTimeOf(do func()) time.Duration {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	start := cpuTime()
	do()
	return cpuTime() - start
}

// untilAsleep waits until a process sleeps in the kernel.
func untilAsleep(pid int) {
	for end := time.Now().Add(untilTime); time.Now().Before(end); {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if _, state, _ := strings.Cut(string(text), ") "); strings.HasPrefix(state, "S") {
			return
		}
	}
}
