//go:build linux

package shm_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A looker evaluates a condition. It tells whether the condition holds, and says
// in words what was seen.
type looker = func(s *session, args []string) (is bool, state string, err error)

// conditions are those of the labs' scripts, by their usage. Some labs add more.
var conditions = map[string]looker{
	"segment KEY":                     ofSegment(lookSegment),
	"segments OP N":                   lookSegments,
	"size KEY OP N":                   lookProperty("size", "%d", func(g segmentState) int64 { return int64(g.desc.Segsz) }),
	"mode KEY OP OCTAL":               lookProperty("mode", "%o", func(g segmentState) int64 { return int64(g.desc.Perm.Mode & 0o777) }),
	"attached KEY OP N":               lookProperty("number of attaches", "%d", func(g segmentState) int64 { return int64(g.desc.Nattch) }),
	"creator KEY NAME":                ofSegment(lookCreator),
	"user KEY NAME":                   ofSegment(lookUser),
	"maps NAME KEY":                   lookMaps,
	"otherkey KEY":                    lookOtherKey,
	"int32 KEY OFFSET OP N":           lookNumber(4),
	"int64 KEY OFFSET OP N":           lookNumber(8),
	"letters KEY OFFSET COUNT LETTER": lookLetters,
	"text KEY OFFSET TEXT":            lookText,
	"semaphores KEY":                  lookSemaphores,
	"number KEY OP N":                 lookSemaphoreCount,
	"value KEY NUMBER OP N":           lookSemaphore("value", getVal),
	"waiters KEY NUMBER OP N":         lookSemaphore("number of waiters", getNCnt),
	"last KEY NUMBER NAME":            lookLast,
	"stdout NAME PATTERN":             lookOutput(0),
	"stderr NAME PATTERN":             lookOutput(1),
	"printed NAME OP N":               ofProgram(lookPrinted),
	"status NAME STATUS[|STATUS]":     ofProgram(lookStatus),
	"call NAME CALL[|CALL]":           ofProgram(lookCall),
	"processes NAME OP N":             lookProcesses,
	"answers NAME":                    ofProgram(lookAnswers),
	"crashed":                         lookCrashed,
	"broken":                          lookBroken,
	"signalled NAME":                  ofProgram(lookSignalled),
	"locks NAME":                      lookLocks,
	"object NAME":                     lookObject,
	"file PATTERN":                    lookFile,
	"held NAME [POINT]":               asks(lookHeld),
}

// ofProgram makes a looker of one that looks at a program.
func ofProgram(look func(s *session, p *process, args []string) (bool, string, error)) looker {
	return func(s *session, args []string) (bool, string, error) {
		if p := s.named(args[0]); p != nil {
			return look(s, p, args)
		}
		return false, args[0] + " was not started", nil
	}
}

// look evaluates a condition.
func (s *session) look(words []string) (is bool, state string, err error) {
	if len(words) == 0 {
		return false, "", fmt.Errorf("a condition is missing")
	}
	for usage, look := range conditions {
		args := strings.Fields(usage)
		if args[0] != words[0] {
			continue
		}
		want := len(args)
		if last := args[want-1]; len(words) > want && (last == "TEXT" || last == "PATTERN") {
			words = append(slices.Clone(words[:want-1]), strings.Join(words[want-1:], " "))
		} else if len(words) == want-1 && last[0] == '[' {
			words = append(slices.Clone(words), "")
		}
		if len(words) != want {
			return false, "", fmt.Errorf("usage: %s", usage)
		}
		return look(s, words[1:])
	}
	return false, "", fmt.Errorf("no such condition: %s", words[0])
}

// sum is a number, or a sum of products: 300x1024+1 or 1024-5.
func sum(text string) (n int64, err error) {
	for term := range strings.SplitSeq(strings.ReplaceAll(text, "-", "+-"), "+") {
		if term == "" && text[0] == '-' { // before a first "-"
			continue
		}
		product := int64(1)
		factors := strings.Split(term, "x")
		if strings.HasPrefix(strings.TrimPrefix(term, "-"), "0") { // 0x1234, 0600
			factors = []string{term}
		}
		for _, factor := range factors {
			k, e := strconv.ParseInt(factor, 0, 64)
			product, err = product*k, errors.Join(err, e)
		}
		n += product
	}
	return n, err
}

