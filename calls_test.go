//go:build linux

package shm_test

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Calls of programs: before some of them the kernel asks this process what is
// to become of them. It needs no right and nothing installed. See the user
// notifications of seccomp(2). The faults are made so at the k-th call of a
// program: strace counts for each thread, and the calls of a Go program wander
// from thread to thread. And the labs hold a program at a call, to look at it.

// asked are the lists of what the kernel asks about: for the faults, and for
// the labs by their numbers. Each question takes time, on a busy machine much
// of it, so a list is as short as it can be.
var asked = map[string]struct {
	rules []rule
	// Only a signal that kills ends the wait for an answer, where that can be had.
	killable bool
}{
	"faults": {rules: faultRules()},
	"03":     {rules03, true},
	"04":     {rules04, true},
	"05":     {rules05(), true},
	"06":     {rules: rules06},
}

// A rule names a call: the kernel asks about it if the low half of an argument
// stands the test.
type rule struct {
	call  int
	arg   int
	test  test
	value uint32
}

type test struct {
	jump uint16 // of the kernel's filter language, 0 for always
	not  bool
}

var (
	always  = test{}
	equals  = test{0x15, false}
	differs = test{0x15, true}
	above   = test{0x25, false}
	atMost  = test{0x25, true}
	has     = test{0x45, false} // one of these bits
	lacks   = test{0x45, true}
)

// filter is the program that the kernel runs at each call.
func filter(rules []rule) (p []unix.SockFilter) {
	const load, equal, ret = 0x20, 0x15, 0x06 // of 32 bits
	const nr, arg0 = 0, 16
	ask := unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_USER_NOTIF}
	for _, r := range rules {
		body := []unix.SockFilter{ask}
		if r.test != always {
			test := unix.SockFilter{Code: r.test.jump, K: r.value, Jf: 1}
			if r.test.not {
				test.Jt, test.Jf = 1, 0
			}
			body = []unix.SockFilter{{Code: load, K: uint32(arg0 + 8*r.arg)}, test, ask}
		}
		p = append(p, unix.SockFilter{Code: load, K: nr},
			unix.SockFilter{Code: equal, K: uint32(r.call), Jf: uint8(len(body))})
		p = append(p, body...)
	}
	return append(p, unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ALLOW})
}

// setFilter has this thread, and what becomes of it, obey a filter.
func setFilter(program []unix.SockFilter, flags uintptr) (fd int, err error) {
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return -1, fmt.Errorf("prctl: %w", err)
	}
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	n, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags,
		uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return -1, fmt.Errorf("seccomp: %w", errno)
	}
	return int(n), nil
}

// beAsked has the kernel ask whoever has the other end of a socket about the
// calls of a list: of this thread, and of all that comes of it.
func beAsked(list string, socket int) error {
	program, flags := filter(asked[list].rules), uintptr(unix.SECCOMP_FILTER_FLAG_NEW_LISTENER)
	if asked[list].killable {
		flags |= unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
	}
	listener, err := setFilter(program, flags)
	if errors.Is(err, unix.EINVAL) { // before Linux 5.19
		listener, err = setFilter(program, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER)
	}
	if err != nil {
		return err
	}
	err = unix.Sendmsg(socket, []byte{0}, unix.UnixRights(listener), nil, 0)
	return errors.Join(err, unix.Close(listener), unix.Close(socket))
}

// becomeWatched LIST PROGRAM ARGS... becomes a program whose calls are asked about.
func becomeWatched(args []string) error {
	if err := beAsked(args[0], 3); err != nil {
		return err
	}
	return syscall.Exec(args[1], args[2:], os.Environ())
}

// askedBy gives a program that is about to be started the socket for beAsked,
// as the last of its files, and returns the other end.
func askedBy(cmd *exec.Cmd) (socket int, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socketpair: %w", err)
	}
	cmd.ExtraFiles = append(cmd.ExtraFiles, os.NewFile(uintptr(fds[1]), "socket"))
	return fds[0], nil
}

// A listener is what the kernel asks through.
type listener struct {
	lock sync.Mutex
	fd   int // -1 when nobody is left to be asked about
}

