//go:build linux

package shm_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Lab 05: while a call of the program is held, the script can look at the program,
// and a peer can lock the mutex.

func rules05() []rule {
	rules := []rule{
		{unix.SYS_CLONE, 0, lacks, unix.CLONE_THREAD}, // the Go runtime has many threads
		{unix.SYS_CLONE3, 0, always, 0},
		{unix.SYS_FUTEX, 1, equals, 1}, {unix.SYS_FUTEX, 1, equals, 10}, // FUTEX_WAKE, FUTEX_WAKE_BITSET
		{unix.SYS_SHMCTL, 1, equals, unix.IPC_RMID},
	}
	if runtime.GOARCH == "amd64" {
		rules = append(rules, rule{call: sysFork}, rule{call: sysVfork})
	}
	return rules
}

const sysFork, sysVfork = 57, 58 // only on amd64

// A mutex05 is the decider of lab 05. It knows how a program has started processes
// and threads.
type mutex05 struct {
	kind    int64 // of the mutex, when the second process was started, or -1
	threads int   // started by a process that had attached a segment
}

var doings = map[string]string{
	"fork":   "starts a second process",                  // it has attached a segment
	"wake":   "wakes a process that waits for the mutex", // on the first word of the segment
	"remove": "removes a segment",                        // after a fork: no leftover
}

func (*mutex05) points() []string { return slices.Collect(maps.Keys(doings)) }

func (*mutex05) missing(name, point string) string {
	state := fmt.Sprintf("there is no moment at which %s %s", name, doings[point])
	if point == "fork" { // it may have forked without a segment
		state += " after it has attached the segment"
	}
	return state
}

func (d *mutex05) at(c call) []string {
	var start uint64 // of the segment, or 0
	if all := segmentsOf(c.thread); len(all) > 0 {
		start = all[0].from
	}
	switch c.nr {
	case unix.SYS_SHMCTL:
		if d.kind >= 0 {
			return []string{"remove"}
		}
		return nil
	case unix.SYS_FUTEX:
		if start != 0 && c.args[0] == start {
			return []string{"wake"}
		}
		return nil
	}
	// clone and the like. A thread is no second process. The Go runtime also
	// starts a process to test clone; that one sends no signal when it ends.
	flags, signal := c.args[0], c.args[0]&0xff
	switch {
	case c.nr == unix.SYS_CLONE3: // flags and signal lie in a struct clone_args
		args := make([]byte, 40)
		memoryOf(c.thread, c.args[0], args)
		flags, signal = binary.LittleEndian.Uint64(args), binary.LittleEndian.Uint64(args[32:])
	case c.nr != unix.SYS_CLONE: // fork, vfork
		flags, signal = 0, 1
	}
	switch {
	case start == 0: // it has not attached a segment
	case flags&unix.CLONE_THREAD != 0:
		d.threads++
	case signal != 0:
		if d.kind < 0 {
			word := make([]byte, 4)
			memoryOf(c.thread, start+kindOffset, word)
			d.kind = int64(word[0])
		}
		return []string{"fork"}
	}
	return nil
}

// noteChildren notes which children a program has now. They may still run when the
// program has ended.
func (p *process) noteChildren(pids []int) {
	p.forgetChildren()
	for _, pid := range pids {
		if fd, err := unix.PidfdOpen(pid, 0); err == nil {
			p.children = append(p.children, fd)
		}
	}
}

// childrenRun counts the noted children that still run.
func (p *process) childrenRun() (n int64) {
	for _, fd := range p.children {
		if !hasEnded(fd) {
			n++
		}
	}
	return n
}

// hasEnded tells whether the process of a pidfd has ended. See pidfd_open(2).
func hasEnded(pidfd int) bool {
	ended, _ := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 0)
	return ended > 0
}

func (p *process) forgetChildren() {
	for _, fd := range p.children {
		unix.Close(fd)
	}
	p.children = nil
}

// Offsets of the fields in glibc's pthread_mutex_t.
const (
	ownerOffset  = 8
	nusersOffset = 12
	kindOffset   = 16
)

