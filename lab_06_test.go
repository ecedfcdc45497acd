//go:build linux

package shm_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// Lab 06 looks at a segment that lives for a millisecond. So the kernel asks
// the grader before some calls of the student's processes, and the script says
// where one of them is to be held: see "start -watched". The call is made when
// the script says "go-on". To the program this looks like a call that sleeps:
// signals interrupt it.

// held are the points at which a process can be held.
const (
	beforeAttach = "attach" // the first shmat: there is the segment, and no mark
	withList     = "list"   // a process that has the segment detaches it, or ends
	walkerDone   = "walker" // the walker has attached it, and prints, detaches or ends
	walkerPrints = "write"  // the walker prints
)

// asked are the calls that the grader is asked about.
var asked = map[int]string{
	unix.SYS_SHMGET: "shmget", unix.SYS_SHMAT: "shmat", unix.SYS_SHMDT: "shmdt",
	unix.SYS_SHMCTL: "shmctl", unix.SYS_WRITE: "write", unix.SYS_WRITEV: "write",
	unix.SYS_EXIT_GROUP: "exit",
}

// A watcher knows what the processes of a program have called.
type watcher struct {
	lock    sync.Mutex
	point   string // where to hold a process; empty for nowhere
	broken  string // why there is nothing to know
	socket  [2]int
	calls   map[string][]int        // the processes that have made a call
	seen    []int                   // all processes
	creator int                     // the first that has called shmget
	fixed   bool                    // a process has given shmat an address
	before  map[int]map[uint64]bool // where each had a segment before its shmat
	where   map[int]map[uint64]bool // and at its latest call
	held    notification            // the call that is held
	heldPID int                     // its process
	since   time.Time               // when it was held
	send    func(notification)      // lets a call be made
	kept    []notification          // those that are held
}

func newWatcher(point string) (*watcher, error) {
	w := &watcher{point: point, calls: map[string][]int{}, before: map[int]map[uint64]bool{},
		where: map[int]map[uint64]bool{}}
	var err error
	w.socket, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	return w, err
}

// watch has a program that is about to be started watched. What it returns is
// to be called when it was started.
func (w *watcher) watch(cmd *exec.Cmd) (started func()) {
	theirs := os.NewFile(uintptr(w.socket[1]), "socket")
	cmd.ExtraFiles = append(cmd.ExtraFiles, theirs)
	return func() {
		theirs.Close()
		go w.follow(w.socket[0])
	}
}

// follow answers until no process is left of the program.
func (w *watcher) follow(socket int) {
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(socket, make([]byte, 1), oob, unix.MSG_CMSG_CLOEXEC)
	unix.Close(socket)
	if err != nil || n == 0 {
		w.lock.Lock()
		defer w.lock.Unlock()
		w.broken = "the kernel does not let the grader watch calls"
		return
	}
	messages, _ := unix.ParseSocketControlMessage(oob[:n])
	got, _ := unix.ParseUnixRights(&messages[0])
	listener := got[0]
	defer unix.Close(listener)
	w.lock.Lock()
	w.send = func(n notification) {
		r := reply{id: n.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
		unix.Syscall(unix.SYS_IOCTL, uintptr(listener), unix.SECCOMP_IOCTL_NOTIF_SEND,
			uintptr(unsafe.Pointer(&r)))
	}
	w.lock.Unlock()
	for {
		fds := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err == unix.EINTR {
			continue
		} else if fds[0].Revents&unix.POLLIN == 0 {
			w.lock.Lock()
			defer w.lock.Unlock()
			w.send = func(notification) {} // the listener is closed now
			return
		}
		var n notification
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(listener),
			unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&n))); errno != 0 {
			continue // the caller has just ended
		}
		w.lock.Lock()
		if w.holds(n) {
			w.kept = append(w.kept, n)
		} else {
			w.send(n)
		}
		w.lock.Unlock()
	}
}