// compare compares with one of = != < > <= >=.
func compare(got int64, op, number string) (bool, error) {
	want, err := sum(number)
	if err != nil {
		return false, err
	}
	switch op {
	case "=":
		return got == want, nil
	case "!=":
		return got != want, nil
	case "<":
		return got < want, nil
	case ">":
		return got > want, nil
	case "<=":
		return got <= want, nil
	case ">=":
		return got >= want, nil
	}
	return false, fmt.Errorf("an operator is one of = != < > <= >=, not %s", op)
}

// A segmentState is what the kernel knows of a segment.
type segmentState struct {
	id   int
	key  uint32
	desc unix.SysvShmDesc
}

// An object is of System V, in one of the kernel's tables, or has a name in
// /dev/shm.
type object struct {
	table, id int
	name      string
}

// foreign are the objects that were there before the script began. Without
// namespaces these belong to others, and do not count. One script is run at a
// time then.
var foreign map[object]bool

func objectsNow() (now map[object]bool) {
	now = map[object]bool{}
	files, _ := filepath.Glob("/dev/shm/*")
	for _, file := range files {
		now[object{name: file}] = true
	}
	for i, t := range tables {
		for id := range t.entries() {
			now[object{table: i, id: id}] = true
		}
	}
	return now
}

// segmentsNow are all segments of the world. Without worlds other programs make
// segments, too, such as the tests of a lesson: these are left out.
func segmentsNow() (all []segmentState) {
	var ours []int // all processes that this one has started
	if !haveWorlds {
		ours = tree(os.Getpid())
	}
	for id, e := range tables[0].entries() {
		ds := *(*unix.SysvShmDesc)(unsafe.Pointer(e))
		creator := int(ds.Cpid)
		if foreign[object{table: 0, id: id}] || !haveWorlds && runs(creator) && !slices.Contains(ours, creator) {
			continue
		}
		all = append(all, segmentState{id, e.key(), ds})
	}
	return all
}

// removed tells whether a segment is marked for removal; its key is 0 then.
func (g segmentState) removed() bool { return g.desc.Perm.Mode&0o1000 != 0 } // SHM_DEST

func (g segmentState) String() string {
	switch {
	case g.removed():
		return fmt.Sprintf("one that is removed and still attached, %d bytes", g.desc.Segsz)
	case g.key == 0:
		return fmt.Sprintf("one without a key (private), %d bytes", g.desc.Segsz)
	}
	return fmt.Sprintf("one with key %#x, %d bytes", g.key, g.desc.Segsz)
}

// findSegment finds a segment by its key. If there is none, it says what there is
// instead. "any" stands for the only segment.
func findSegment(text string) (g segmentState, state string, err error) {
	all := segmentsNow()
	if text == "any" {
		if len(all) > 0 {
			return all[0], "", nil
		}
		return g, "there is no segment", nil
	}
	key, err := strconv.ParseUint(text, 0, 32)
	if err != nil {
		return g, "", err
	}
	var others []string
	for _, g := range all {
		if g.key == uint32(key) && !g.removed() {
			return g, "", nil
		}
		others = append(others, g.String())
	}
	state = "there is no segment with key " + text
	if len(others) > 0 {
		state += ", but " + strings.Join(others, " and ")
	}
	return g, state, nil
}

func lookSegment(s *session, g segmentState, args []string) (bool, string, error) {
	return true, fmt.Sprintf("there is a segment with key %s, %d bytes", args[0], g.desc.Segsz), nil
}

func lookSegments(s *session, args []string) (bool, string, error) {
	all := segmentsNow()
	is, err := compare(int64(len(all)), args[0], args[1])
	var words []string
	for _, g := range all {
		words = append(words, g.String())
	}
	return is, strings.TrimSuffix(fmt.Sprintf("the number of segments is %d: %s", len(all),
		strings.Join(words, " and ")), ": "), err
}

// ofSegment makes a looker of one that looks at a segment.
func ofSegment(look func(s *session, g segmentState, args []string) (bool, string, error)) looker {
	return func(s *session, args []string) (bool, string, error) {
		g, state, err := findSegment(args[0])
		if state != "" || err != nil {
			return false, state, err
		}
		return look(s, g, args)
	}
}

