//go:build linux

package shm_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// Lab 05. A student's program does its work within microseconds: a look at it
// from outside comes too late, or finds it anywhere. So its calls are held. The
// kernel asks the grader before some calls of the program, and the calls are
// not made before the script says so (see the user notifications of
// seccomp(2)). Between two calls that are held, the program can be looked at,
// and the mutex be taken from it.

// A holder holds calls of a program and of all processes that it starts.
type holder struct {
	ours int // a socket: the program sends the listener

	lock     sync.Mutex
	holds    map[string]bool // the calls that are held from now on
	held     []heldCall
	listener int
	kind     int64 // of the mutex, when the second process was started, or -1
	threads  int   // started by a process that had attached a segment
}

type heldCall struct {
	what string // fork, wake or remove
	id   uint64 // of the notification
}

// The calls that can be held, by what they do:
//
//	fork    the program, which has attached a segment, starts a process
//	wake    it wakes a process that sleeps on the first word of the segment
//	remove  it removes a segment, after it has started a process
func newHolder(calls string) *holder {
	h := &holder{holds: map[string]bool{}, kind: -1, listener: -1}
	for call := range strings.SplitSeq(calls, ",") {
		h.holds[call] = true
	}
	return h
}

// socket is the end of a pair for the program.
func (h *holder) socket() (theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	h.ours = fds[0]
	return os.NewFile(uintptr(fds[1]), "socket"), nil
}

const sysFork, sysVfork = 57, 58 // only on amd64

// beHeld is called in the process that becomes the program. It sends the
// listener through the socket.
func beHeld(socket int) error {
	const load, equal, set, ret, nr, arg0, arg1 = 0x20, 0x15, 0x45, 0x06, 0, 16, 24
	allow := unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ALLOW}
	ask := unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_USER_NOTIF}
	// Each question takes time, on a busy machine much of it. So the Go
	// runtime's many threads and private futexes are not asked about.
	program := []unix.SockFilter{{Code: load, K: nr},
		{Code: equal, K: unix.SYS_CLONE, Jf: 4}, {Code: load, K: arg0},
		{Code: set, K: unix.CLONE_THREAD, Jt: 1}, ask, allow,
		{Code: equal, K: unix.SYS_CLONE3, Jf: 1}, ask,
		{Code: equal, K: unix.SYS_FUTEX, Jf: 5}, {Code: load, K: arg1},
		{Code: equal, K: 1, Jt: 2}, {Code: equal, K: 10, Jt: 1}, allow, ask, // FUTEX_WAKE…
		{Code: equal, K: unix.SYS_SHMCTL, Jf: 3}, {Code: load, K: arg1},
		{Code: equal, K: unix.IPC_RMID, Jf: 1}, ask,
	}
	if runtime.GOARCH == "amd64" {
		first := []unix.SockFilter{program[0], {Code: equal, K: sysFork, Jf: 1}, ask,
			{Code: equal, K: sysVfork, Jf: 1}, ask}
		program = append(first, program[1:]...)
	}
	program = append(program, allow)
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	runtime.LockOSThread() // the filter is this thread's, which becomes the program
	// Only a signal that kills ends the wait for an answer, if that can be had.
	const newListener, waitKillable = 1 << 3, 1 << 5
	filter := func(flags uintptr) (uintptr, unix.Errno) {
		fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
			flags, uintptr(unsafe.Pointer(&prog)))
		return fd, errno
	}
	listener, errno := filter(newListener | waitKillable)
	if errno == unix.EINVAL {
		listener, errno = filter(newListener)
	}
	if errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	if err := unix.Sendmsg(socket, []byte{0}, unix.UnixRights(int(listener)), nil, 0); err != nil {
		return fmt.Errorf("sendmsg: %w", err)
	}
	unix.CloseOnExec(int(listener))
	return nil
}