// holds notes a call, and tells whether it is to be held.
func (w *watcher) holds(n notification) bool {
	pid, name := processOf(n.pid), asked[int(n.nr)]
	note := func(list []int) []int {
		if slices.Contains(list, pid) {
			return list
		}
		return append(list, pid)
	}
	w.seen, w.calls[name] = note(w.seen), note(w.calls[name])
	has := attaches(pid)
	if name == "shmat" && w.before[pid] == nil {
		w.before[pid] = has
	}
	if name == "shmat" && n.args[1] != 0 {
		w.fixed = true
	}
	if len(has) > 0 {
		w.where[pid] = has
	}
	if name == "shmget" && w.creator == 0 {
		w.creator = pid
	}
	switch {
	case w.point == "":
		return false
	case w.heldPID != 0: // a signal may have interrupted the call: it is made again
		return n.pid == w.held.pid && n.nr == w.held.nr && n.args == w.held.args
	}
	walker := pid != w.creator && slices.Contains(w.calls["shmat"], pid)
	hold := false
	switch w.point {
	case beforeAttach:
		hold = name == "shmat"
	case withList:
		hold = (name == "shmdt" || name == "exit") && len(has) > 0
	case walkerDone:
		hold = walker && (name == "write" || name == "shmdt" || name == "exit")
	case walkerPrints:
		hold = walker && name == "write"
	}
	if hold {
		w.held, w.heldPID, w.since = n, pid, time.Now()
	}
	return hold
}

// attaches are the addresses at which a process has System V segments.
func attaches(pid int) map[uint64]bool {
	all := map[uint64]bool{}
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 5 && strings.HasPrefix(fields[5], "/SYSV") {
			var address uint64
			fmt.Sscanf(fields[0], "%x-", &address)
			all[address] = true
		}
	}
	return all
}

// goOn lets the call be made, and all later ones.
func (w *watcher) goOn() {
	w.lock.Lock()
	defer w.lock.Unlock()
	w.point = ""
	for _, n := range w.kept {
		w.send(n)
	}
	w.kept = nil
}

// askedFilter has the kernel ask about the calls in asked: of those that write
// only about standard output.
func askedFilter() (p []unix.SockFilter) {
	const load, equal, ret = 0x20, 0x15, 0x06
	const nr, arg0 = 0, 16
	p = append(p, unix.SockFilter{Code: load, K: nr})
	for call, name := range asked {
		body := []unix.SockFilter{{Code: ret, K: unix.SECCOMP_RET_USER_NOTIF}}
		if name == "write" {
			body = []unix.SockFilter{{Code: load, K: arg0}, {Code: equal, K: 1, Jt: 1},
				{Code: ret, K: unix.SECCOMP_RET_ALLOW}, body[0]}
		}
		p = append(p, unix.SockFilter{Code: equal, K: uint32(call), Jf: uint8(len(body))})
		p = append(p, body...)
	}
	return append(p, unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ALLOW})
}

// letWatch has this thread, and the program that it becomes, watched by whoever
// reads the socket.
func letWatch(socket int) error {
	runtime.LockOSThread()
	program := askedFilter()
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	listener, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	err := unix.Sendmsg(socket, []byte{0}, unix.UnixRights(int(listener)), nil, 0)
	return errors.Join(err, unix.Close(int(listener)), unix.Close(socket))
}

func init() {
	add := func(name, usage string, look func(*session, []string) (bool, string, error)) {
		l := lookers[name]
		l.usage, l.look = usage, look
		lookers[name] = l
	}
	add("caught", "caught NAME", watched06(lookCaught))
	add("callers", "callers NAME CALL OP N", watched06(lookCallers))
	add("apart", "apart NAME", watched06(lookApart))
	add("addresses", "addresses NAME", watched06(lookAddresses))
	add("patient", "patient NAME", watched06(lookPatient))
	add("over", "over NAME", watched06(lookOver))
	add("list", "list KEY VALUES", lookList)
	add("link", "link KEY INDEX OP N", lookLink)
	add("values", "values NAME LIST", lookValues)
	add("blank", "blank KEY", lookBlank)
	add("fixed", "fixed NAME", watched06(lookFixed))
	add("unchanged", "unchanged KEY", lookUnchanged)
	maps.Copy(moreCommands, map[string]labCommand{
		"go-on":    {"go-on NAME", 1, plain((*session).goOn)},
		"kill-one": {"kill-one NAME builder|walker SIGNAL", 3, plain((*session).killOne)},
		"id":       {"id KEY", 1, plain((*session).segmentID)},
		"spend-id": {"spend-id", 0, plain((*session).spendID)},
		"remember": {"remember KEY", 1, plain((*session).remember)},
	})
	moreSteps["list"] = stepList
	moreSteps["series"] = stepSeries
}