// lookProperty compares a number of a segment.
func lookProperty(what, format string, value func(segmentState) int64) looker {
	return ofSegment(func(_ *session, g segmentState, args []string) (bool, string, error) {
		n, number := value(g), args[2]
		if format == "%o" {
			number = "0" + number
		}
		is, err := compare(n, args[1], number)
		return is, fmt.Sprintf("the %s of segment %s is "+format, what, args[0], n), err
	})
}

// belongs tells whether a process belongs to a program, or did.
func (s *session) belongs(pid int, name string) bool {
	p := s.named(name)
	return p != nil && (pid == p.cmd.Process.Pid || slices.Contains(tree(p.cmd.Process.Pid), pid))
}

func lookCreator(s *session, g segmentState, args []string) (bool, string, error) {
	is := s.belongs(int(g.desc.Cpid), args[1])
	return is, fmt.Sprintf("the segment %s was made by process %d, which is %sof %s", args[0],
		g.desc.Cpid, notUnless(is), args[1]), nil
}

func lookUser(s *session, g segmentState, args []string) (bool, string, error) {
	is := s.belongs(int(g.desc.Lpid), args[1])
	return is, fmt.Sprintf("the last to attach or detach segment %s was process %d, which is %sof %s",
		args[0], g.desc.Lpid, notUnless(is), args[1]), nil
}

func notUnless(is bool) string {
	if is {
		return ""
	}
	return "not "
}

// lookMaps tells whether a program has a segment in its memory.
func lookMaps(s *session, args []string) (bool, string, error) {
	g, state, err := findSegment(args[1])
	if state != "" || err != nil {
		return false, state, err
	}
	if p := s.named(args[0]); p != nil {
		for _, pid := range tree(p.cmd.Process.Pid) {
			if _, ok := mapping(pid, g.id); ok {
				return true, fmt.Sprintf("%s has attached segment %s", args[0], args[1]), nil
			}
		}
	}
	return false, fmt.Sprintf("%s has not attached segment %s", args[0], args[1]), nil
}

// lookOtherKey tells whether a program of the student has made a segment with
// another key, and none with this one.
func lookOtherKey(s *session, args []string) (bool, string, error) {
	key, err := strconv.ParseUint(args[0], 0, 32)
	other := uint32(0)
	for _, g := range segmentsNow() {
		for name, p := range s.programs() {
			switch {
			case !p.judged || g.key == 0 || !s.belongs(int(g.desc.Cpid), name):
			case g.key == uint32(key):
				return false, "there is a segment with key " + args[0], err
			default:
				other = g.key
			}
		}
	}
	if other == 0 {
		return false, "there is no segment with another key", err
	}
	return true, fmt.Sprintf("there is a segment with key %#x", other), err
}

// An area is a part of the memory of a process. See proc_pid_maps(5).
type area struct {
	from, to uint64
	segment  int // the id of the segment that is mapped there, or -1
}

func areas(pid int) (all []area) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	for line := range strings.Lines(string(text)) {
		a := area{segment: -1}
		fields := strings.Fields(line)
		if n, _ := fmt.Sscanf(fields[0], "%x-%x", &a.from, &a.to); n != 2 {
			continue
		}
		if len(fields) > 5 && strings.HasPrefix(fields[5], "/SYSV") {
			a.segment, _ = strconv.Atoi(fields[4])
		}
		all = append(all, a)
	}
	return all
}

// segmentsOf are the areas in which a process has attached System V segments.
func segmentsOf(pid int) []area {
	return slices.DeleteFunc(areas(pid), func(a area) bool { return a.segment < 0 })
}

// mapping is the address at which a process has attached a segment, by its id.
func mapping(pid, id int) (address uint64, ok bool) {
	for _, a := range segmentsOf(pid) {
		if a.segment == id {
			return a.from, true
		}
	}
	return 0, false
}

// memoryOf reads the memory of a process.
func memoryOf(pid int, address uint64, into []byte) (n int) {
	if f, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid)); err == nil {
		n, _ = f.ReadAt(into, int64(address))
		f.Close()
	}
	return n
}

