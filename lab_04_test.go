//go:build linux

package shm_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// What only lab 04 needs: conditions about which process has the lock, and which
// one is in a line of the table.

func init() {
	maps.Copy(conditions, map[string]looker{
		"holds NAME KEY":        lookHolds,
		"itself NAME KEY":       lookItself,
		"abandoned KEY":         lookAbandoned,
		"line KEY INDEX NAME":   lookLine,
		"shifted KEY":           lookShifted,
		"count-first KEY":       lookCountFirst,
		"misnamed":              lookMisnamed,
		"twice":                 lookTwice,
		"intruded PEER KEY":     lookIntruded,
		"slept-outside KEY":     lookSleptOutside,
		"unflushed":             lookUnflushed,
		"gone KEY SEMKEY":       lookGone,
		"prints-old KEY":        lookPrintsOld,
		"polls KEY":             lookPolls,
		"refused [PATTERN]":     lookRefused,
		"valueless KEY":         lookValueless,
		"excess KEY":            lookExcess,
		"replaced KEY":          lookReplaced,
		"spread KEY":            lookSpread,
		"other-pid KEY":         lookOtherPID,
		"hangs":                 lookHangs,
		"nap NAME OP SECONDS":   ofProgram(lookNap),
		"worked NAME SECONDS":   ofProgram(lookWorked),
		"once KEY NAME":         lookOnce,
		"age NAME OP SECONDS":   ofProgram(lookAge),
		"since NAME OP SECONDS": ofProgram(lookSince),
		"settled NAME":          ofProgram(lookSettled),
	})
}

// lockOf is the value of the only semaphore of a set, and the process that
// used it last.
func lockOf(key string) (value, pid int, state string, err error) {
	id, state, err := findSemaphores(key)
	if state != "" || err != nil {
		return 0, 0, state, err
	}
	return semctl(id, 0, getVal), semctl(id, 0, getPID), "", nil
}

// lookHolds tells whether a program has the lock.
func lookHolds(s *session, args []string) (bool, string, error) {
	value, pid, state, err := lockOf(args[1])
	if state != "" || err != nil {
		return false, state, err
	}
	p := s.named(args[0])
	is := value == 0 && s.belongs(pid, args[0]) && !p.within(0)
	who := s.whose(pid)
	switch {
	case value != 0:
		state = fmt.Sprintf("%s does not have the lock: the semaphore is %d", args[0], value)
	case is:
		state = args[0] + " has the lock"
	default:
		state = fmt.Sprintf("%s does not have the lock: %s was the last to use the semaphore", args[0], who)
	}
	return is, state, nil
}

// whose says to which program a process belongs.
func (s *session) whose(pid int) string {
	for name := range s.running {
		if s.belongs(pid, name) {
			return name
		}
	}
	if pid == 0 {
		return "nobody"
	}
	return fmt.Sprintf("a process that has ended (%d)", pid)
}

// lookItself tells whether the process that was started has used the semaphore
// last, and not a child of it.
func lookItself(s *session, args []string) (bool, string, error) {
	_, pid, state, err := lockOf(args[1])
	p := s.named(args[0])
	if state != "" || err != nil || p == nil {
		return false, state, err
	}
	is := pid == p.cmd.Process.Pid
	return is, fmt.Sprintf("the process that has used the semaphore is %sthe one that was started as %s",
		notUnless(is), args[0]), nil
}

// lookAbandoned tells whether the semaphore is 0, although the process that used
// it last has ended.
func lookAbandoned(s *session, args []string) (bool, string, error) {
	value, pid, state, err := lockOf(args[0])
	if state != "" || err != nil {
		return false, state, err
	}
	for _, p := range s.running {
		if !p.within(0) && slices.Contains(tree(p.cmd.Process.Pid), pid) {
			return false, "the process that used the semaphore last runs", nil
		}
	}
	return value == 0 && pid != 0, fmt.Sprintf("the semaphore is %d, and the process that used it last has ended", value), nil
}

