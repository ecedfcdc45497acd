//go:build linux

package shm_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Faults at the k-th call of a program. strace counts for each thread, and
// the calls of a Go program wander from thread to thread; so the kernel asks
// this process instead, before each call of those in watched, what is to
// become of it. It needs no right and nothing installed. See the user
// notifications of seccomp(2).

// watched are the calls that are asked for, by number, and the errors that
// are made up for them: of the manual's those that any program must expect.
var watched = map[int]struct {
	name   string
	errors []unix.Errno
}{
	unix.SYS_SHMGET:     {"shmget", errnos(unix.ENOMEM, unix.ENOSPC, unix.EACCES)},
	unix.SYS_SHMAT:      {"shmat", errnos(unix.ENOMEM, unix.EACCES, unix.EIDRM)},
	unix.SYS_SHMDT:      {"shmdt", errnos(unix.EINVAL)},
	unix.SYS_SHMCTL:     {"shmctl", errnos(unix.EACCES, unix.EIDRM, unix.EPERM)},
	unix.SYS_SEMGET:     {"semget", errnos(unix.ENOMEM, unix.ENOSPC, unix.EACCES)},
	unix.SYS_SEMTIMEDOP: {"semtimedop", errnos(unix.ENOMEM, unix.EACCES, unix.EIDRM, unix.EINTR)},
	unix.SYS_SEMCTL:     {"semctl", errnos(unix.EACCES, unix.EIDRM)},
	unix.SYS_OPENAT:     {"openat", errnos(unix.ENOMEM, unix.ENOSPC, unix.EACCES, unix.EINTR)},
	unix.SYS_FALLOCATE:  {"fallocate", errnos(unix.ENOSPC, unix.EINTR)},
	unix.SYS_FTRUNCATE:  {"ftruncate", errnos(unix.EINTR)},
	unix.SYS_MMAP:       {"mmap", errnos(unix.ENOMEM, unix.EACCES)},
	unix.SYS_MLOCK:      {"mlock", errnos(unix.ENOMEM)},
	unix.SYS_UNLINKAT:   {"unlinkat", errnos(unix.ENOMEM, unix.EACCES)},
	unix.SYS_LINKAT:     {"linkat", errnos(unix.ENOMEM, unix.ENOSPC, unix.EACCES)},
	unix.SYS_FCNTL:      {"fcntl", errnos(unix.ENOLCK, unix.EINTR)},
	unix.SYS_FLOCK:      {"flock", errnos(unix.ENOLCK, unix.EINTR)},
	unix.SYS_FUTEX:      {"futex", errnos(unix.EINTR)},
	unix.SYS_WRITE:      {"write", errnos(unix.ENOSPC, unix.EINTR)},
	unix.SYS_PIDFD_OPEN: {"pidfd_open", errnos(unix.ENOMEM)},
}

func errnos(all ...unix.Errno) []unix.Errno { return all }

// A call is one that a program is about to make.
type call struct {
	name string
	nr   int
	args [6]uint64
}

// removes tells whether it is a call that removes an object: if it fails, the
// object stays, and nobody can do anything about that.
func (c call) removes() bool {
	return c.nr == unix.SYS_UNLINKAT ||
		c.nr == unix.SYS_SHMCTL && c.args[1]&0xff == unix.IPC_RMID ||
		c.nr == unix.SYS_SEMCTL && c.args[2]&0xff == unix.IPC_RMID
}

// A fate is what becomes of a call. With the zero fate it is simply made.
type fate struct {
	kill  bool
	pause time.Duration // the call is made after that;
	stop  bool          // ... and the program is stopped meanwhile
	err   unix.Errno    // the call fails
}

func (f fate) String() string {
	switch {
	case f.kill:
		return "killed"
	case f.stop:
		return "stopped"
	case f.pause > 0:
		return "delayed"
	case f.err != 0:
		return unix.ErrnoName(f.err)
	}
	return "as usual"
}

// watch makes the program ask oracle about each of its calls. The oracle is
// called for one after the other. It is to be called before cmd.Start, and
// what it returns after that; gone is closed when no process is left of it and
// of those that it started.
func watch(cmd *exec.Cmd, oracle func(call) fate) (started func() (gone chan struct{}), err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "socket")
	cmd.ExtraFiles = []*os.File{theirs} // 3
	cmd.Args = append([]string{"watched", cmd.Path}, cmd.Args...)
	cmd.Path = "/proc/self/exe"
	return func() chan struct{} {
		theirs.Close()
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			defer unix.Close(fds[0])
			oob := make([]byte, unix.CmsgSpace(4))
			_, n, _, _, err := unix.Recvmsg(fds[0], make([]byte, 1), oob, unix.MSG_CMSG_CLOEXEC)
			if err != nil || n == 0 {
				return
			}
			messages, _ := unix.ParseSocketControlMessage(oob[:n])
			got, _ := unix.ParseUnixRights(&messages[0])
			answer(got[0], oracle)
		}()
		return gone
	}, nil
}

// notification is struct seccomp_notif, reply struct seccomp_notif_resp.
type notification struct {
	id         uint64
	pid, flags uint32
	nr         int32
	arch       uint32
	ip         uint64
	args       [6]uint64
}

type reply struct {
	id    uint64
	value int64
	err   int32
	flags uint32
}