// watched06 is a looker of a program that was started with -watched.
func watched06(look func(*session, *process, *watcher, []string) (bool, string, error)) func(*session, []string) (bool, string, error) {
	return func(s *session, args []string) (bool, string, error) {
		p := s.named(args[0])
		if p == nil {
			return false, args[0] + " was not started", nil
		}
		w := p.watcher
		if w == nil {
			return false, "", fmt.Errorf("start %s with -watched", args[0])
		}
		w.lock.Lock()
		defer w.lock.Unlock()
		if w.broken != "" {
			return false, "", errors.New(w.broken)
		}
		return look(s, p, w, args)
	}
}

// lookCaught tells whether a process is held at the point that the script names.
func lookCaught(s *session, p *process, w *watcher, args []string) (bool, string, error) {
	if w.heldPID != 0 {
		return true, args[0] + " is held", nil
	}
	n := len(w.calls["shmat"])
	switch {
	case n == 0:
		return false, "no process of " + args[0] + " has called shmat", nil
	case w.point == walkerPrints && n > 1:
		return false, fmt.Sprintf("the walker of %s has not printed anything", args[0]), nil
	case w.point == walkerDone && len(w.seen) == 1:
		return false, fmt.Sprintf("%s is one process, without a second one that calls shmat", args[0]), nil
	case n == 1:
		return false, fmt.Sprintf("one process of %s has called shmat, and no other", args[0]), nil
	}
	return false, fmt.Sprintf("%d processes of %s have called shmat", n, args[0]), nil
}

// lookCallers counts the processes that have made a call, or "any" of those
// that the grader is asked about.
func lookCallers(s *session, p *process, w *watcher, args []string) (bool, string, error) {
	list := w.calls[args[1]]
	if args[1] == "any" {
		list = w.seen
	}
	is, err := compare(int64(len(list)), args[2], args[3])
	return is, fmt.Sprintf("the number of processes of %s that have called %s is %d", args[0], args[1], len(list)), err
}

// lookApart tells whether the walker, which is held, has attached the segment
// at another address than the builder has.
func lookApart(s *session, p *process, w *watcher, args []string) (bool, string, error) {
	if w.heldPID == 0 {
		return false, "no walker has attached the segment", nil
	}
	builders := attaches(w.creator)
	if len(builders) == 0 {
		builders = w.where[w.creator]
	}
	own := attaches(w.heldPID)
	if len(own) == 0 {
		own = w.where[w.heldPID]
	}
	inherited := w.before[w.heldPID]
	for address := range own {
		if inherited[address] {
			continue // by fork
		}
		random, _ := os.ReadFile("/proc/sys/kernel/randomize_va_space")
		if builders[address] && string(random) != "0\n" { // or all programs have the same ones
			return false, fmt.Sprintf("builder and walker have the segment at the same address, %#x", address), nil
		}
		return true, "builder and walker have the segment at different addresses", nil
	}
	return false, "the walker has not attached the segment: its shmat has failed", nil
}