// lookLine tells whether a line of the table has the pid of a program.
func lookLine(s *session, args []string) (bool, string, error) {
	index, err := strconv.Atoi(args[1])
	if err != nil {
		return false, "", err
	}
	p := s.named(args[2])
	if p == nil {
		return false, args[2] + " was not started", nil
	}
	is, state, err := lookNumber(4)(s, []string{args[0], strconv.Itoa(4 * index), "=", strconv.Itoa(p.pid)})
	if text, no, _ := s.contents(args[0]); !is && no == "" && err == nil {
		state += fmt.Sprintf(", and not the process id %d of %s", p.pid, args[2])
		if words := numbers(text); index < len(words)-1 { // count is no process id
			if at := slices.Index(words[index:len(words)-1], p.pid); at >= 0 {
				state += fmt.Sprintf(", which is at offset %d", 4*(index+at))
			}
		}
	}
	return is, state, err
}

// numbers are the int32 in a segment.
func numbers(text []byte) (words []int) {
	for i := 0; i+4 <= len(text); i += 4 {
		words = append(words, int(int32(binary.LittleEndian.Uint32(text[i:]))))
	}
	return words
}

// lookAge compares the time since a program was started. A machine may be slow, so
// only "at least" proves something.
func lookAge(s *session, p *process, args []string) (bool, string, error) {
	return lookTime(time.Since(p.started), args, "since "+args[0]+" was started")
}

// lookSince compares the time since a peer was told something.
func lookSince(s *session, p *process, args []string) (bool, string, error) {
	return lookTime(time.Since(p.toldAt), args, "since the semaphore was unlocked")
}

func lookTime(passed time.Duration, args []string, what string) (bool, string, error) {
	seconds, err := strconv.ParseFloat(args[2], 64)
	if err != nil {
		return false, "", err
	}
	limit := time.Duration(seconds * float64(time.Second))
	is, err := compare(int64(passed), args[1], strconv.FormatInt(int64(limit), 10))
	only := ""
	if !is && strings.HasPrefix(args[1], ">") {
		only = "only "
	}
	return is, fmt.Sprintf("%s%.2f s have passed %s", only, passed.Seconds(), what), err
}

// lookSettled tells whether all threads of a program sleep.
func lookSettled(s *session, p *process, args []string) (bool, string, error) {
	for _, pid := range tree(p.cmd.Process.Pid) {
		if !idle(pid, "S") {
			return false, args[0] + " does not sleep", nil
		}
	}
	return true, args[0] + " sleeps", nil
}

// lookOnce tells whether a program's pid is in exactly one line that is in
// use, and whether that is the line that the program has printed.
func lookOnce(s *session, args []string) (bool, string, error) {
	p := s.named(args[1])
	text, state, err := s.contents(args[0])
	if p == nil || state != "" || err != nil {
		return false, state, err
	}
	words := numbers(text)
	count := words[len(words)-1]
	lines := words[:min(max(count, 0), len(words)-1)]
	var at []string
	for i, pid := range lines {
		if pid == p.pid {
			at = append(at, strconv.Itoa(i))
		}
	}
	switch {
	case len(at) == 0:
		state = fmt.Sprintf("the process id of %s is in none of the %d lines", args[1], count)
	case len(at) > 1:
		state = fmt.Sprintf("the process id of %s is in the lines %s", args[1], strings.Join(at, ", "))
	default:
		index, _ := strconv.Atoi(at[0])
		if strings.Contains(p.stdout(), fmt.Sprintf("Updated count to %d\n", index+1)) {
			return true, fmt.Sprintf("%s is in line %d", args[1], index), nil
		}
		state = fmt.Sprintf("%s is in line %d, and printed %s", args[1], index, short(p.stdout()))
	}
	return false, state, nil
}

// students are the programs of the script that are not peers.
func (s *session) students() (all []*process) {
	for _, p := range s.programs() {
		if p.told == 0 {
			all = append(all, p)
		}
	}
	return all
}

var (
	updatedLine = regexp.MustCompile(`(?m)^Process (\d+): Updated count to (\d+)$`)
	anyLine     = regexp.MustCompile(`(?m)^Process (\d+): `)
)

// last is the program that has printed the highest count, and the numbers in
// the segment.
func (s *session) last(key string) (p *process, n int, words []int, state string, err error) {
	text, state, err := s.contents(key)
	words = numbers(text)
	for _, q := range s.students() {
		if m := updatedLine.FindStringSubmatch(q.stdout()); m != nil {
			if k, _ := strconv.Atoi(m[2]); (p == nil || k > n) && k < len(words) {
				p, n = q, k
			}
		}
	}
	return p, n, words, state, err
}

