//go:build linux

package shm_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// tell tells a peer to do a step. With -later it does not wait until the step is
// done: "await answers NAME" does.
func (s *session) tell(ts *testscript.TestScript, args []string) {
	later := args[0] == "-later"
	if later {
		args = args[1:]
	}
	p := s.process(ts, args[0])
	if p.keyboard == nil || len(args) < 2 {
		ts.Fatalf("usage: tell [-later] NAME COMMAND [ARG...], where NAME was started as peer")
	}
	words := append([]string(nil), args[1:]...)
	if words[0] == "text" && len(words) > 2 {
		words[2] = `"` + strings.Join(words[2:], " ") + `"`
		words = words[:3]
	}
	p.told++
	p.toldAt = time.Now()
	switch words[0] {
	case "lock":
		p.locks = true
	case "unlock", "hand":
		p.locks = false
	}
	p.removes = p.removes || words[0] == "rmsem" || words[0] == "remove"
	if words[0] != "int32" && words[0] != "attach" {
		p.holds = words[0] == "semop" && len(words) > 3 && strings.HasPrefix(words[3], "-")
	}
	p.keyboard.SetWriteDeadline(time.Now().Add(s.lab.left))
	if _, err := fmt.Fprintln(p.keyboard, strings.Join(words, " ")); err != nil {
		p.within(untilTime) // so that its status is known
		ts.Fatalf("tell %s: %v; %v", args[0], err, p)
	}
	if later {
		return
	}
	alone := 0 // for how many ticks no other program has run
	if !s.waitUntil(s.lab.left, func() bool {
		if alone++; !s.allEnded() || words[0] == "pause" {
			alone = 0
		}
		return p.answers() >= p.told || p.within(0) || alone > s.lab.script.alone
	}) || alone > s.lab.script.alone && p.answers() < p.told {
		s.fail(ts, "%s still waits in its step %q%s", args[0], strings.Join(args[1:], " "), s.everybody())
	}
	lines := strings.Split(strings.TrimSpace(p.stdout()), "\n")
	answer := lines[len(lines)-1]
	if reason, failed := strings.CutPrefix(answer, "error: "); failed {
		s.fail(ts, "%s could not do its step %q: %s", args[0], strings.Join(args[1:], " "), reason)
	} else if p.answers() < p.told {
		ts.Fatalf("the peer %s has ended: %v", args[0], p)
	}
	if words[0] == "semget" {
		if id, _, _ := findSemaphores(words[1]); id >= 0 {
			p.sets = append(p.sets, id)
		}
	}
}

// answers counts the steps that a peer has done.
func (p *process) answers() int { return strings.Count(p.stdout(), "\n") }

// lookAnswers tells whether a peer has done all its steps.
func lookAnswers(s *session, p *process, args []string) (bool, string, error) {
	n := p.told - p.answers()
	return n == 0, fmt.Sprintf("%s still waits in its step", args[0]), nil
}

// lookLocks tells whether a peer was told to lock a mutex, and not yet to unlock it.
func lookLocks(s *session, args []string) (bool, string, error) {
	p := s.named(args[0])
	return p != nil && p.locks, args[0] + " has not locked the mutex", nil
}

// play is the program "peer".
func play([]string) error {
	var p player
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		answer := "done"
		if err := p.do(lines.Text()); err != nil {
			answer = "error: " + strings.ReplaceAll(err.Error(), "\n", "; ")
		} else if p.said != "" {
			answer += " " + p.said
		}
		p.said = ""
		fmt.Println(answer)
	}
	return lines.Err()
}

// A player is a peer: a program that does what a script tells it, one step at a
// time. It plays the other side of a student's program. It is a process of its own, so
// that the student's program sees its pid, and can notice its death.
//
// These are its steps. OFFSET counts from the start of the segment that the peer
// has attached last.
//
//	make KEY SIZE              shmget with IPC_CREAT and IPC_EXCL
//	attach KEY                 shmat
//	detach                     shmdt
//	remove KEY                 shmctl IPC_RMID
//	int32 OFFSET VALUE         stores a number, atomically
//	int64 OFFSET VALUE
//	fill OFFSET COUNT LETTER   stores COUNT times the letter
//	text OFFSET TEXT           stores a text; \x00 and so on stand for bytes
//	semget KEY N               makes a set of N semaphores
//	semop KEY NUMBER N         waits until it can
//	setval KEY NUMBER VALUE
//	rmsem KEY                  removes a set
//	list, series               a list of lab 06: see stepList and stepSeries
//	child STEP                 has a child of the peer do a step
//	kill-child                 kills the child, and leaves it a zombie
//	pause SECONDS              does nothing for a while
//
// moreSteps has those that only one lab needs.
type player struct {
	mem   []byte
	said  string // what a step adds to the answer "done"
	child *child // of lab 01
}

