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

// Before some system calls of a program the kernel asks this process what to do
// with the call. This needs no privilege, and no program such as strace. See the
// user notifications of seccomp(2). TestFaults uses them to cause a fault at the
// k-th call of a program. (strace counts the calls of each thread, but a Go
// program makes its calls on changing threads.) The labs use them to hold a
// program at a call, and look at it.

// asked are the lists of calls that the kernel asks about: one for the faults,
// and one for each lab, by its number. Each question takes time, and on a busy
// machine it takes long. So the lists are short.
var asked = map[string]struct {
	rules []rule
	// Only a signal that kills ends the wait for an answer, from Linux 5.19 on.
	killable bool
}{
	"faults": {rules: faultRules()},
	"03":     {rules03, true},
	"04":     {rules04, true},
	"05":     {rules05(), true},
	"06":     {rules: rules06},
}

// A rule names a call. The kernel asks about it if the low half of one of its
// arguments passes the test.
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

// filter makes the program that the kernel runs at each call.
func filter(rules []rule) (p []unix.SockFilter) {
	const load, equal, ret = 0x20, 0x15, 0x06 // of 32 bits
	const nr, arg0 = 0, 16
	ask := unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_USER_NOTIF}
	for _, r := range rules {
		body := []unix.SockFilter{ask}
		if r.test != always {
			passes := unix.SockFilter{Code: r.test.jump, K: r.value, Jf: 1}
			if r.test.not {
				passes.Jt, passes.Jf = 1, 0
			}
			body = []unix.SockFilter{{Code: load, K: uint32(arg0 + 8*r.arg)}, passes, ask}
		}
		p = append(p, unix.SockFilter{Code: load, K: nr},
			unix.SockFilter{Code: equal, K: uint32(r.call), Jf: uint8(len(body))})
		p = append(p, body...)
	}
	return append(p, unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ALLOW})
}

// setFilter sets a filter for this thread, and for all programs that it becomes
// or starts.
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

// beAsked sets the filter of a list, and sends the listener through a socket.
// The process at the other end is then asked about the calls of this thread, and
// of all programs that it becomes or starts.
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
	sent := make(chan error) // from another thread: this one would be asked
	go func() { sent <- unix.Sendmsg(socket, []byte{0}, unix.UnixRights(listener), nil, 0) }()
	err = <-sent
	return errors.Join(err, unix.Close(listener), unix.Close(socket))
}

// becomeWatched is the program "watched": LIST PROGRAM ARGS... becomes PROGRAM.
// The kernel asks about its calls.
func becomeWatched(args []string) error {
	if err := beAsked(args[0], 3); err != nil {
		return err
	}
	return syscall.Exec(args[1], args[2:], os.Environ())
}

// askedBy gives a program that is not started yet the socket for beAsked, as the
// last of its files. It returns the other end.
func askedBy(cmd *exec.Cmd) (socket int, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socketpair: %w", err)
	}
	cmd.ExtraFiles = append(cmd.ExtraFiles, os.NewFile(uintptr(fds[1]), "socket"))
	return fds[0], nil
}

// A listener is the file descriptor through which the kernel asks.
type listener struct {
	lock sync.Mutex
	fd   int // -1 when the program and all that it started have ended
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

// A call is a system call that a thread wants to make. The thread waits until
// goOn or fail is called.
type call struct {
	nr       int
	args     [6]uint64
	thread   int
	id       uint64
	listener *listener
}

// answer passes each call to decide, until the program has ended, and all that
// it started.
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
			uintptr(unsafe.Pointer(&n))); errno == 0 { // otherwise the caller has just ended
			decide(call{int(n.nr), n.args, int(n.thread), n.id, l})
		}
	}
}

// goOn lets the kernel make the call. fail makes the call fail.
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
	for c.listener.fd >= 0 { // after EINTR again: a lost answer stops the program for ever
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(c.listener.fd), unix.SECCOMP_IOCTL_NOTIF_SEND,
			uintptr(unsafe.Pointer(&r))); errno != unix.EINTR {
			return
		}
	}
}

// process is the process of the thread that makes the call.
func (c call) process() int {
	if pid, _ := strconv.Atoi(statusField(c.thread, "Tgid")); pid != 0 {
		return pid
	}
	return c.thread
}

// A holder holds calls of a program, and of all processes that it starts, until
// the script releases them. Without it a student's program would do its work
// within microseconds, before the grader can look at it.
type holder struct {
	list    string
	decider decider

	lock  sync.Mutex
	holds map[string]bool // the points at which calls are held from now on
	was   map[string]bool // the points at which a call was held
	held  []heldCall
	first int       // the process whose call was held first
	since time.Time // when that call was held
}

type heldCall struct {
	call
	point string
}

// A decider sees all calls that the kernel asks about. Each lab has its own.
type decider interface {
	points() []string                  // where a call can be held
	at(c call) []string                // notes a call, and tells at which points it is
	missing(name, point string) string // says what was seen, if no call was held at the point
}

// newHolder makes a holder from the points of -hold=POINT,...
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

// decide holds a call, or lets it be made.
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

// release lets the calls at a point be made, or at all points: those that are
// held, and all later ones.
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