// lookShifted tells whether the last line is one too far.
func lookShifted(s *session, args []string) (bool, string, error) {
	p, n, words, state, err := s.last(args[0])
	if state != "" || err != nil || p == nil {
		return false, state, err
	}
	// count is still what it was before the last line, or the line has overwritten it.
	is := n > 0 && (words[len(words)-1] == n || n == len(words)-1) && words[n] == p.pid && words[n-1] != p.pid &&
		(n != 2 || words[0] == 0) // with 8 bytes for each line, the second one is there, too
	return is, fmt.Sprintf("process id %d is %sin line %d", p.pid, notUnless(is), n), nil
}

// lookCountFirst tells whether count stands at offset 0.
func lookCountFirst(s *session, args []string) (bool, string, error) {
	p, n, words, state, err := s.last(args[0])
	if state != "" || err != nil || p == nil {
		return false, state, err
	}
	return words[0] == n && words[n] == p.pid && words[len(words)-1] != n, fmt.Sprintf("the int32 at offset 0 is %d", words[0]), nil
}

// lookMisnamed tells whether a program has printed another process id than
// its own.
func lookMisnamed(s *session, _ []string) (bool, string, error) {
	for _, p := range s.students() {
		if m := anyLine.FindStringSubmatch(p.stdout()); m != nil && m[1] != strconv.Itoa(p.pid) {
			return true, fmt.Sprintf("process %d has printed the id %s", p.pid, m[1]), nil
		}
	}
	return false, "the ids are right", nil
}

// lookTwice tells whether two programs that ran at the same time have printed the
// same count.
func lookTwice(s *session, _ []string) (bool, string, error) {
	all := s.students()
	for i, p := range all {
		for _, q := range all[:i] {
			m, n := updatedLine.FindStringSubmatch(p.stdout()), updatedLine.FindStringSubmatch(q.stdout())
			if m != nil && n != nil && m[2] == n[2] && !p.before(q) && !q.before(p) {
				return true, "two have printed the count " + m[2], nil
			}
		}
	}
	return false, "no count was printed twice by programs that ran at the same time", nil
}

// before tells whether a program printed its last line before another one was
// started.
func (p *process) before(q *process) bool {
	c := p.captured[0]
	c.lock.Lock()
	defer c.lock.Unlock()
	return len(c.lines) > 0 && c.lines[len(c.lines)-1].Before(q.started)
}

// lookIntruded tells whether another process has used the semaphore, although a
// peer has the lock: the last step of the peer was a P.
func lookIntruded(s *session, args []string) (bool, string, error) {
	p := s.running[args[0]]
	_, pid, state, err := lockOf(args[1])
	if p == nil || state != "" || err != nil {
		return false, state, err
	}
	is := p.holds && p.answers() == p.told && !s.belongs(pid, args[0]) &&
		!strings.HasPrefix(lastLine(p.stdout()), "error: ") // that step made no P
	return is, fmt.Sprintf("while %s had the lock, it was %sused by another", args[0], notUnless(is)), nil
}

// lookSleptOutside tells whether the semaphore is 1, although a program sleeps or
// has printed its last line.
func lookSleptOutside(s *session, args []string) (bool, string, error) {
	value, _, state, err := lockOf(args[0])
	if state != "" || err != nil {
		return false, state, err
	}
	for _, p := range s.students() {
		if value == 1 && strings.Contains(p.stdout(), "Exiting") {
			return true, "the semaphore is 1, and a program was not seen with the lock", nil
		}
		calls := waitsIn(p.cmd.Process.Pid)
		if value == 1 && !p.within(0) && (slices.Contains(calls, "sleep") || slices.Contains(calls, "write")) {
			return true, "the semaphore is 1, and a program sleeps", nil
		}
	}
	return false, "no program sleeps without the lock", nil
}

// A creation04 is the decider of lab 04. A program can be held before it creates a
// semaphore set.
type creation04 struct{}

var rules04 = []rule{{unix.SYS_SEMGET, 2, has, unix.IPC_CREAT}}

func (creation04) points() []string { return []string{"create"} }
func (creation04) at(call) []string { return []string{"create"} }
func (creation04) missing(name, _ string) string {
	return name + " has not called semget with IPC_CREAT"
}