// moreSteps are the steps that only one lab needs.
var moreSteps = map[string]func(p *player, args []string) error{}

func (p *player) do(line string) error {
	words := strings.SplitN(line, " ", 3)
	verb := words[0]
	if verb != "text" {
		words = strings.Fields(line)
	}
	words = append(words, "", "", "", "")
	var failed error
	number := func(i int) int {
		n, err := strconv.ParseInt(words[i], 0, 64)
		failed = errors.Join(failed, err)
		return int(n)
	}
	room := func(at, size int) bool {
		if at < 0 || at+size > len(p.mem) {
			failed = errors.Join(failed, fmt.Errorf("the segment has %d bytes", len(p.mem)))
		}
		return failed == nil
	}
	var err error
	switch verb {
	case "make":
		_, err = unix.SysvShmGet(number(1), number(2), unix.IPC_CREAT|unix.IPC_EXCL|0o600)
	case "attach":
		id, e := unix.SysvShmGet(number(1), 0, 0)
		if err = e; err == nil {
			p.mem, err = unix.SysvShmAttach(id, 0, 0)
		}
	case "detach":
		err = unix.SysvShmDetach(p.mem)
		p.mem = nil
	case "remove":
		id, e := unix.SysvShmGet(number(1), 0, 0)
		if err = e; err == nil {
			_, err = unix.SysvShmCtl(id, unix.IPC_RMID, nil)
		}
	case "int32":
		if at := number(1); room(at, 4) {
			atomic.StoreInt32((*int32)(unsafe.Pointer(&p.mem[at])), int32(number(2)))
		}
	case "int64":
		if at := number(1); room(at, 8) {
			atomic.StoreInt64((*int64)(unsafe.Pointer(&p.mem[at])), int64(number(2)))
		}
	case "fill":
		if at, n := number(1), number(2); room(at, n) {
			copy(p.mem[at:], bytes.Repeat([]byte(words[3]), n))
		}
	case "text":
		text, e := strconv.Unquote(words[2])
		if at := number(1); e == nil && room(at, len(text)) {
			copy(p.mem[at:], text)
		}
		err = e
	case "semget":
		if semget(number(1), number(2), unix.IPC_CREAT|unix.IPC_EXCL|0o600) < 0 {
			err = errors.New("semget failed")
		}
	case "semop":
		err = semopRetry(semget(number(1), 0, 0), number(2), number(3), 0)
	case "setval":
		const setVal = 16
		if _, _, errno := unix.Syscall6(unix.SYS_SEMCTL, uintptr(semget(number(1), 0, 0)),
			uintptr(number(2)), setVal, uintptr(number(3)), 0, 0); errno != 0 {
			err = errno
		}
	case "rmsem":
		if tables[1].control(semget(number(1), 0, 0), unix.IPC_RMID, nil) < 0 {
			err = errors.New("semctl IPC_RMID failed")
		}
	case "pause":
		seconds, e := strconv.ParseFloat(words[1], 64)
		time.Sleep(time.Duration(seconds * float64(time.Second)))
		err = e
	default:
		if step := moreSteps[verb]; step != nil {
			err = step(p, words[1:])
		} else {
			err = fmt.Errorf("a peer cannot %s", verb)
		}
	}
	return errors.Join(err, failed)
}

// semopRetry is semop(2) with one operation. After a signal it calls semop again.
func semopRetry(id, number, n int, flags int16) error {
	op := [3]int16{int16(number), int16(n), flags}
	for {
		_, _, errno := unix.Syscall(unix.SYS_SEMOP, uintptr(id), uintptr(unsafe.Pointer(&op)), 1)
		switch errno {
		case 0:
			return nil
		case syscall.EINTR:
			time.Sleep(time.Millisecond)
		default:
			return errno
		}
	}
}
