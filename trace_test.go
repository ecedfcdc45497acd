//go:build linux

package shm_test

import (
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	messages    = 5    // are exchanged
	messageSize = 1000 // bytes each
	marker      = 0x6d61726b
)

// doExchange sends and receives messages in one of several ways.
func doExchange(how string, id int) int {
	var mem []byte
	var calls [][7]uintptr // for each message
	var fds [2]int
	buffer, err := unix.Mmap(-1, 0, 8+messageSize, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return failed
	}
	buffer[0] = 1 // for a message queue, the first 8 bytes are a type
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
	if err != nil {
		return failed
	}
	exchange(mem, calls)
	return passed
}

// exchange exchanges the messages: through memory, if there is any, and by
// system calls, if there are any. At begin and end it makes a call that the
// tracer knows by the marker. The Go runtime cannot switch to something else
// in a function that is nosplit, so all calls that the tracer sees are ours.
//
//go:nosplit
func exchange(mem []byte, calls [][7]uintptr) {
	unix.RawSyscall(unix.SYS_GETPPID, marker, 0, 0)
	for n := range messages {
		turn := int32(2*n + 1) // ours is odd, the partner's is even
		if mem != nil {
			for i := range messageSize {
				mem[8+i] = byte(n)
			}
			atomic.StoreInt32((*int32)(unsafe.Pointer(&mem[0])), turn)
		}
		for {
			for _, c := range calls {
				if c[0] == unix.SYS_FUTEX {
					c[3] = uintptr(turn) // sleep as long as this is there
				}
				unix.RawSyscall6(c[0], c[1], c[2], c[3], c[4], c[5], c[6])
			}
			if mem == nil || atomic.LoadInt32((*int32)(unsafe.Pointer(&mem[0]))) != turn {
				break
			}
		}
	}
	unix.RawSyscall(unix.SYS_GETPPID, marker, 0, 0)
}

const futexWait, futexWake = 0, 1 // between processes: not FUTEX_PRIVATE_FLAG

// A systemCall is one that a traced process made.
type systemCall struct {
	nr     uint64
	args   [6]uint64
	result int64
}

// copied is how many bytes it moved between the process and the kernel.
func (c systemCall) copied() int {
	switch c.nr {
	case unix.SYS_MSGSND:
		return int(c.args[2])
	case unix.SYS_WRITE, unix.SYS_SENDTO, unix.SYS_READ, unix.SYS_RECVFROM, unix.SYS_MSGRCV:
		return int(c.result)
	}
	return 0
}

// traceExchange starts a process that exchanges messages and returns the
// system calls that it makes for this, as strace would show them: those of
// the thread that does it, from marker to marker. partner is what happens
// meanwhile on this side; it is given the process's id.
func traceExchange(t *testing.T, how string, id int, partner func(pid int)) (calls []systemCall) {
	t.Helper()
	cmd, err := job{Peer: []string{"exchange", how, strconv.Itoa(id)}}.command()
	want(t, "prepare", err, nil)
	runtime.LockOSThread() // only the thread that started it may trace it
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr.Ptrace = true
	// The Go runtime interrupts threads that run for long, by a signal, and
	// their return from it would be a system call.
	cmd.Env = append(cmd.Env, "GODEBUG=asyncpreemptoff=1")
	p, err := os.StartProcess("/proc/self/exe", cmd.Args, &os.ProcAttr{
		Env: cmd.Env, Files: []*os.File{nil, os.Stdout, os.Stderr}, Sys: cmd.SysProcAttr,
	})
	if err == unix.EPERM || os.IsPermission(err) {
		t.Skipf("needs to trace a process: %v", err)
	}
	want(t, "start", err, nil)
	noteJob(p.Pid)
	var status unix.WaitStatus
	wait := func() {
		t.Helper()
		for {
			_, err := unix.Wait4(p.Pid, &status, unix.WALL, nil)
			if err != unix.EINTR {
				want(t, "wait4", err, nil)
				return
			}
		}
	}
	wait() // it stops at exec
	defer func() {
		if !status.Exited() && !status.Signaled() { // it has done its part
			unix.Kill(p.Pid, unix.SIGKILL)
			unix.Wait4(p.Pid, nil, unix.WALL, nil)
		}
	}()
	err = unix.PtraceSetOptions(p.Pid, unix.PTRACE_O_TRACESYSGOOD|unix.PTRACE_O_EXITKILL)
	want(t, "ptrace", err, nil)
	if partner != nil {
		done := make(chan bool)
		go func() { defer close(done); partner(p.Pid) }()
		defer func() { <-done }()
	}
	between, signal := false, 0
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
		// struct ptrace_syscall_info, see ptrace(2).
		var stop struct {
			op     uint8
			_      [23]byte
			number uint64 // or, at the end of a call, its result
			args   [6]uint64
			_      [8]byte
		}
		_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_GET_SYSCALL_INFO,
			uintptr(p.Pid), unsafe.Sizeof(stop), uintptr(unsafe.Pointer(&stop)), 0, 0)
		if errno == unix.EIO || errno == unix.EINVAL {
			t.Skip("needs Linux 5.3 to trace a process")
		} else if errno != 0 {
			t.Fatalf("ptrace: %v", errno)
		}
		switch stop.op {
		case 1: // it enters the kernel
			call = systemCall{nr: stop.number, args: stop.args}
		case 2: // it leaves it
			call.result = int64(stop.number)
			if call.nr == unix.SYS_GETPPID && call.args[0] == marker {
				if between {
					return calls
				}
				between = true
			} else if between {
				calls = append(calls, call)
			}
		}
	}
}