// lookUnflushed tells whether a program waits for the lock and has printed
// nothing.
func lookUnflushed(s *session, _ []string) (bool, string, error) {
	for _, p := range s.students() {
		switch {
		case p.stdout() != "":
		case p.within(0) && s.wasLast(p):
			return true, "a program has used the semaphore and ended, and has printed nothing", nil
		case !p.within(0) && slices.Contains(waitsIn(p.cmd.Process.Pid), "semop"):
			return true, "a program waits in semop, and has printed nothing", nil
		}
	}
	return false, "no program waits that has printed nothing", nil
}

// wasLast tells whether a program was the last to use the semaphore.
func (s *session) wasLast(p *process) bool {
	_, pid, state, err := lockOf(s.lab.values["SEMKEY"])
	return state == "" && err == nil && pid == p.cmd.Process.Pid
}

// lookGone tells whether a program has printed its last line and the segment or
// the set does not exist, although no peer was told to remove it.
func lookGone(s *session, args []string) (bool, string, error) {
	_, noSegment, err := findSegment(args[0])
	_, noSet, e := findSemaphores(args[1])
	for _, p := range s.running {
		if p.removes {
			return false, "a peer has removed it", nil
		}
	}
	for _, p := range s.students() {
		if (noSegment != "" || noSet != "") && strings.Contains(p.stdout(), "Exiting") {
			return true, noSegment + noSet, nil
		}
	}
	return false, "the segment and the set are there", errors.Join(err, e)
}

// lookPrintsOld tells whether the program that has printed the highest count
// has printed the one before its update.
func lookPrintsOld(s *session, args []string) (bool, string, error) {
	p, n, words, state, err := s.last(args[0])
	if state != "" || err != nil || p == nil {
		return false, state, err
	}
	is := words[n] == p.pid && words[len(words)-1] == n+1
	return is, fmt.Sprintf("%d was printed, and count is %d", n, words[len(words)-1]), nil
}

// lookPolls tells whether a program sleeps, but not in semop, while another
// has the lock.
func lookPolls(s *session, args []string) (bool, string, error) {
	value, pid, state, err := lockOf(args[0])
	if state != "" || err != nil {
		return false, state, err
	}
	for _, p := range s.students() {
		calls := waitsIn(p.cmd.Process.Pid)
		if value == 0 && pid != 0 && !p.within(0) && !slices.Contains(tree(p.cmd.Process.Pid), pid) && !idle(p.cmd.Process.Pid, "T") &&
			slices.Contains(calls, "sleep") && !slices.Contains(calls, "semop") {
			return true, "a program sleeps, but not in semop", nil
		}
	}
	return false, "no program sleeps elsewhere", nil
}

// lookRefused tells whether a program of the student has ended with an error before
// its first line and without a P, and has printed something on standard error.
func lookRefused(s *session, args []string) (bool, string, error) {
	re, err := regexp.Compile(args[0])
	if err != nil {
		return false, "", err
	}
	for name, p := range s.all() {
		if !strings.HasPrefix(name, "our-") && isStatus(p.status(), "error") && p.stdout() == "" && !s.wasLast(p) &&
			re.MatchString(p.stderr()) {
			return true, "a program has ended before its first line", nil
		}
	}
	return false, "no program has ended before its first line", nil
}

// all are the programs of the script that run or have run.
func (s *session) all() map[string]*process {
	return maps.Collect(s.programs())
}

// foreignSet tells whether a peer has made the set with this key.
func (s *session) foreignSet(id int) (is, made bool) {
	for _, p := range s.all() {
		is = is || slices.Contains(p.sets, id)
		made = made || len(p.sets) > 0
	}
	return is, made
}

// lookValueless tells whether a program waits for a set that a program of the
// student has created, and on which nobody has ever called semop.
func lookValueless(s *session, args []string) (bool, string, error) {
	id, state, err := findSemaphores(args[0])
	if state != "" || err != nil {
		return false, state, err
	}
	foreign, _ := s.foreignSet(id)
	is := !foreign && semctl(id, 0, getVal) == 0 && semctl(id, 0, getPID) == 0 && semctl(id, 0, getNCnt) > 0
	return is, fmt.Sprintf("the set is %snew, without a value", notUnless(is)), nil
}