// lookAddresses tells whether a word of the segment is an address: of 64 bits,
// of anything that a process of the program has in its memory; or cut to 32
// bits, of the segment.
func lookAddresses(s *session, p *process, w *watcher, args []string) (bool, string, error) {
	text, state, err := s.contents("any")
	if state != "" || err != nil {
		return false, state, err
	}
	type area struct{ from, to uint64 }
	var areas, segments []area
	for _, pid := range w.seen {
		lines, _ := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
		for line := range strings.Lines(string(lines)) {
			var a area
			fields := strings.Fields(line)
			if n, _ := fmt.Sscanf(fields[0], "%x-%x", &a.from, &a.to); n != 2 {
				continue
			}
			areas = append(areas, a)
			if len(fields) > 5 && strings.HasPrefix(fields[5], "/SYSV") {
				segments = append(segments, a)
			}
		}
	}
	in := func(n uint64, mask uint64) func(area) bool {
		return func(a area) bool { return n-a.from&mask < a.to-a.from && n >= a.from&mask }
	}
	for at := 0; at+8 <= len(text); at += 8 {
		word := binary.LittleEndian.Uint64(text[at:])
		if word >= 1<<16 && slices.ContainsFunc(areas, in(word, ^uint64(0))) {
			return true, fmt.Sprintf("the word at offset %d, %#x, is an address of the process", at, word), nil
		}
	}
	for at := 0; at+4 <= len(text); at += 4 {
		word := uint64(binary.LittleEndian.Uint32(text[at:]))
		if word >= 1<<12 && word != 0xffffffff && slices.ContainsFunc(segments, in(word, 0xffffffff)) {
			return true, fmt.Sprintf("the word at offset %d, %#x, is an address in the segment, cut to 32 bits", at, word), nil
		}
	}
	return false, "no word of the segment is an address", nil
}

// lookPatient tells whether the builder waits for its walker, which is held:
// in the kernel, or at least for a second.
func lookPatient(s *session, p *process, w *watcher, args []string) (bool, string, error) {
	switch {
	case w.heldPID == 0:
		return false, "there is no walker", nil
	case !runs(w.creator):
		return false, "the builder has ended, and its walker has not", nil
	case time.Since(w.since) > time.Second:
		return true, "the builder still runs", nil
	}
	for _, call := range waiting(w.creator) {
		switch calls[int(call[0])] {
		case "wait", "read", "poll":
			return true, "the builder waits", nil
		}
	}
	return false, "the builder does not wait", nil
}

// runs tells whether a process has not ended.
func runs(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, after, _ := strings.Cut(string(text), ") ")
	return err == nil && after != "" && after[0] != 'Z' && after[0] != 'X'
}

// lookOver tells whether all processes of a program have ended.
func lookOver(s *session, p *process, w *watcher, args []string) (bool, string, error) {
	for _, pid := range w.seen {
		if runs(pid) {
			who := "a process of " + args[0]
			switch pid {
			case w.creator:
				who = "the builder"
			case w.heldPID:
				who = "the walker"
			}
			return false, who + " still runs", nil
		}
	}
	return true, "all processes of " + args[0] + " have ended", nil
}

const nodesFrom, nodesTo = 16, 4080 // the offsets that a node can have

// links follows a list, and gives its links and values: one link more.
func (s *session) links(key string) (links []int64, values []int32, state string, err error) {
	text, state, err := s.contents(key)
	if state != "" || err != nil {
		return nil, nil, state, err
	}
	if len(text) < nodesFrom {
		return nil, nil, fmt.Sprintf("the segment has only %d bytes", len(text)), nil
	}
	count := int32(binary.LittleEndian.Uint32(text))
	offset := int64(binary.LittleEndian.Uint64(text[8:]))
	links = append(links, offset)
	for range min(count, 255) {
		if offset < nodesFrom || offset > nodesTo || offset%8 != 0 || offset+16 > int64(len(text)) {
			break
		}
		values = append(values, int32(binary.LittleEndian.Uint32(text[offset+8:])))
		offset = int64(binary.LittleEndian.Uint64(text[offset:]))
		links = append(links, offset)
	}
	return links, values, "", nil
}