// listen waits until the program has sent its listener.
func listen(socket int) (*listener, error) {
	defer unix.Close(socket)
	oob := make([]byte, unix.CmsgSpace(4))
	var n int
	var err error
	ready := eventually(scriptTime, func() bool {
		_, n, _, _, err = unix.Recvmsg(socket, make([]byte, 1), oob, unix.MSG_CMSG_CLOEXEC|unix.MSG_DONTWAIT)
		return err != unix.EAGAIN && err != unix.EINTR
	})
	if !ready || err != nil || n == 0 {
		return nil, fmt.Errorf("the kernel does not ask about the calls of a program: %w", cmp.Or(err, io.EOF))
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil {
		return nil, err
	}
	got, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return nil, err
	}
	return &listener{fd: got[0]}, nil
}

// A call is one that a thread is about to make. It waits for goOn or fail.
type call struct {
	nr       int
	args     [6]uint64
	thread   int
	id       uint64
	listener *listener
}

// answer has decide look at each call, until the program, and all that it
// started, has ended.
func (l *listener) answer(decide func(call)) {
	defer func() {
		l.lock.Lock()
		defer l.lock.Unlock()
		unix.Close(l.fd)
		l.fd = -1
	}()
	for {
		fds := []unix.PollFd{{Fd: int32(l.fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err == unix.EINTR {
			continue
		} else if fds[0].Revents&unix.POLLIN == 0 {
			return
		}
		var n struct { // struct seccomp_notif
			id            uint64
			thread, flags uint32
			nr            int32
			arch          uint32
			ip            uint64
			args          [6]uint64
		}
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(l.fd), unix.SECCOMP_IOCTL_NOTIF_RECV,
			uintptr(unsafe.Pointer(&n))); errno == 0 { // or else the caller has just ended
			decide(call{int(n.nr), n.args, int(n.thread), n.id, l})
		}
	}
}

// goOn has the call made, and fail has it fail.
func (c call) goOn()                 { c.reply(0, unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE) }
func (c call) fail(errno unix.Errno) { c.reply(-int32(errno), 0) }

func (c call) reply(err int32, flags uint32) {
	c.listener.lock.Lock()
	defer c.listener.lock.Unlock()
	r := struct { // struct seccomp_notif_resp
		id    uint64
		value int64
		err   int32
		flags uint32
	}{c.id, 0, err, flags}
	for c.listener.fd >= 0 { // a signal may interrupt it, and a lost answer stops the program for ever
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(c.listener.fd), unix.SECCOMP_IOCTL_NOTIF_SEND,
			uintptr(unsafe.Pointer(&r))); errno != unix.EINTR {
			return
		}
	}
}

// process is the one that the call's thread is one of.
func (c call) process() int {
	if pid, _ := strconv.Atoi(statusField(c.thread, "Tgid")); pid != 0 {
		return pid
	}
	return c.thread
}

// A holder holds calls of a program, and of all processes that it starts,
// until the script releases them: a student's program does its work within
// microseconds, and a look at it from outside would come too late.
type holder struct {
	list    string
	decider decider

	lock  sync.Mutex
	holds map[string]bool // the points at which calls are held from now on
	was   map[string]bool // those at which one was held
	held  []heldCall
	first int       // the process of the first that was held
	since time.Time // when that was
}

type heldCall struct {
	call
	point string
}

// A decider sees all calls that the kernel asks about. Each lab has its own.
type decider interface {
	points() []string                  // where a call can be held
	at(c call) []string                // notes a call, and tells at which points it is
	missing(name, point string) string // says what there is in place of a call that is held
}

// newHolder makes one from the points of -hold=POINT,...
func newHolder(l *lab, points string) (*holder, error) {
	h := &holder{list: l.number, holds: map[string]bool{}, was: map[string]bool{}}
	if l.decider != nil {
		h.decider = l.decider()
	}
	for point := range strings.SplitSeq(points, ",") {
		if h.decider == nil || !slices.Contains(h.decider.points(), point) {
			return nil, fmt.Errorf("lab %s has no point %q", l.number, point)
		}
		h.holds[point] = true
	}
	return h, nil
}

// decide holds a call, or has it made.
func (h *holder) decide(c call) {
	h.lock.Lock()
	defer h.lock.Unlock()
	for _, point := range h.decider.at(c) {
		if h.holds[point] {
			if h.first == 0 {
				h.first, h.since = c.process(), time.Now()
			}
			h.was[point] = true
			h.held = append(h.held, heldCall{c, point})
			return
		}
	}
	c.goOn()
}

// release lets the calls at a point be made, or at all: those that are held,
// and all later ones.
func (h *holder) release(point string) {
	h.lock.Lock()
	defer h.lock.Unlock()
	maps.DeleteFunc(h.holds, func(p string, _ bool) bool { return point == "" || p == point })
	h.held = slices.DeleteFunc(h.held, func(c heldCall) bool {
		is := point == "" || c.point == point
		if is {
			c.goOn()
		}
		return is
	})
}

// asks makes a looker of what a lab's decider knows of a program that was
// started with -hold.
func asks[D decider](look func(*session, *holder, D, []string) (bool, string, error)) looker {
	return ofProgram(func(s *session, p *process, args []string) (bool, string, error) {
		if p.holder == nil {
			return false, args[0] + " was not started with -hold", nil // a likely line may ask
		}
		p.holder.lock.Lock()
		defer p.holder.lock.Unlock()
		return look(s, p.holder, p.holder.decider.(D), args)
	})
}

// lookHeld tells whether a call is held, or was before it was released.
func lookHeld(_ *session, h *holder, d decider, args []string) (bool, string, error) {
	if args[1] == "" && len(h.was) > 0 || h.was[args[1]] {
		return true, args[0] + " is held", nil
	}
	point := args[1]
	for p := range h.holds {
		point = cmp.Or(point, p)
	}
	return false, d.missing(args[0], point), nil
}

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
	socket, err := askedBy(cmd) // its file 3
	if err != nil {
		return nil, err
	}
	cmd.Args = append([]string{"watched", "faults", cmd.Path}, cmd.Args...)
	cmd.Path = "/proc/self/exe"
	return func() chan struct{} {
		cmd.ExtraFiles[0].Close()
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			if l, err := listen(socket); err == nil {
				l.answer(func(c call) { c.meet(oracle) })
			}
		}()
		return gone
	}, nil
}