// contents is what a segment holds now. It reads the memory of a process that
// has attached the segment: an attach of its own would change the segment's state.
func (s *session) contents(key string) (text []byte, state string, err error) {
	g, state, err := findSegment(key)
	if state != "" || err != nil {
		return nil, state, err
	}
	text = make([]byte, g.desc.Segsz)
	for _, p := range s.lab.box.running {
		if p.within(0) {
			continue
		}
		for _, pid := range tree(p.cmd.Process.Pid) {
			if address, ok := mapping(pid, g.id); ok && memoryOf(pid, address, text) == len(text) {
				return text, "", nil
			}
		}
	}
	if g.desc.Nattch > 0 { // attached by a process that has just ended, or just come
		now, state, err := findSegment(key)
		if state != "" || err != nil || now.id != g.id {
			return nil, "the segment " + key + " has gone", err
		}
	}
	mem, err := unix.SysvShmAttach(g.id, 0, unix.SHM_RDONLY)
	if err != nil {
		return nil, fmt.Sprintf("the segment %s cannot be attached: %v", key, err), nil
	}
	defer unix.SysvShmDetach(mem)
	return slices.Clone(mem), "", nil
}

// at is a part of a segment.
func (s *session) at(key, offset string, size int) (part []byte, state string, err error) {
	text, state, err := s.contents(key)
	if state != "" || err != nil {
		return nil, state, err
	}
	n, err := strconv.Atoi(offset)
	if err != nil {
		return nil, "", err
	}
	if n+size > len(text) {
		return nil, fmt.Sprintf("the segment %s ends at byte %d", key, len(text)), nil
	}
	return text[n : n+size], "", nil
}

func lookNumber(size int) looker {
	return func(s *session, args []string) (bool, string, error) {
		part, state, err := s.at(args[0], args[1], size)
		if state != "" || err != nil {
			return false, state, err
		}
		var n int64
		if size == 4 {
			n = int64(int32(binary.LittleEndian.Uint32(part)))
		} else {
			n = int64(binary.LittleEndian.Uint64(part))
		}
		is, err := compare(n, args[2], args[3])
		return is, fmt.Sprintf("the int%d at offset %s is %d", 8*size, args[1], n), err
	}
}

func lookLetters(s *session, args []string) (bool, string, error) {
	count, err := strconv.Atoi(args[2])
	if err != nil {
		return false, "", err
	}
	part, state, err := s.at(args[0], args[1], count)
	if state != "" || err != nil {
		return false, state, err
	}
	from, _ := strconv.Atoi(args[1])
	for i, c := range part {
		if c != args[3][0] {
			return false, fmt.Sprintf("byte %d of the segment is %q, not %q", from+i, c, args[3][0]), nil
		}
	}
	return true, fmt.Sprintf("bytes %d to %d of the segment are %q", from, from+count-1, args[3][0]), nil
}

func lookText(s *session, args []string) (bool, string, error) {
	part, state, err := s.at(args[0], args[1], len(args[2]))
	if state != "" || err != nil {
		return false, state, err
	}
	return string(part) == args[2], fmt.Sprintf("at offset %s of the segment is %s",
		args[1], short(string(part))), nil
}

// Commands of semctl(2) in <linux/sem.h>.
const (
	getPID  = 11
	getVal  = 12
	getNCnt = 14
)

// semctl is semctl(2) for one semaphore of a set.
func semctl(id, number int, command uintptr) int {
	result, _, errno := unix.Syscall6(unix.SYS_SEMCTL, uintptr(id), uintptr(number), command, 0, 0, 0)
	if errno != 0 {
		return -1
	}
	return int(result)
}

func findSemaphores(key string) (id int, state string, err error) {
	k, err := strconv.ParseUint(key, 0, 32)
	if err != nil {
		return -1, "", err
	}
	if id = semget(int(k), 0, 0); id < 0 {
		state = "there is no semaphore set with key " + key
		for other, e := range tables[1].entries() {
			if !foreign[object{table: 1, id: other}] {
				state += fmt.Sprintf(", but one with key %#x", e.key())
			}
		}
	}
	return id, state, nil
}

func lookSemaphores(s *session, args []string) (bool, string, error) {
	_, state, err := findSemaphores(args[0])
	if state != "" || err != nil {
		return false, state, err
	}
	return true, "there is a semaphore set with key " + args[0], nil
}

func lookSemaphoreCount(s *session, args []string) (bool, string, error) {
	id, state, err := findSemaphores(args[0])
	if state != "" || err != nil {
		return false, state, err
	}
	n := int64(0)
	for semctl(id, int(n), getVal) >= 0 {
		n++
	}
	is, err := compare(n, args[1], args[2])
	return is, fmt.Sprintf("the set %s has %d semaphores", args[0], n), err
}