// follow answers until no process of the program is left.
func (h *holder) follow() {
	defer unix.Close(h.ours)
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(h.ours, make([]byte, 1), oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil || n == 0 {
		return
	}
	messages, _ := unix.ParseSocketControlMessage(oob[:n])
	got, _ := unix.ParseUnixRights(&messages[0])
	h.lock.Lock()
	h.listener = got[0]
	h.lock.Unlock()
	defer func() {
		h.lock.Lock()
		defer h.lock.Unlock()
		unix.Close(h.listener)
		h.listener = -1
	}()
	for {
		fds := []unix.PollFd{{Fd: int32(got[0]), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err == unix.EINTR {
			continue
		} else if fds[0].Revents&unix.POLLIN == 0 {
			return
		}
		var n notification
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(got[0]),
			unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&n))); errno == 0 {
			h.decide(n)
		}
	}
}

// decide holds a call, or lets it be made.
func (h *holder) decide(n notification) {
	what := h.what(n)
	h.lock.Lock()
	defer h.lock.Unlock()
	if h.holds[what] {
		h.held = append(h.held, heldCall{what, n.id})
		return
	}
	h.goOn(n.id)
}

func (h *holder) goOn(id uint64) {
	r := reply{id: id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
	h.ioctl(unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&r))
}

// ioctl is made again after a signal, such as those of the Go runtime: an
// answer that is lost would hold the call for ever.
func (h *holder) ioctl(request uintptr, arg unsafe.Pointer) unix.Errno {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(h.listener), request, uintptr(arg))
		if errno != unix.EINTR {
			return errno
		}
	}
}

// what says which of the calls that can be held this one is.
func (h *holder) what(n notification) string {
	switch n.nr {
	case unix.SYS_SHMCTL:
		h.lock.Lock()
		defer h.lock.Unlock()
		if h.kind < 0 { // a leftover
			return ""
		}
		return "remove"
	case unix.SYS_FUTEX:
		if start, _ := attachedBy(n.pid); start != 0 && n.args[0] == start {
			return "wake"
		}
		return ""
	}
	// clone and the like. A thread is no process, and a Go program that asks
	// what clone can do starts a process without the usual signal at its end.
	flags, signal := n.args[0], n.args[0]&0xff
	start, _ := attachedBy(n.pid)
	switch {
	case n.nr == unix.SYS_CLONE3: // flags and signal lie in a struct clone_args
		args := make([]byte, 40)
		memoryOf(n.pid, n.args[0], args)
		flags, signal = binary.LittleEndian.Uint64(args), binary.LittleEndian.Uint64(args[32:])
	case n.nr != unix.SYS_CLONE: // fork, vfork
		flags, signal = 0, 1
	}
	h.lock.Lock()
	defer h.lock.Unlock()
	switch {
	case start == 0: // it has not attached a segment
	case flags&unix.CLONE_THREAD != 0:
		h.threads++
	case signal != 0:
		if h.kind < 0 {
			word := make([]byte, 4)
			memoryOf(n.pid, start+kindOffset, word)
			h.kind = int64(word[0])
		}
		return "fork"
	}
	return ""
}

// attachedBy is where a thread's process has attached a segment.
func attachedBy(thread uint32) (start, end uint64) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/maps", thread))
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 5 && strings.HasPrefix(fields[5], "/SYSV") {
			fmt.Sscanf(fields[0], "%x-%x", &start, &end)
			return start, end
		}
	}
	return 0, 0
}

func memoryOf(thread uint32, address uint64, into []byte) {
	if f, err := os.Open(fmt.Sprintf("/proc/%d/mem", thread)); err == nil {
		f.ReadAt(into, int64(address))
		f.Close()
	}
}

// releaseCall lets the calls of this kind be made: those that are held, and all
// later ones.
func (s *session) releaseCall(ts *testscript.TestScript, args []string) {
	p := s.named(args[0])
	if p == nil || p.holder == nil {
		ts.Fatalf("start %s with -hold=%s", args[0], args[1])
	}
	h := p.holder
	h.lock.Lock()
	defer h.lock.Unlock()
	delete(h.holds, args[1])
	h.held = slices.DeleteFunc(h.held, func(c heldCall) bool {
		if c.what == args[1] {
			h.goOn(c.id)
		}
		return c.what == args[1]
	})
}