// meet has a call meet its fate.
func (c call) meet(oracle func(call) fate) {
	if !c.worthwhile() {
		c.goOn()
		return
	}
	switch f := oracle(c); {
	case f.kill:
		unix.Kill(c.process(), unix.SIGKILL)
	case f.err != 0:
		c.fail(f.err)
	case f.pause > 0:
		pid := c.process()
		if f.stop {
			unix.Kill(pid, unix.SIGSTOP)
		}
		time.AfterFunc(f.pause, func() {
			unix.Kill(pid, unix.SIGCONT)
			c.goOn()
		})
	default:
		c.goOn()
	}
}

// worthwhile leaves out what the start of any program does: of files it opens
// and maps only those of shared memory are worth it, and what the kernel says
// about that.
func (c call) worthwhile() bool {
	if c.nr == unix.SYS_MMAP {
		file, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", c.thread, c.args[4]))
		return strings.HasPrefix(file, "/dev/shm")
	} else if c.nr != unix.SYS_OPENAT {
		return true
	}
	path := make([]byte, 64)
	memoryOf(c.thread, c.args[1], path)
	return bytes.HasPrefix(path, []byte("/dev/shm")) ||
		bytes.HasPrefix(path, []byte("/proc/sysvipc"))
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
	path, err := exec.LookPath(args[1])
	if err == nil {
		_, err = setFilter(program, 0)
	}
	if err != nil {
		return err
	}
	return syscall.Exec(path, args[1:], os.Environ())
}

// faultRules asks about all calls in watched, but for what the Go runtime does
// for itself: mapping memory that is no file's, futexes of one process, writes
// to what is no output.
func faultRules() (rules []rule) {
	only := map[int]rule{
		unix.SYS_FUTEX: {arg: 1, test: atMost, value: 1}, // FUTEX_WAIT and FUTEX_WAKE, not private
		unix.SYS_WRITE: {arg: 0, test: atMost, value: 2},
		unix.SYS_MMAP:  {arg: 4, test: differs, value: 0xffffffff}, // without a file it is -1
		unix.SYS_FCNTL: {arg: 1, test: above, value: 4},            // locks and leases, F_GETLK and above
	}
	for call := range watched {
		r := only[call]
		r.call = call
		rules = append(rules, r)
	}
	return rules
}