// lookExcess tells whether the semaphore of a set that the student's program has
// created is larger than 1, before any program has made its update.
func lookExcess(s *session, args []string) (bool, string, error) {
	id, state, err := findSemaphores(args[0])
	if state != "" || err != nil {
		return false, state, err
	}
	foreign, _ := s.foreignSet(id)
	for _, p := range s.students() {
		if updatedLine.MatchString(p.stdout()) {
			return false, "a program has made its update", nil
		}
	}
	n := semctl(id, 0, getVal)
	return !foreign && n > 1, fmt.Sprintf("the semaphore is %d", n), nil
}

// lookReplaced tells whether a set that a peer has made is not there any more,
// although no peer has removed it.
func lookReplaced(s *session, args []string) (bool, string, error) {
	id, _, err := findSemaphores(args[0])
	foreign, made := s.foreignSet(id)
	for _, p := range s.all() {
		made = made && !p.removes
	}
	return made && !foreign, fmt.Sprintf("the set is %sthe one that the grader has made", notUnless(foreign)), err
}

// lookSpread tells whether the lines are 8 bytes apart. If only the second line is of
// the student's program, it could also be one line too far.
func lookSpread(s *session, args []string) (bool, string, error) {
	p, n, words, state, err := s.last(args[0])
	if state != "" || err != nil || p == nil || n < 2 || 2*(n-1) >= len(words) {
		return false, state, err
	}
	first := n > 2
	for name, q := range s.all() {
		first = first || q.pid == words[0] && !strings.HasPrefix(name, "our-")
	}
	is := first && words[2*(n-1)] == p.pid && words[n-1] != p.pid
	return is, fmt.Sprintf("the process id of line %d is %sat offset %d", n-1, notUnless(is), 8*(n-1)), nil
}

// lookOtherPID tells whether the last line has a number that is not the process id
// of any program.
func lookOtherPID(s *session, args []string) (bool, string, error) {
	p, n, words, state, err := s.last(args[0])
	if state != "" || err != nil || p == nil || n < 1 || words[len(words)-1] != n || slices.Contains(words, p.pid) {
		return false, state, err
	}
	for _, q := range s.all() {
		if q.pid == words[n-1] {
			return false, "the last line has the process id of another program", nil
		}
	}
	return words[n-1] > 0, fmt.Sprintf("line %d has the number %d", n-1, words[n-1]), nil
}

// lookHangs tells whether a program has not ended in time: this is what failed.
func lookHangs(s *session, _ []string) (bool, string, error) {
	return strings.Contains(s.lab.failure, " is still running"), "no program is late", nil
}

// A nap is a sleep of a program without an end in between. The kernel counts how
// often a program goes to sleep, so a busy machine makes no nap longer.
type nap struct {
	switches     int
	seen         time.Time // when the script looked last
	now, longest time.Duration
}

// lookNap compares the longest sleep of a program since the script asked first.
func lookNap(s *session, p *process, args []string) (bool, string, error) {
	limit, err := strconv.ParseFloat(args[2], 64)
	if err != nil {
		return false, "", err
	}
	p.look()
	is, err := compare(int64(p.nap.longest), args[1], strconv.FormatInt(int64(limit*float64(time.Second)), 10))
	return is, fmt.Sprintf("%s has slept for %.2f s or more while it had the lock", args[0], p.nap.longest.Seconds()), err
}

// look makes a nap longer if the program has slept since the last look.
func (p *process) look() {
	n, asleep := 0, !p.within(0)
	if asleep {
		for _, pid := range tree(p.cmd.Process.Pid) {
			asleep = asleep && idle(pid, "S")
			n += switches(pid)
		}
	}
	// If the whole machine stops, the program cannot wake up.
	took := min(time.Since(p.nap.seen), 50*tick)
	p.nap.seen = time.Now()
	if !asleep || n != p.nap.switches {
		p.nap.now, p.nap.switches = 0, n
		return
	}
	p.nap.now += took
	p.nap.longest = max(p.nap.longest, p.nap.now)
}

// lookWorked tells whether a program has printed its second line, or has slept too
// long for that.
func lookWorked(s *session, p *process, args []string) (bool, string, error) {
	if updatedLine.MatchString(p.stdout()) {
		return true, args[0] + " has printed its second line", nil
	}
	is, _, err := lookNap(s, p, []string{args[0], ">", args[1]})
	return is, args[0] + " has not printed its second line", err
}