// waits tells whether a call is held now. Its process may have been killed.
func (h *holder) waits(what string) bool {
	h.lock.Lock()
	defer h.lock.Unlock()
	return slices.ContainsFunc(h.held, func(c heldCall) bool {
		return c.what == what && h.ioctl(unix.SECCOMP_IOCTL_NOTIF_ID_VALID, unsafe.Pointer(&c.id)) == 0
	})
}

// noteChildren keeps in mind which children a program has now: they may
// outlive it.
func (p *process) noteChildren(pids []int) {
	p.forgetChildren()
	for _, pid := range pids {
		if fd, err := unix.PidfdOpen(pid, 0); err == nil {
			p.children = append(p.children, fd)
		}
	}
}

// childrenRun counts those that still run.
func (p *process) childrenRun() (n int64) {
	for _, fd := range p.children {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if ended, _ := unix.Poll(fds, 0); ended <= 0 {
			n++
		}
	}
	return n
}

func (p *process) forgetChildren() {
	for _, fd := range p.children {
		unix.Close(fd)
	}
	p.children = nil
}

// Where glibc's pthread_mutex_t has what.
const (
	ownerOffset  = 8
	nusersOffset = 12
	kindOffset   = 16
)

func init() {
	type look = func(*session, []string) (bool, string, error)
	for usage, do := range map[string]look{
		"held NAME CALL":          lookHeld,
		"futex NAME KEY OP N":     lookFutex(false),
		"privately NAME KEY OP N": lookFutex(true),
		"kind KEY OP N":           lookKind,
		"marked KEY":              lookMarked,
		"firstkind NAME OP N":     lookFirstKind,
		"children NAME OP N":      lookChildren,
		"threads NAME OP N":       lookThreads,
	} {
		name, _, _ := strings.Cut(usage, " ")
		lookers[name] = struct {
			usage string
			look  look
		}{usage, do}
	}
	moreSteps["lock"] = lockStep
	moreSteps["unlock"] = unlockStep
	moreSteps["hand"] = handStep
	moreSteps["add"] = addStep
	moreSteps["own"] = ownStep
	moreSteps["keep"] = keepStep
	moreSteps["zombie"] = zombieStep
}

// heldBy finds the holder of a program.
func (s *session) heldBy(name string) (*holder, error) {
	if p := s.named(name); p != nil && p.holder != nil {
		return p.holder, nil
	}
	return nil, fmt.Errorf("%s was not started with -hold", name)
}

var doings = map[string]string{"fork": "starts a second process",
	"wake": "wakes a process that waits for the mutex", "remove": "removes a segment"}

func lookHeld(s *session, args []string) (bool, string, error) {
	h, err := s.heldBy(args[0])
	if err != nil { // not yet: a likely line is looked at before
		return false, err.Error(), nil
	}
	if h.waits(args[1]) {
		return true, fmt.Sprintf("%s %s", args[0], doings[args[1]]), nil
	}
	state := fmt.Sprintf("there is no moment at which %s %s", args[0], doings[args[1]])
	if args[1] == "fork" { // it may have forked without a segment
		state += " after it has attached the segment"
	}
	return false, state, nil
}

// lookFutex counts the processes of a program that sleep in futex(2) on the
// first word of a segment, with FUTEX_PRIVATE_FLAG or without.
func lookFutex(private bool) func(*session, []string) (bool, string, error) {
	return func(s *session, args []string) (bool, string, error) {
		g, state, err := findSegment(args[1])
		if state != "" || err != nil {
			return false, state, err
		}
		p := s.named(args[0])
		if p == nil || p.within(0) {
			return false, args[0] + " has ended", nil
		}
		count, wrong := sleepers(p, g.id)
		if private {
			// A program that waits in slices is in between just now, perhaps.
			eventually(30*tick, func() bool {
				wrong, count = sleepers(p, g.id)
				return count > 0
			})
		}
		is, err := compare(count, args[2], args[3])
		state = fmt.Sprintf("%d processes of %s sleep in futex on the mutex", count, args[0])
		if wrong > 0 && !private {
			state += fmt.Sprintf(", and %d with FUTEX_PRIVATE_FLAG", wrong)
		}
		if part, no, _ := s.at(args[1], s.lab.values["COUNTER"], 4); no == "" && part != nil {
			state += fmt.Sprintf("; the counter is %d", int32(binary.LittleEndian.Uint32(part)))
		}
		return is, state, err
	}
}