// lookList tells whether a segment has a good list of these values.
func lookList(s *session, args []string) (bool, string, error) {
	links, values, state, err := s.links(args[0])
	if state != "" || err != nil {
		return false, state, err
	}
	part, state, err := s.at(args[0], "0", 4)
	if state != "" || err != nil {
		return false, state, err
	}
	count := int(int32(binary.LittleEndian.Uint32(part)))
	want := strings.Split(args[1], ",")
	what := "first_offset"
	if len(links) > 1 {
		what = fmt.Sprintf("next_offset of node %d", len(links)-1)
	}
	last := links[len(links)-1]
	switch {
	case count != len(want):
		return false, fmt.Sprintf("count is %d", count), nil
	case len(links) <= count && last == -1:
		return false, fmt.Sprintf("%s is -1, and count is %d", what, count), nil
	case len(links) <= count:
		return false, fmt.Sprintf("%s is %d: not 16 to 4080, or not a multiple of 8", what, last), nil
	case last != -1:
		return false, fmt.Sprintf("next_offset of the last node is %d, not -1", last), nil
	}
	for i, value := range values {
		if strconv.Itoa(int(value)) != want[i] {
			return false, fmt.Sprintf("the value of node %d is %d, not %s", i+1, value, want[i]), nil
		}
	}
	return true, "the list is good", nil
}

// lookLink compares a link: 0 is first_offset, the others are those of nodes.
func lookLink(s *session, args []string) (bool, string, error) {
	links, _, state, err := s.links(args[0])
	if state != "" || err != nil {
		return false, state, err
	}
	i, err := strconv.Atoi(args[1])
	if err != nil || i >= len(links) {
		return false, fmt.Sprintf("the list has no link %s", args[1]), err
	}
	is, err := compare(links[i], args[2], args[3])
	return is, fmt.Sprintf("link %d of the list is %d", i, links[i]), err
}

// lookValues tells whether a program has printed lines with these values, and
// no others: "7,11", or "1000..1254". The lines of the assignment, character
// for character, are for the command output.
func lookValues(s *session, args []string) (bool, string, error) {
	p := s.named(args[0])
	if p == nil {
		return false, args[0] + " was not started", nil
	}
	var got []string
	for _, m := range valueLine.FindAllStringSubmatch(p.stdout(), -1) {
		got = append(got, m[1])
	}
	want := args[1]
	if from, to, is := strings.Cut(args[1], ".."); is {
		first, e1 := strconv.Atoi(from)
		last, e2 := strconv.Atoi(to)
		if err := errors.Join(e1, e2); err != nil {
			return false, "", err
		}
		want = ""
		for n := first; n <= last; n++ {
			want += "," + strconv.Itoa(n)
		}
		want = want[1:]
	}
	values := strings.Join(got, ",")
	if values == "" {
		return false, args[0] + " has printed no values", nil
	}
	return values == want, fmt.Sprintf("%s has printed the values %s", args[0], shortened(values)), nil
}

var valueLine = regexp.MustCompile(`(?m)^ *value *= *(\S+)$`)

func shortened(text string) string {
	if len(text) > 60 {
		return text[:40] + "…"
	}
	return text
}

// lookBlank tells whether all bytes of a segment are 0.
func lookBlank(s *session, args []string) (bool, string, error) {
	text, state, err := s.contents(args[0])
	if state != "" || err != nil {
		return false, state, err
	}
	is := len(bytes.Trim(text, "\x00")) == 0
	return is, fmt.Sprintf("the segment is %sblank", notUnless(is)), nil
}

// lookFixed tells whether a process has given shmat an address.
func lookFixed(s *session, p *process, w *watcher, args []string) (bool, string, error) {
	return w.fixed, fmt.Sprintf("%s has %sgiven shmat an address", args[0], notUnless(w.fixed)), nil
}

// lookUnchanged tells whether a segment is as it was when the script said
// "remember".
func lookUnchanged(s *session, args []string) (bool, string, error) {
	text, state, err := s.contents(args[0])
	if state != "" || err != nil {
		return false, state, err
	}
	before := s.lab.files["segment "+args[0]]
	for i, c := range text {
		if i >= len(before) || before[i] != c {
			return false, fmt.Sprintf("byte %d of the segment was changed", i), nil
		}
	}
	return true, "the segment is as it was", nil
}

func (s *session) remember(ts *testscript.TestScript, args []string) {
	text, state, err := s.contents(args[0])
	ts.Check(err)
	if state != "" {
		ts.Fatalf("%s", state)
	}
	if s.lab.files == nil {
		s.lab.files = map[string][]byte{}
	}
	s.lab.files["segment "+args[0]] = bytes.Clone(text)
}

