//go:build linux

package semaphores_test

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Copies between the processes and the kernel: none through shared memory,
// two through a pipe, a message queue or a socket. Each copy is a system call.
func TestStatement50Copies(t *testing.T) {
	id := newSegment(t, 2048)
	mem := attach(t, id)
	queue, _, errno := unix.Syscall(unix.SYS_MSGGET, unix.IPC_PRIVATE,
		unix.IPC_CREAT|0o600, 0)
	if errno != 0 {
		t.Fatalf("msgget: %v", errno)
	}
	defer unix.Syscall(unix.SYS_MSGCTL, queue, unix.IPC_RMID, 0)
	nothing := func() {}
	for _, way := range []struct {
		how     string
		id      int
		partner func(pid int)
		copies  int
	}{
		{"memory", id, func(pid int) {
			answerAll(t, pid, mem, nothing, nothing)
		}, 0},
		{"pipe", 0, nil, 2},
		{"queue", int(queue), nil, 2},
		{"socket", 0, nil, 2},
	} {
		bytes := 0
		calls := traceExchange(t, way.how, way.id, way.partner)
		for _, call := range calls {
			bytes += call.copied()
		}
		if bytes != way.copies*messages*messageSize {
			t.Errorf("%s: %d bytes copied, want %d times %d", way.how, bytes,
				way.copies, messages*messageSize)
		}
		if len(calls) != way.copies*messages {
			t.Errorf("%s: %d system calls, want %d for each message", way.how,
				len(calls), way.copies)
		}
	}
}

// "It is the fastest IPC": that is true while nobody sleeps. A reader that
// sleeps costs two system calls for each message, as a pipe does. The reader
// makes one to sleep, and the writer makes one to wake it.
func TestStatement51FastestUnlessItSleeps(t *testing.T) {
	const rounds = 20_000
	data, buffer := make([]byte, messageSize), make([]byte, messageSize)
	mem := attach(t, newSegment(t, messageSize))
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
	t.Logf("a message: memory %v, pipe %v", throughMemory/rounds,
		throughPipe/rounds)
	if throughPipe < 2*throughMemory {
		t.Errorf("memory %v, pipe %v: not faster", throughMemory, throughPipe)
	}

	// Now the exchange of statement 50, but the other process sleeps until
	// this one wakes it.
	id, wakes := newSegment(t, 2048), 0
	shared := attach(t, id)
	sleeps := traceExchange(t, "woken", id, func(pid int) {
		answerAll(t, pid, shared, func() { untilAsleep(pid) }, func() {
			unix.Syscall(unix.SYS_FUTEX, addressOf(shared), futexWake, 1)
			wakes++
		})
	})
	if len(sleeps) < messages || wakes != messages {
		t.Errorf("%d calls to sleep, %d to wake, want 1 and 1 for each of %d",
			len(sleeps), wakes, messages)
	}
}

// cpuTimeOf returns how much processor time a function takes. Other processes
// hardly change that, however busy they are.
func cpuTimeOf(do func()) time.Duration {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, after unix.Timespec
	unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &before)
	do()
	unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &after)
	return time.Duration(after.Nano() - before.Nano())
}

// answerAll is the partner of an exchange through memory. It does something
// before and after it answers each message. If a message does not come, it
// kills the other process, so that its tracer does not wait for ever.
func answerAll(t *testing.T, pid int, mem []byte, before, after func()) {
	turn := firstWord(mem)
	end := time.Now().Add(patience)
	for n := int32(0); n < messages; {
		if time.Now().After(end) {
			t.Errorf("message %d did not come in %v", n, patience)
			unix.Kill(pid, unix.SIGKILL)
			return
		} else if atomic.LoadInt32(turn) != 2*n+1 {
			time.Sleep(time.Millisecond)
			continue
		}
		before()
		n++
		atomic.StoreInt32(turn, 2*n)
		after()
	}
}