// sleepers counts the processes of a program that sleep in futex on the first
// word of a segment, without FUTEX_PRIVATE_FLAG and with it.
func sleepers(p *process, segment int) (shared, private int64) {
	for _, pid := range tree(p.cmd.Process.Pid) {
		address, ok := mapping(pid, segment)
		if !ok {
			continue
		}
		for _, call := range waiting(pid) {
			op := call[2] &^ 256 // FUTEX_CLOCK_REALTIME
			if call[0] != unix.SYS_FUTEX || call[1] != address ||
				op&^128 != 0 && op&^128 != 9 { // FUTEX_WAIT, FUTEX_WAIT_BITSET
				continue
			}
			if op&128 != 0 { // FUTEX_PRIVATE_FLAG
				private++
			} else {
				shared++
			}
			break
		}
	}
	return shared, private
}

// lookKind looks at the type of a mutex, without what glibc notes besides.
func lookKind(s *session, args []string) (bool, string, error) {
	part, state, err := s.at(args[0], strconv.Itoa(kindOffset), 4)
	if state != "" || err != nil {
		return false, state, err
	}
	is, err := compare(int64(part[0]), args[1], args[2])
	return is, fmt.Sprintf("kind, at offset %d of the segment, is %d", kindOffset, part[0]), err
}

// lookMarked tells whether a segment is marked for removal.
func lookMarked(_ *session, args []string) (bool, string, error) {
	const shmDest = 0o1000 // SHM_DEST in <linux/shm.h>
	g, state, err := findSegment(args[0])
	if state != "" || err != nil {
		return false, state, err
	}
	is := g.desc.Perm.Mode&shmDest != 0
	return is, fmt.Sprintf("the segment is %smarked for removal", notUnless(is)), nil
}

func lookFirstKind(s *session, args []string) (bool, string, error) {
	h, err := s.heldBy(args[0])
	if err != nil { // not yet: a likely line is looked at before
		return false, err.Error(), nil
	}
	h.lock.Lock()
	defer h.lock.Unlock()
	is, err := compare(h.kind, args[1], args[2])
	return is, fmt.Sprintf("when %s started the second process, kind was %d", args[0], h.kind), err
}

// lookChildren counts those children that a program had at the last signal,
// and that still run, whatever became of the program.
func lookChildren(s *session, args []string) (bool, string, error) {
	p := s.named(args[0])
	if p == nil {
		return false, args[0] + " was not started", nil
	}
	n := p.childrenRun()
	is, err := compare(n, args[1], args[2])
	return is, fmt.Sprintf("of the child processes of %s, %d still run", args[0], n), err
}

func lookThreads(s *session, args []string) (bool, string, error) {
	h, err := s.heldBy(args[0])
	if err != nil { // not yet: a likely line is looked at before
		return false, err.Error(), nil
	}
	h.lock.Lock()
	defer h.lock.Unlock()
	is, err := compare(int64(h.threads), args[1], args[2])
	return is, fmt.Sprintf("%s has started %d threads", args[0], h.threads), err
}

// The steps of a peer that plays a C program. OFFSET is the mutex's. As glibc
// does it: see the lesson's mutex.go.

// word is the word of a mutex, or another one.
func (p *player) word(offset string, plus int) (*uint32, error) {
	at, err := strconv.Atoi(offset)
	if err == nil && (at < 0 || at+kindOffset+4 > len(p.mem)) {
		err = fmt.Errorf("the segment has %d bytes", len(p.mem))
	}
	if err != nil {
		return nil, err
	}
	return (*uint32)(unsafe.Pointer(&p.mem[at+plus])), nil
}

// lock OFFSET locks a mutex. It sleeps without a time limit.
func lockStep(p *player, args []string) error {
	word, err := p.word(args[0], 0)
	if err != nil {
		return err
	}
	if !atomic.CompareAndSwapUint32(word, 0, 1) {
		for atomic.SwapUint32(word, 2) != 0 {
			const waitBitset = 9
			unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), waitBitset, 2, 0, 0, peersBit)
		}
	}
	return p.setOwner(args[0], os.Getpid(), 1)
}