// watched are the calls for the faults, by number, with the errors that the test
// makes them return. Any program must expect these errors of the manual. A call
// that is not here has no faults: TestCallsVisible demands those of each lesson.
var watched = map[int]struct {
	name   string
	errors []unix.Errno
}{
	unix.SYS_SHMGET:     {"shmget", errnos(unix.ENOMEM, unix.ENOSPC, unix.EACCES)},
	unix.SYS_SHMAT:      {"shmat", errnos(unix.ENOMEM, unix.EACCES, unix.EIDRM)},
	unix.SYS_SHMDT:      {"shmdt", errnos(unix.EINVAL)},
	unix.SYS_SHMCTL:     {"shmctl", errnos(unix.EACCES, unix.EIDRM, unix.EPERM)},
	unix.SYS_SEMGET:     {"semget", errnos(unix.ENOMEM, unix.ENOSPC, unix.EACCES)},
	unix.SYS_SEMTIMEDOP: {"semop", errnos(unix.ENOMEM, unix.EACCES, unix.EIDRM, unix.EINTR)},
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

	unix.SYS_MEMFD_CREATE: {"memfd_create", errnos(unix.ENOMEM)},
	unix.SYS_EVENTFD2:     {"eventfd", errnos(unix.ENOMEM)},
	unix.SYS_SOCKETPAIR:   {"socketpair", errnos(unix.ENOMEM)},
	unix.SYS_SENDMSG:      {"sendmsg", errnos(unix.ENOMEM, unix.EINTR)},
	unix.SYS_RECVMSG:      {"recvmsg", errnos(unix.ENOMEM, unix.EINTR)},
}

func errnos(all ...unix.Errno) []unix.Errno { return all }

// removes tells whether a call removes an object. If such a call fails, the
// object stays, and the program cannot help it.
func (c call) removes() bool {
	return c.nr == unix.SYS_UNLINKAT ||
		c.nr == unix.SYS_SHMCTL && c.args[1]&0xff == unix.IPC_RMID ||
		c.nr == unix.SYS_SEMCTL && c.args[2]&0xff == unix.IPC_RMID
}

// An outcome says what happens at a call. The zero outcome lets it be made as usual.
type outcome struct {
	kill  bool          // the process is killed
	int   bool          // the process gets SIGINT, as after Ctrl-C
	pause time.Duration // the call is made after a pause
	stop  bool          // the process is stopped during the pause
	err   unix.Errno    // the call fails with this error
}

func (f outcome) String() string {
	switch {
	case f.kill:
		return "killed"
	case f.int:
		return "Ctrl-C"
	case f.stop:
		return "stopped"
	case f.pause > 0:
		return "delayed"
	case f.err != 0:
		return unix.ErrnoName(f.err)
	}
	return "as usual"
}

// watch asks decide what happens at each call of a program, one call after the other. Call
// watch before cmd.Start, and the function that it returns after cmd.Start. The
// channel gone is closed when the program has ended, and all that it started.
func watch(cmd *exec.Cmd, decide func(call) outcome) (started func() (gone chan struct{}), err error) {
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
				l.answer(func(c call) { c.answer(decide) })
			}
		}()
		return gone
	}, nil
}

// answer asks decide what happens at a call, and lets it happen.
func (c call) answer(decide func(call) outcome) {
	if !c.worthwhile() {
		c.goOn()
		return
	}
	switch f := decide(c); {
	case f.kill:
		unix.Kill(c.process(), unix.SIGKILL)
	case f.int:
		unix.Kill(c.process(), unix.SIGINT)
		c.goOn()
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

// worthwhile leaves out calls that every program makes when it starts. Of the
// files that are opened or mapped, only those of shared memory count, and the
// kernel's tables of it. A write counts if it is output, or goes to another process.
func (c call) worthwhile() bool {
	file := func(fd uint64) string {
		name, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", c.thread, fd))
		return name
	}
	switch c.nr {
	case unix.SYS_MMAP:
		return isShared(file(c.args[4]))
	case unix.SYS_WRITE:
		name := file(c.args[0])
		return c.args[0] <= 2 || strings.HasPrefix(name, "socket:") || strings.HasPrefix(name, "pipe:") ||
			name == "anon_inode:[eventfd]" && !c.nonblocking(c.args[0])
	case unix.SYS_OPENAT:
		path := make([]byte, 64)
		memoryOf(c.thread, c.args[1], path)
		return isShared(string(path)) || bytes.HasPrefix(path, []byte("/proc/sysvipc"))
	}
	return true
}

// isShared tells whether a name in /proc is that of shared memory.
func isShared(name string) bool {
	return strings.HasPrefix(name, "/SYSV") || strings.HasPrefix(name, "/dev/shm/") ||
		strings.HasPrefix(name, "/memfd:")
}

// nonblocking tells whether a file is, as the eventfd of the Go runtime. See
// proc_pid_fdinfo(5).
func (c call) nonblocking(fd uint64) bool {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%d", c.thread, fd))
	_, after, _ := strings.Cut(string(text), "flags:")
	var flags int
	fmt.Sscanf(after, "%o", &flags)
	return flags&unix.O_NONBLOCK != 0
}

// forbidLocks is the program "forbid-locks": ERRNO PROGRAM ARGS... becomes
// PROGRAM. Its leases and OFD locks fail with ERRNO, as in some sandboxes.
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

// faultRules are the rules for all calls in watched. They leave out what the Go
// runtime does for itself: it maps memory without a file, uses futexes within one
// process, and makes an eventfd that does not block.
func faultRules() (rules []rule) {
	only := map[int]rule{
		unix.SYS_FUTEX:    {arg: 1, test: atMost, value: 1},           // FUTEX_WAIT and FUTEX_WAKE, not private
		unix.SYS_MMAP:     {arg: 4, test: differs, value: 0xffffffff}, // without a file it is -1
		unix.SYS_FCNTL:    {arg: 1, test: above, value: 4},            // locks and leases, F_GETLK and above
		unix.SYS_EVENTFD2: {arg: 1, test: lacks, value: unix.EFD_NONBLOCK},
	}
	for call := range watched {
		r := only[call]
		r.call = call
		rules = append(rules, r)
	}
	return rules
}