// answer answers until the program, and all that it started, has ended.
func answer(listener int, oracle func(call) fate) {
	defer unix.Close(listener)
	send := func(r reply) {
		for { // a signal may interrupt it, and a lost answer stops the program for ever
			if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(listener), unix.SECCOMP_IOCTL_NOTIF_SEND,
				uintptr(unsafe.Pointer(&r))); errno != unix.EINTR {
				return
			}
		}
	}
	var paused sync.WaitGroup
	defer paused.Wait()
	for {
		fds := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err == unix.EINTR {
			continue
		} else if fds[0].Revents&unix.POLLIN == 0 {
			return
		}
		var n notification
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(listener),
			unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&n)))
		if errno != 0 {
			continue // the caller has just ended
		}
		goOn := reply{id: n.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
		if !worthwhile(n) {
			send(goOn)
			continue
		}
		f := oracle(call{watched[int(n.nr)].name, int(n.nr), n.args})
		switch {
		case f.kill:
			unix.Kill(processOf(n.pid), unix.SIGKILL)
		case f.err != 0:
			send(reply{id: n.id, err: -int32(f.err)})
		case f.pause > 0:
			pid := processOf(n.pid)
			if f.stop {
				unix.Kill(pid, unix.SIGSTOP)
			}
			paused.Go(func() {
				time.Sleep(f.pause)
				unix.Kill(pid, unix.SIGCONT)
				send(goOn)
			})
		default:
			send(goOn)
		}
	}
}

// worthwhile leaves out what the start of any program does: of files it opens
// and maps only those of shared memory are worth it, and what the kernel says
// about that.
func worthwhile(n notification) bool {
	if n.nr == unix.SYS_MMAP {
		file, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", n.pid, n.args[4]))
		return strings.HasPrefix(file, "/dev/shm")
	} else if n.nr != unix.SYS_OPENAT {
		return true
	}
	path := make([]byte, 64)
	local := unix.Iovec{Base: &path[0], Len: uint64(len(path))}
	there := unix.RemoteIovec{Base: uintptr(n.args[1]), Len: len(path)}
	unix.ProcessVMReadv(int(n.pid), []unix.Iovec{local}, []unix.RemoteIovec{there}, 0)
	return bytes.HasPrefix(path, []byte("/dev/shm")) ||
		bytes.HasPrefix(path, []byte("/proc/sysvipc"))
}

// processOf is the process that a thread is one of.
func processOf(thread uint32) (pid int) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", thread))
	_, after, _ := strings.Cut(string(text), "\nTgid:")
	fmt.Sscan(after, &pid)
	if pid == 0 {
		return int(thread)
	}
	return pid
}

// becomeWatched PROGRAM ARGS... has its calls watched, and becomes the program.
func becomeWatched(args []string) error {
	program := filter()
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("prctl: %w", err)
	}
	listener, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	err := unix.Sendmsg(3, []byte{0}, unix.UnixRights(int(listener)), nil, 0)
	if err != nil {
		return fmt.Errorf("sendmsg: %w", err)
	}
	unix.CloseOnExec(3)
	return syscall.Exec(args[0], args[1:], os.Environ())
}

// forbidLocks ERRNO PROGRAM ARGS... becomes the program, whose leases and OFD
// locks fail, as some sandboxes have it.
func forbidLocks(args []string) error {
	errno := map[string]unix.Errno{"EPERM": unix.EPERM, "EINVAL": unix.EINVAL,
		"ENOSYS": unix.ENOSYS}[args[0]]
	const load, equal, ret, nr, arg1 = 0x20, 0x15, 0x06, 0, 24
	program := []unix.SockFilter{
		{Code: load, K: nr}, {Code: equal, K: unix.SYS_FCNTL, Jf: 4},
		{Code: load, K: arg1}, {Code: equal, K: unix.F_SETLEASE, Jt: 1},
		{Code: equal, K: unix.F_OFD_SETLK, Jf: 1},
		{Code: ret, K: unix.SECCOMP_RET_ERRNO | uint32(errno)},
		{Code: ret, K: unix.SECCOMP_RET_ALLOW},
	}
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	path, err := exec.LookPath(args[1])
	if err == nil {
		err = unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	}
	if err != nil {
		return err
	}
	runtime.LockOSThread() // the filter is this thread's, which becomes the program
	_, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0,
		uintptr(unsafe.Pointer(&prog)))
	if e != 0 {
		return fmt.Errorf("seccomp: %w", e)
	}
	return syscall.Exec(path, args[1:], os.Environ())
}

// filter is the program that the kernel runs at each call: it asks about those
// in watched, but for what the Go runtime does for itself: mapping memory that
// is no file's, futexes of one process, writes to what is no output.
func filter() (p []unix.SockFilter) {
	const load, equal, above, ret = 0x20, 0x15, 0x25, 0x06 // of 32 bits
	const nr, arg0, arg1, arg4 = 0, 16, 24, 48
	allow := unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ALLOW}
	ask := unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_USER_NOTIF}
	p = append(p, unix.SockFilter{Code: load, K: nr})
	for call := range watched {
		body := []unix.SockFilter{ask}
		switch call {
		case unix.SYS_FUTEX: // FUTEX_WAIT and FUTEX_WAKE, not private
			body = []unix.SockFilter{{Code: load, K: arg1}, {Code: above, K: 1, Jf: 1}, allow, ask}
		case unix.SYS_WRITE:
			body = []unix.SockFilter{{Code: load, K: arg0}, {Code: above, K: 2, Jf: 1}, allow, ask}
		case unix.SYS_MMAP: // without a file it is -1
			body = []unix.SockFilter{{Code: load, K: arg4},
				{Code: equal, K: 0xffffffff, Jf: 1}, allow, ask}
		case unix.SYS_FCNTL: // locks and leases, F_GETLK and above
			body = []unix.SockFilter{{Code: load, K: arg1}, {Code: above, K: 4, Jt: 1}, allow, ask}
		}
		p = append(p, unix.SockFilter{Code: equal, K: uint32(call), Jf: uint8(len(body))})
		p = append(p, body...)
	}
	return append(p, allow)
}