func init() {
	maps.Copy(conditions, map[string]looker{
		"futex NAME KEY OP N":     lookFutex(false),
		"privately NAME KEY OP N": lookFutex(true),
		"kind KEY OP N":           lookKind,
		"marked KEY":              ofSegment(lookMarked),
		"firstkind NAME OP N":     asks(lookFirstKind),
		"children NAME OP N":      ofProgram(lookChildren),
		"idles NAME":              ofProgram(lookIdles),
		"threads NAME OP N":       asks(lookThreads),
	})
	moreSteps["lock"] = lockStep
	moreSteps["unlock"] = unlockStep
	moreSteps["hand"] = handStep
	moreSteps["add"] = addStep
	moreSteps["own"] = ownStep
}

// lookFutex counts the processes of a program that sleep in futex(2) on the
// first word of a segment, with FUTEX_PRIVATE_FLAG or without.
func lookFutex(private bool) looker {
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
			// A program that waits in slices may be between two of them.
			eventually(100*tick, func() bool {
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

// lookKind looks at the kind of a mutex, without the bits that only glibc uses.
func lookKind(s *session, args []string) (bool, string, error) {
	part, state, err := s.at(args[0], strconv.Itoa(kindOffset), 4)
	if state != "" || err != nil {
		return false, state, err
	}
	is, err := compare(int64(part[0]), args[1], args[2])
	return is, fmt.Sprintf("kind, at offset %d of the segment, is %d", kindOffset, part[0]), err
}

// lookMarked tells whether a segment is marked for removal.
func lookMarked(_ *session, g segmentState, _ []string) (bool, string, error) {
	return g.removed(), fmt.Sprintf("the segment is %smarked for removal", notUnless(g.removed())), nil
}

func lookFirstKind(_ *session, _ *holder, d *mutex05, args []string) (bool, string, error) {
	is, err := compare(d.kind, args[1], args[2])
	return is, fmt.Sprintf("when %s started the second process, kind was %d", args[0], d.kind), err
}

// lookIdles tells whether a program has nothing to do: all its threads sleep. After
// a second it holds anyway, because a program may wait in a loop.
func lookIdles(s *session, p *process, args []string) (bool, string, error) {
	p.asked++
	is, state, err := lookSettled(s, p, args)
	return is || p.asked > int(time.Second/tick), state, err
}

// lookChildren counts the children that a program had at the last signal and that
// still run. The program itself may have ended.
func lookChildren(s *session, p *process, args []string) (bool, string, error) {
	n := p.childrenRun()
	is, err := compare(n, args[1], args[2])
	return is, fmt.Sprintf("of the child processes of %s, %d still run", args[0], n), err
}

func lookThreads(_ *session, _ *holder, d *mutex05, args []string) (bool, string, error) {
	is, err := compare(int64(d.threads), args[1], args[2])
	return is, fmt.Sprintf("%s has started %d threads", args[0], d.threads), err
}

// The steps of a peer that plays a C program. OFFSET is that of the mutex. The
// steps do what glibc does: see the lesson's mutex.go.

// word is a word of the mutex at offset: the one plus bytes behind its start.
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

// unlock OFFSET [all] unlocks a mutex, and wakes one process that waits, or all.
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

// Peers wait with a bit of their own. So others can be woken without waking a peer.
const peersBit, othersBit = 1, 2

func wake(word *uint32, count int, bits uintptr) (woken int) {
	const wakeBitset = 10
	n, _, _ := unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), wakeBitset, uintptr(count), 0, 0, bits)
	return int(n)
}

// hand OFFSET unlocks a mutex for the only process that waits and is no peer.
// That process then locks the mutex after a wait, so its unlock must wake another
// one. But a process that waits in slices may be between two of them. It would
// then lock the mutex as if it had never waited. So this step wakes it first,
// which succeeds only while it sleeps, and unlocks the mutex right after that.
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

// add OFFSET N adds N to an int32, as a C program does while it has the mutex.
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

// own OFFSET makes a child process of the student's program the owner of the mutex
// that the peer has locked, as if the child had locked it.
func ownStep(p *player, args []string) error {
	parents := map[int]int{} // processes that have a segment, and their parents
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if len(segmentsOf(pid)) > 0 {
			parents[pid], _ = strconv.Atoi(statusField(pid, "PPid"))
		}
	}
	for pid, parent := range parents {
		if _, ok := parents[parent]; ok {
			return p.setOwner(args[0], pid, 1)
		}
	}
	return errors.New("there is no child process that has attached the segment")
}