func (p *player) setOwner(offset string, pid int, nusers uint32) error {
	owner, err := p.word(offset, ownerOffset)
	if err != nil {
		return err
	}
	users, err := p.word(offset, nusersOffset)
	atomic.StoreUint32(owner, uint32(pid))
	atomic.StoreUint32(users, nusers)
	return err
}

// unlock OFFSET [all] unlocks it, and wakes one who waits, or all.
func unlockStep(p *player, args []string) error {
	word, err := p.word(args[0], 0)
	if err == nil {
		err = p.setOwner(args[0], 0, 0)
	}
	if err != nil || atomic.SwapUint32(word, 0) != 2 {
		return err
	}
	count := 1
	if args[1] == "all" {
		count = 1000
	}
	wake(word, count, peersBit|othersBit)
	return nil
}

// Peers wait with a bit of their own: so others can be woken, and no peer.
const peersBit, othersBit = 1, 2

func wake(word *uint32, count int, bits uintptr) (woken int) {
	const wakeBitset = 10
	n, _, _ := unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), wakeBitset, uintptr(count), 0, 0, bits)
	return int(n)
}

// hand OFFSET unlocks it for the only process that waits and is no peer. That
// one locks the mutex as one that has waited, and so its unlock has to wake
// another. A process that waits in slices is between two of them now and then;
// it would lock a free mutex like one that never waited. So it is woken first,
// which succeeds only while it sleeps, and the mutex is unlocked at once.
func handStep(p *player, args []string) error {
	word, err := p.word(args[0], 0)
	if err == nil {
		err = p.setOwner(args[0], 0, 0)
	}
	if err != nil {
		return err
	}
	for range 1000 {
		if wake(word, 1, othersBit) == 1 {
			atomic.StoreUint32(word, 0)
			wake(word, 1, othersBit)
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return errors.New("no process sleeps in futex on the mutex, without FUTEX_PRIVATE_FLAG")
}

// add OFFSET N adds to an int32, as a C program does that has the mutex.
func addStep(p *player, args []string) error {
	at, err := strconv.Atoi(args[0])
	n, e := strconv.Atoi(args[1])
	if err = errors.Join(err, e); err == nil && (at < 0 || at+4 > len(p.mem)) {
		err = fmt.Errorf("the segment has %d bytes", len(p.mem))
	}
	if err == nil {
		word := (*int32)(unsafe.Pointer(&p.mem[at]))
		atomic.StoreInt32(word, atomic.LoadInt32(word)+int32(n))
	}
	return err
}

// own OFFSET makes a student's child process the owner of the mutex that the
// peer has locked: as if the child had locked it.
func ownStep(p *player, args []string) error {
	attached := map[int]int{} // processes that have a segment, and their parents
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(dir))
		text, _ := os.ReadFile(dir + "/stat")
		_, after, _ := strings.Cut(string(text), ") ")
		var state string
		var parent int
		fmt.Sscan(after, &state, &parent)
		if start, _ := attachedBy(uint32(pid)); start != 0 {
			attached[pid] = parent
		}
	}
	for pid, parent := range attached {
		if _, ok := attached[parent]; ok {
			return p.setOwner(args[0], pid, 1)
		}
	}
	return errors.New("there is no child process that has attached the segment")
}

// keep TIME does nothing for so long: a C program keeps the mutex, say.
func keepStep(_ *player, args []string) error {
	d, err := time.ParseDuration(args[0])
	time.Sleep(d)
	return err
}

// zombie STEPS, separated by commas, has a child process do steps and end. The
// peer does not wait for the child, which so becomes a zombie.
func zombieStep(_ *player, args []string) error {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args[0] = "peer"
	steps, _, _ := strings.Cut(strings.Join(args, " "), "  ")
	cmd.Stdin = strings.NewReader(strings.ReplaceAll(steps, ", ", "\n"))
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return err
	}
	text, err := io.ReadAll(out) // until it has ended
	if _, failed, ok := strings.Cut(string(text), "error: "); ok {
		err = errors.New(failed)
	}
	return err
}