// lookSemaphore looks at a semaphore with semctl GETVAL or GETNCNT.
func lookSemaphore(what string, command uintptr) looker {
	return func(s *session, args []string) (bool, string, error) {
		id, state, err := findSemaphores(args[0])
		if state != "" || err != nil {
			return false, state, err
		}
		number, err := strconv.Atoi(args[1])
		if err != nil {
			return false, "", err
		}
		n := semctl(id, number, command)
		is, err := compare(int64(n), args[2], args[3])
		return is, fmt.Sprintf("the %s of semaphore %d is %d", what, number, n), err
	}
}

func lookLast(s *session, args []string) (bool, string, error) {
	id, state, err := findSemaphores(args[0])
	if state != "" || err != nil {
		return false, state, err
	}
	number, err := strconv.Atoi(args[1])
	pid := semctl(id, number, getPID)
	is := s.belongs(pid, args[2])
	return is, fmt.Sprintf("the last to use semaphore %d was process %d, which is %sof %s",
		number, pid, notUnless(is), args[2]), err
}

func lookOutput(which int) looker {
	return func(s *session, args []string) (bool, string, error) {
		re, err := regexp.Compile("(?m)" + args[1])
		p := s.named(args[0])
		if p == nil || err != nil {
			return false, args[0] + " was not started", err
		}
		text := p.captured[which].String()
		where := [...]string{"standard output", "standard error"}[which]
		if text == "" {
			return re.MatchString(text), fmt.Sprintf("%s has printed nothing on %s", args[0], where), nil
		}
		if at := re.FindStringIndex(text); at != nil {
			from := strings.LastIndex(text[:at[0]], "\n") + 1
			line, _, _ := strings.Cut(text[from:], "\n")
			return true, fmt.Sprintf("%s has printed %s on %s", args[0], short(line), where), nil
		}
		lines := strings.Split(strings.TrimSpace(text), "\n")
		last := short(lines[len(lines)-1])
		if len(lines) == 1 {
			return false, fmt.Sprintf("%s has printed only %s on %s, and not %s", args[0], last, where,
				patternInWords(args[1])), nil
		}
		return false, fmt.Sprintf("%s has printed %d lines on %s, none of them with %s, and last %s", args[0],
			len(lines), where, patternInWords(args[1]), last), nil
	}
}

// patternInWords is a regular expression as a student should read it, without its
// special characters at both ends.
func patternInWords(pattern string) string {
	pattern = strings.TrimSuffix(strings.TrimPrefix(pattern, "^"), "$")
	return short(strings.TrimSuffix(pattern, "+"))
}

// lookPrinted counts the bytes on standard output.
func lookPrinted(s *session, p *process, args []string) (bool, string, error) {
	c := p.captured[0]
	c.lock.Lock()
	defer c.lock.Unlock()
	is, err := compare(c.size, args[1], args[2])
	return is, fmt.Sprintf("%s has printed %d bytes", args[0], c.size), err
}

func lookStatus(s *session, p *process, args []string) (bool, string, error) {
	p.settle()
	got := p.status()
	is := got != "running" && isStatus(got, args[1]) ||
		slices.Contains(strings.Split(args[1], "|"), got)
	return is, args[0] + " " + ending(got), nil
}

// calls are the names of the system calls in which programs wait.
var calls = map[int]string{
	unix.SYS_SEMOP: "semop", unix.SYS_SEMTIMEDOP: "semop", unix.SYS_FUTEX: "futex",
	unix.SYS_READ: "read", unix.SYS_WRITE: "write", unix.SYS_WRITEV: "write", unix.SYS_WAIT4: "wait", unix.SYS_WAITID: "wait",
	unix.SYS_NANOSLEEP: "sleep", unix.SYS_CLOCK_NANOSLEEP: "sleep", unix.SYS_PSELECT6: "poll",
	unix.SYS_PPOLL: "poll", unix.SYS_EPOLL_PWAIT: "poll",
}

func init() {
	if runtime.GOARCH == "amd64" { // older calls, and restart_syscall
		maps.Copy(calls, map[int]string{7: "poll", 23: "poll", 232: "poll", 34: "sleep", 219: "sleep"})
	}
}

