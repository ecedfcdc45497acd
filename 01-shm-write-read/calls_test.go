//go:build linux

package writeread_test

import (
	"bytes"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	messages    = 5 // that the other process sends
	messageSize = 1000
)

// Data goes through an attached segment without any system call. The other
// process tells the kernel to kill it at its next system call. Then it sends
// messages through the segment, and lives. If it sends the first message
// through a pipe, the kernel kills it.
func TestStatement49NoSystemCall(t *testing.T) {
	for _, c := range []struct {
		pipe bool
		want unix.Signal // that ends the process
	}{
		{false, unix.SIGKILL}, // this test sends it, after all messages
		{true, unix.SIGSYS},
	} {
		other := newPeer(t, nil, func(test conn) {
			mem := attach(t, test.hear(), 0)
			fd := test.hear()
			runtime.LockOSThread()
			// The return from a signal handler is a system call, too.
			var all unix.Sigset_t
			for i := range all.Val {
				all.Val[i] = ^uint64(0)
			}
			err := unix.PthreadSigmask(unix.SIG_BLOCK, &all, nil)
			want(t, "block signals", err, nil)
			err = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) // no core file
			want(t, "PR_SET_DUMPABLE", err, nil)
			err = unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
			want(t, "PR_SET_NO_NEW_PRIVS", err, nil)
			test.say(0)
			errno := sendWithoutCalls(mem, fd)
			want(t, "PR_SET_SECCOMP", errno, nil)
		})
		id := newSegment(t, 4+messageSize)
		mem := attach(t, id, 0)
		fd := -1
		if c.pipe {
			fd = 1 // standard output
		}
		other.say(id)
		other.say(fd)
		other.hear()
		if !c.pipe {
			for n := range messages {
				receive(t, mem, n)
			}
			other.cmd.Process.Kill()
		}
		other.cmd.Wait()
		status := other.cmd.ProcessState.Sys().(syscall.WaitStatus)
		if !status.Signaled() || status.Signal() != c.want {
			t.Errorf("pipe: %v: the process ended with %v, want %v", c.pipe,
				other.cmd.ProcessState, c.want)
		}
	}
}

// receive waits for message n in the segment and answers it.
func receive(t *testing.T, mem []byte, n int) {
	t.Helper()
	turn := int32At(mem, 0)
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if atomic.LoadInt32(turn) == int32(2*n+1) {
			break
		} else if time.Now().After(end) {
			t.Fatalf("message %d did not come", n)
		}
	}
	if !bytes.Equal(mem[4:], bytes.Repeat([]byte{byte(n)}, messageSize)) {
		t.Errorf("message %d is %x", n, mem[4:])
	}
	atomic.StoreInt32(turn, int32(2*n+2))
}

// sendWithoutCalls forbids this thread all system calls, with a filter of
// seccomp(2) that kills the process. Then it sends the messages and never
// returns: through the segment, or, if fd is a descriptor, by a write to it.
// It returns only if the kernel refuses the filter. The function is nosplit,
// so that the Go runtime makes no system call in it.
//
//go:nosplit
//go:norace
func sendWithoutCalls(mem []byte, fd int) syscall.Errno {
	kill := unix.SockFilter{
		Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_KILL_PROCESS}
	filter := unix.SockFprog{Len: 1, Filter: &kill}
	_, _, errno := unix.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_SECCOMP,
		unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&filter)))
	if errno != 0 {
		return errno
	}
	if fd >= 0 {
		unix.RawSyscall(unix.SYS_WRITE, uintptr(fd),
			uintptr(unsafe.Pointer(&mem[4])), messageSize)
	}
	turn := (*int32)(unsafe.Pointer(&mem[0]))
	for n := range messages {
		for i := range messageSize {
			mem[4+i] = byte(n)
		}
		atomic.StoreInt32(turn, int32(2*n+1))
		for atomic.LoadInt32(turn) == int32(2*n+1) {
		}
	}
	for { // until the test kills this process
		atomic.LoadInt32(turn)
	}
}
