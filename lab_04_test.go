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
		"refused":               lookRefused,
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
	return lookNumber(4)(s, []string{args[0], strconv.Itoa(4 * index), "=", strconv.Itoa(p.pid)})
}

// lookAge compares the time since a program was started. A machine may be slow, so
// only "at least" proves something.
func lookAge(s *session, p *process, args []string) (bool, string, error) {
	return lookTime(time.Since(p.started), args, "after it was started")
}

// lookSince compares the time since a peer was told something.
func lookSince(s *session, p *process, args []string) (bool, string, error) {
	return lookTime(time.Since(p.toldAt), args, "after the semaphore was unlocked")
}

func lookTime(passed time.Duration, args []string, what string) (bool, string, error) {
	seconds, err := strconv.ParseFloat(args[2], 64)
	if err != nil {
		return false, "", err
	}
	limit := time.Duration(seconds * float64(time.Second))
	is, err := compare(int64(passed), args[1], strconv.FormatInt(int64(limit), 10))
	return is, fmt.Sprintf("this was %.2f s %s", passed.Seconds(), what), err
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
	words := make([]int, len(text)/4)
	for i := range words {
		words[i] = int(int32(binary.LittleEndian.Uint32(text[4*i:])))
	}
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
	for _, programs := range []map[string]*process{s.running, s.lab.finished} {
		for _, p := range programs {
			if p.told == 0 {
				all = append(all, p)
			}
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
	for i := 0; i+4 <= len(text); i += 4 {
		words = append(words, int(int32(binary.LittleEndian.Uint32(text[i:]))))
	}
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
	is := n > 0 && (words[len(words)-1] == n || n == len(words)-1) && words[n] == p.pid && words[n-1] != p.pid
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

// lookTwice tells whether two programs have printed the same count.
func lookTwice(s *session, _ []string) (bool, string, error) {
	seen := map[string]bool{}
	for _, p := range s.students() {
		if m := updatedLine.FindStringSubmatch(p.stdout()); m != nil {
			if seen[m[2]] {
				return true, "two have printed the count " + m[2], nil
			}
			seen[m[2]] = true
		}
	}
	return false, "no count was printed twice", nil
}

// lookIntruded tells whether another process has used the semaphore, although a
// peer has the lock: the last step of the peer was a P.
func lookIntruded(s *session, args []string) (bool, string, error) {
	p := s.running[args[0]]
	_, pid, state, err := lockOf(args[1])
	if p == nil || state != "" || err != nil {
		return false, state, err
	}
	is := p.holds && p.answers() == p.told && !s.belongs(pid, args[0])
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
		if !p.within(0) && p.stdout() == "" && slices.Contains(waitsIn(p.cmd.Process.Pid), "semop") {
			return true, "a program waits in semop, and has printed nothing", nil
		}
	}
	return false, "no program waits that has printed nothing", nil
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

// lookRefused tells whether a program has ended with an error before its first
// line.
func lookRefused(s *session, _ []string) (bool, string, error) {
	for _, p := range s.students() {
		if isStatus(p.status(), "error") && p.stdout() == "" {
			return true, "a program has ended before its first line", nil
		}
	}
	return false, "no program has ended before its first line", nil
}