// waiting are the system calls, with their arguments, in which the threads of
// a process sleep. See proc_pid_syscall(5).
func waiting(pid int) (all [][]uint64) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", pid))
	for _, file := range files {
		text, _ := os.ReadFile(file)
		fields := strings.Fields(string(text))
		if len(fields) < 7 {
			continue // "running"
		}
		nr, err := strconv.Atoi(fields[0])
		if err != nil {
			continue
		}
		call := []uint64{uint64(nr)}
		for _, field := range fields[1:7] {
			n, _ := strconv.ParseUint(strings.TrimPrefix(field, "0x"), 16, 64)
			call = append(call, n)
		}
		all = append(all, call)
	}
	return all
}

// waitsIn names the calls in which a program and its children wait.
func waitsIn(pid int) (names []string) {
	for _, pid := range tree(pid) {
		for _, call := range waiting(pid) {
			if name := calls[int(call[0])]; name != "" && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

func lookCall(s *session, p *process, args []string) (bool, string, error) {
	if p.within(0) {
		return false, args[0] + " " + ending(p.status()), nil
	}
	in := waitsIn(p.cmd.Process.Pid)
	is := slices.ContainsFunc(strings.Split(args[1], "|"), func(want string) bool {
		return slices.Contains(in, want)
	})
	if len(in) == 0 {
		return is, args[0] + " does not wait in the kernel", nil
	}
	return is, args[0] + " waits in " + strings.Join(in, " and "), nil
}

// lookProcesses counts a program's processes.
func lookProcesses(s *session, args []string) (bool, string, error) {
	p := s.named(args[0])
	if p == nil || p.within(0) {
		return false, args[0] + " has ended", nil
	}
	n := len(tree(p.cmd.Process.Pid))
	is, err := compare(int64(n), args[1], args[2])
	return is, fmt.Sprintf("%s consists of %d processes", args[0], n), err
}

// lookCrashed tells whether a program, other than a peer, was ended by SIGSEGV or
// SIGBUS.
func lookCrashed(s *session, _ []string) (bool, string, error) {
	for _, programs := range []map[string]*process{s.running, s.lab.finished} {
		for name, p := range programs {
			if !isPeer(name) && isStatus(p.status(), "SEGV|BUS") {
				return true, name + " " + ending(p.status()), nil
			}
		}
	}
	return false, "no program has crashed", nil
}

// mistake is what a language says of a program that cannot run.
var mistake = regexp.MustCompile(`\b(Syntax|Indentation|Tab|Name|UnboundLocal|Type|Attribute|Import|ModuleNotFound)Error\b|` +
	`error while loading shared libraries|command not found|: \d+: .*: not found`)

// lookBroken tells whether a program of the student has ended by a mistake of its
// language, or could not be started. A shell ends with 126 or 127 then.
func lookBroken(s *session, _ []string) (bool, string, error) {
	for name, p := range s.programs() {
		if p.judged && (isStatus(p.status(), "126|127") || mistake.MatchString(p.stderr())) {
			return true, name + " cannot run", nil
		}
	}
	return false, "all programs can run", nil
}

func lookSignalled(s *session, p *process, args []string) (bool, string, error) {
	return p.signalled, fmt.Sprintf("%s was %ssent a signal", args[0], notUnless(p.signalled)), nil
}

// lookObject looks for a POSIX object.
func lookObject(s *session, args []string) (bool, string, error) {
	files, _ := filepath.Glob("/dev/shm/" + args[0])
	files = slices.DeleteFunc(files, func(file string) bool { return foreign[object{name: file}] })
	if len(files) == 0 {
		return false, "there is no POSIX object " + args[0], nil
	}
	return true, "there is a POSIX object " + filepath.Base(files[0]), nil
}

// lookFile looks for a file that a program has made in the sandbox, such as
// "work/*" for the working directory, and "*" for /tmp.
func lookFile(s *session, args []string) (bool, string, error) {
	files, _ := filepath.Glob(filepath.Join(s.lab.box.dir, args[0]))
	for _, file := range files {
		name, _ := filepath.Rel(s.lab.box.dir, file)
		if slices.Contains([]string{"work", "submission", "ours"}, name) {
			continue
		}
		info, err := os.Lstat(file)
		if err != nil {
			continue
		}
		kind := "a file"
		switch {
		case info.Mode()&os.ModeNamedPipe != 0:
			kind = "a FIFO"
		case info.Mode()&os.ModeSocket != 0:
			kind = "a socket"
		}
		return true, fmt.Sprintf("there is %s /tmp/%s", kind, name), nil
	}
	return false, "no file was made", nil
}