// untilAsleep waits until a process sleeps in the kernel.
func untilAsleep(pid int) {
	for end := time.Now().Add(patience); time.Now().Before(end); {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		_, state, _ := strings.Cut(string(text), ") ")
		if strings.HasPrefix(state, "S") {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

const (
	messages    = 5 // in an exchange
	messageSize = 1000
	marker      = 0x6d61726b

	// FUTEX_WAIT and FUTEX_WAKE in <linux/futex.h>. Between processes they are
	// used without FUTEX_PRIVATE_FLAG.
	futexWait, futexWake = 0, 1

	exchangeVariable = "SHM_BY_EXAMPLE_EXCHANGE"
)

// The process that a test traces is this test binary once more. It exchanges
// messages and ends, before any test runs. An init function is on the first
// thread of the process, and this is the thread that the test traces.
func init() {
	var how string
	var id int
	fmt.Sscan(os.Getenv(exchangeVariable), &how, &id)
	if how != "" {
		if err := exchange(how, id); err != nil {
			fmt.Fprintln(os.Stderr, "exchange:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
}

// exchange sends and receives messages in one of several ways.
func exchange(how string, id int) error {
	var mem []byte
	var calls [][7]uintptr // for each message
	var fds [2]int
	buffer, err := unix.Mmap(-1, 0, 8+messageSize,
		unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	buffer[0] = 1 // in a message queue the first 8 bytes are a type
	b := addressOf(buffer)
	switch how {
	case "memory", "woken":
		mem, err = unix.SysvShmAttach(id, 0, 0)
		if how == "woken" && err == nil {
			calls = [][7]uintptr{{unix.SYS_FUTEX, addressOf(mem), futexWait}}
		}
	case "pipe":
		err = unix.Pipe2(fds[:], 0)
		calls = [][7]uintptr{
			{unix.SYS_WRITE, uintptr(fds[1]), b, messageSize},
			{unix.SYS_READ, uintptr(fds[0]), b, messageSize},
		}
	case "socket":
		fds, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		calls = [][7]uintptr{
			{unix.SYS_SENDTO, uintptr(fds[1]), b, messageSize},
			{unix.SYS_RECVFROM, uintptr(fds[0]), b, messageSize},
		}
	case "queue":
		calls = [][7]uintptr{
			{unix.SYS_MSGSND, uintptr(id), b, messageSize},
			{unix.SYS_MSGRCV, uintptr(id), b, messageSize},
		}
	}
	if err == nil {
		exchangeMarked(mem, calls)
	}
	return err
}

// exchangeMarked exchanges the messages: through memory if mem is not nil,
// and with system calls if there are any. Its first and its last call carry
// the marker, by which the tracer knows them. The function is nosplit, so
// that the Go runtime makes no system call of its own in between.
//
//go:nosplit
//go:norace
func exchangeMarked(mem []byte, calls [][7]uintptr) {
	unix.RawSyscall(unix.SYS_GETPPID, marker, 0, 0)
	for n := range messages {
		turn := int32(2*n + 1) // odd: this process; even: its partner
		if mem != nil {
			for i := range messageSize {
				mem[8+i] = byte(n)
			}
			atomic.StoreInt32(firstWord(mem), turn)
		}
		for {
			for _, c := range calls {
				if c[0] == unix.SYS_FUTEX {
					c[3] = uintptr(turn) // sleep only while this is there
				}
				unix.RawSyscall6(c[0], c[1], c[2], c[3], c[4], c[5], c[6])
			}
			if mem == nil || atomic.LoadInt32(firstWord(mem)) != turn {
				break
			}
		}
	}
	unix.RawSyscall(unix.SYS_GETPPID, marker, 0, 0)
}

// A systemCall is one that a traced process made.
type systemCall struct {
	nr     uint64
	args   [6]uint64
	result int64
}

// copied returns how many bytes the call moved between the process and the
// kernel.
func (c systemCall) copied() int {
	switch c.nr {
	case unix.SYS_MSGSND:
		return int(c.args[2])
	case unix.SYS_WRITE, unix.SYS_SENDTO, unix.SYS_READ, unix.SYS_RECVFROM,
		unix.SYS_MSGRCV:
		return int(c.result)
	}
	return 0
}

// traceExchange starts a process that exchanges messages. It returns the
// system calls that the process makes for this, as strace would show them:
// those from marker to marker. partner runs meanwhile in this process.
func traceExchange(t *testing.T, how string, id int,
	partner func(pid int)) (calls []systemCall) {
	t.Helper()
	runtime.LockOSThread() // only the thread that starts it may trace it
	defer runtime.UnlockOSThread()
	p, err := os.StartProcess("/proc/self/exe", os.Args[:1], &os.ProcAttr{
		// The Go runtime sends a signal to a thread that runs for long. The
		// return from the signal handler would be a system call.
		Env: append(os.Environ(), "GODEBUG=asyncpreemptoff=1",
			fmt.Sprint(exchangeVariable, "=", how, " ", id)),
		Files: []*os.File{nil, os.Stdout, os.Stderr},
		Sys:   &syscall.SysProcAttr{Ptrace: true},
	})
	if os.IsPermission(err) {
		t.Skipf("needs to trace a process: %v", err)
	}
	want(t, "start", err, nil)
	var status unix.WaitStatus
	wait := func() {
		t.Helper()
		err := error(unix.EINTR)
		for err == unix.EINTR {
			_, err = unix.Wait4(p.Pid, &status, unix.WALL, nil)
		}
		want(t, "wait4", err, nil)
	}
	wait() // it stops at exec
	defer func() {
		if !status.Exited() && !status.Signaled() { // it is stopped
			unix.Kill(p.Pid, unix.SIGKILL)
			unix.Wait4(p.Pid, nil, unix.WALL, nil)
		}
		p.Release()
	}()
	err = unix.PtraceSetOptions(p.Pid,
		unix.PTRACE_O_TRACESYSGOOD|unix.PTRACE_O_EXITKILL)
	want(t, "ptrace", err, nil)
	if partner != nil {
		done := make(chan bool)
		go func() { defer close(done); partner(p.Pid) }()
		defer func() { <-done }()
	}
	marked, signal := false, 0
	var call systemCall
	for {
		want(t, "ptrace", unix.PtraceSyscall(p.Pid, signal), nil)
		wait()
		signal = 0
		if status.Exited() || status.Signaled() {
			t.Fatalf("the exchange failed: %v", status)
		} else if status.StopSignal() != syscall.SIGTRAP|0x80 {
			signal = int(status.StopSignal()) // it is for the process
			continue
		}
		stop := systemCallInfo(t, p.Pid)
		switch stop.op {
		case 1: // PTRACE_SYSCALL_INFO_ENTRY
			call = systemCall{nr: stop.number, args: stop.args}
		case 2: // PTRACE_SYSCALL_INFO_EXIT
			call.result = int64(stop.number)
			isMarker := call.nr == unix.SYS_GETPPID && call.args[0] == marker
			switch {
			case isMarker && marked:
				return calls
			case isMarker:
				marked = true
			case marked:
				calls = append(calls, call)
			}
		}
	}
}

// callInfo is struct ptrace_syscall_info; see ptrace(2).
type callInfo struct {
	op     uint8
	_      [23]byte
	number uint64 // or, at the end of a call, its result
	args   [6]uint64
	_      [8]byte
}

// systemCallInfo asks the kernel at which call a process is stopped.
func systemCallInfo(t *testing.T, pid int) (info callInfo) {
	t.Helper()
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE,
		unix.PTRACE_GET_SYSCALL_INFO, uintptr(pid), unsafe.Sizeof(info),
		uintptr(unsafe.Pointer(&info)), 0, 0)
	if errno == unix.EIO || errno == unix.EINVAL {
		t.Skip("needs Linux 5.3 to trace a process")
	} else if errno != 0 {
		t.Fatalf("ptrace: %v", errno)
	}
	return info
}
