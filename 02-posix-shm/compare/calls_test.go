//go:build linux

package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestMain also runs as the two processes of TestCalls. The kernel stops them
// at each system call.
func TestMain(m *testing.M) {
	if len(os.Args) != 3 || os.Args[1] != "-child" {
		os.Exit(m.Run())
	}
	if stopAtCalls() != nil {
		os.Exit(notCounted)
	}
	if err := runChild(context.Background(), os.Args[2]); err != nil {
		log.Fatal(err)
	}
	os.Exit(0)
}

// The processes count the system calls that send and receive blocks. The kernel
// stops them at each call, and the test counts the stops: the counts must
// agree. There are fewer calls than at full speed, because the other process
// has more time to finish before anybody needs to sleep.
func TestCalls(t *testing.T) {
	where, err := placements()
	if err != nil {
		t.Fatal(err)
	}
	w := work{smallest, 100, time.Second, true}
	works := []work{{smallest, 10, w.Limit, true}, w} // the first to warm up
	for _, m := range mechanisms {
		p := where[len(where)-1]
		t.Run(m.name, func(t *testing.T) {
			runtime.LockOSThread() // only the thread that starts them traces
			defer runtime.UnlockOSThread()
			err := m.pair(t.Context(), p.CPUs, works,
				func(p *pair, cancel func()) error {
					program, kernel, err := p.countCalls(cancel)
					if err == nil && program < 0 {
						t.Skip("needs to trace a process of its own")
					}
					// If all goes by messages, the number is certain.
					wants := map[string]float64{"pipe": 2, "memory, semop": 4}
					want, ok := wants[m.name]
					// If a signal of the Go runtime interrupts a call, it is
					// made again, and the kernel stops at it twice.
					again := kernel - program
					if err == nil && (again < 0 || again > 0.05 ||
						ok && program != want) {
						t.Errorf("%v calls a message, and %v by the kernel's "+
							"count, want %v", program, kernel, want)
					}
					return err
				})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// notCounted is the exit status of a child that may not install the filter.
const notCounted = 77

// stopAtCalls makes the kernel stop this thread before each system call, for
// the process that traces it. PTRACE_SYSCALL would stop it after the call, too,
// and that would change the numbers: a process that was just woken would answer
// before this one sleeps, so neither would make a call to sleep or to wake. See
// SECCOMP_RET_TRACE in seccomp(2). The Go runtime's own calls are not stopped:
// it wakes its other threads with a private futex, and returns from signals.
func stopAtCalls() error {
	const private = 128 // FUTEX_PRIVATE_FLAG
	const load, equal, set = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS,
		unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K,
		unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
	filter := []unix.SockFilter{
		{Code: load, K: 0}, // the call's number
		{Code: equal, K: unix.SYS_RT_SIGRETURN, Jt: 5},  // allow
		{Code: equal, K: unix.SYS_EXIT_GROUP, Jt: 4},    // allow
		{Code: equal, K: unix.SYS_FUTEX, Jf: 2},         // else: stop
		{Code: load, K: 24},                             // its second argument
		{Code: set, K: private, Jt: 1},                  // allow
		{Code: unix.BPF_RET, K: unix.SECCOMP_RET_TRACE}, // stop
		{Code: unix.BPF_RET, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	if err != nil {
		return err
	}
	_, _, errno := unix.Syscall(unix.SYS_PRCTL, unix.PR_SET_SECCOMP,
		unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return errno
	}
	return nil
}

// tracee is a process whose main thread, which exchanges the blocks, is traced.
type tracee struct{ marks, calls int }

// countCalls runs the two processes under ptrace(2). Every process may trace
// its children. It returns how many system calls there were for each message
// between the marks: by the processes' count, and by the kernel's. The first is
// -1 where tracing is forbidden.
func (p *pair) countCalls(cancel func()) (program, kernel float64, err error) {
	tracees := map[int]*tracee{}
	counted := true
	for me, cmd := range p.cmds {
		// Go's own signals would be stops, too.
		cmd.Env = append(cmd.Env, "GODEBUG=asyncpreemptoff=1")
		cmd.SysProcAttr.Ptrace = true
		if p.start(me) != nil {
			counted = false
			cancel()
			break
		}
		tracees[cmd.Process.Pid] = new(tracee)
	}
	for left := len(tracees); left > 0; {
		var status unix.WaitStatus
		pid, e := unix.Wait4(-1, &status, unix.WALL, nil)
		if e == unix.EINTR {
			continue
		} else if e != nil {
			return 0, 0, fmt.Errorf("wait4: %w", e)
		}
		t := tracees[pid]
		if t == nil {
			continue // another child of this process
		}
		if !status.Stopped() {
			left--
			kernel += float64(t.calls)
			if status.ExitStatus() == notCounted {
				counted = false
				cancel()
			} else if status.ExitStatus() != 0 && err == nil && counted {
				err = fmt.Errorf("pid %d ended before it was done", pid)
				cancel()
			}
			continue
		}
		signal := status.StopSignal()
		if signal == unix.SIGTRAP {
			if status.TrapCause() == unix.PTRACE_EVENT_SECCOMP {
				counted = t.look(pid) == nil && counted
			} else { // after exec
				unix.PtraceSetOptions(pid, unix.PTRACE_O_TRACESECCOMP)
			}
			signal = 0
		}
		unix.PtraceCont(pid, int(signal))
	}
	for _, cmd := range p.cmds {
		cmd.Wait() // for its output: the process is gone already
	}
	if err != nil || !counted {
		return -1, 0, err
	}
	var phases [2][]phase
	if err := p.results(&phases); err != nil {
		return 0, 0, err
	}
	begin, answer := phases[0][1], phases[1][1]
	messages := float64(2 * begin.Blocks)
	return float64(begin.Calls+answer.Calls) / messages, kernel / messages, nil
}

// look counts the system call at which the thread has stopped, unless it is a
// mark: the program measures itself before and after each work. See
// PTRACE_GET_SYSCALL_INFO in ptrace(2), there since Linux 5.3.
func (t *tracee) look(pid int) error {
	var info struct {
		_  [3]uint64
		nr uint64
		_  [7]uint64
	}
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE,
		unix.PTRACE_GET_SYSCALL_INFO, uintptr(pid), unsafe.Sizeof(info),
		uintptr(unsafe.Pointer(&info)), 0, 0)
	switch {
	case errno != 0:
		return errno
	case info.nr == unix.SYS_GETRUSAGE: // two before each work, two after
		t.marks++
	case t.marks == 6: // 1 to 4 are around the warm-up
		t.calls++
	}
	return nil
}