// goOn lets go what is held.
func (s *session) goOn(ts *testscript.TestScript, args []string) {
	p := s.named(args[0])
	if p == nil || p.watcher == nil {
		ts.Fatalf("start %s with -watched", args[0])
	}
	p.watcher.goOn()
}

// killOne sends a signal to one process of a program.
func (s *session) killOne(ts *testscript.TestScript, args []string) {
	w, sig := s.process(ts, args[0]).watcher, unix.SignalNum("SIG"+args[2])
	if w == nil || sig == 0 {
		ts.Fatalf("start %s with -watched; a signal is INT, TERM and so on", args[0])
	}
	w.lock.Lock()
	defer w.lock.Unlock()
	pid := w.creator
	if args[1] == "walker" {
		pid = w.heldPID
	}
	if pid == 0 {
		s.fail(ts, "%s has no %s", args[0], args[1])
	}
	if err := unix.Kill(pid, sig); err != nil && err != unix.ESRCH {
		ts.Check(err)
	}
}

// segmentID sets $ID to the id of a segment.
func (s *session) segmentID(ts *testscript.TestScript, args []string) {
	g, state, err := findSegment(args[0])
	ts.Check(err)
	if state != "" {
		s.fail(ts, "%s", state)
	}
	ts.Setenv("ID", strconv.Itoa(g.id))
}

// spendID makes and removes a segment. So the next one's id is not 0, which is
// the first of a new world, and which some programs take for an error.
func (s *session) spendID(ts *testscript.TestScript, _ []string) {
	id, err := unix.SysvShmGet(unix.IPC_PRIVATE, 1, 0o600)
	ts.Check(err)
	_, err = unix.SysvShmCtl(id, unix.IPC_RMID, nil)
	ts.Check(err)
}

// stepList is the step "list [-keep] COUNT [OFFSET:VALUE]...": the peer stores
// nodes at these offsets, each with a link to the next one, and -1 in the last.
// All other bytes become 0, if they are not to be kept.
func stepList(p *player, args []string) error {
	if args[0] == "-keep" {
		args = args[1:]
	} else {
		clear(p.mem)
	}
	var offsets []int
	var values []int64
	count, err := strconv.ParseInt(args[0], 0, 32)
	if err != nil {
		return err
	}
	for _, arg := range args[1:] {
		if arg == "" {
			continue
		}
		offset, value, _ := strings.Cut(arg, ":")
		o, e1 := strconv.Atoi(offset)
		v, e2 := strconv.ParseInt(value, 0, 32)
		if err := errors.Join(e1, e2); err != nil {
			return err
		}
		offsets, values = append(offsets, o), append(values, v)
	}
	return p.storeList(int32(count), offsets, values)
}

// stepSeries is the step "series COUNT N FIRST [DISTANCE]": N nodes one after
// the other, with the values FIRST, FIRST+1 and so on. With DISTANCE 8 each
// link lies where the node before it has its value.
func stepSeries(p *player, args []string) error {
	var count, n, first int
	distance := 16
	if _, err := fmt.Sscan(strings.Join(args[:3], " "), &count, &n, &first); err != nil {
		return err
	}
	if args[3] != "" {
		distance, _ = strconv.Atoi(args[3])
	}
	clear(p.mem)
	var offsets []int
	var values []int64
	for i := range n {
		offsets, values = append(offsets, nodesFrom+distance*i), append(values, int64(first+i))
	}
	return p.storeList(int32(count), offsets, values)
}

func (p *player) storeList(count int32, offsets []int, values []int64) error {
	link := func(i int) uint64 {
		if i >= len(offsets) {
			return 1<<64 - 1
		}
		return uint64(offsets[i])
	}
	for i, offset := range offsets {
		if offset < 0 || offset+16 > len(p.mem) {
			return fmt.Errorf("the segment has %d bytes", len(p.mem))
		}
		binary.LittleEndian.PutUint64(p.mem[offset:], link(i+1))
		binary.LittleEndian.PutUint32(p.mem[offset+8:], uint32(values[i]))
	}
	binary.LittleEndian.PutUint32(p.mem, uint32(count))
	binary.LittleEndian.PutUint64(p.mem[8:], link(0))
	return nil
}
