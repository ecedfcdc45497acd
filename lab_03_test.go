//go:build linux

package shm_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/rogpeppe/go-internal/txtar"
	"golang.org/x/sys/unix"
)

// What only lab 03 needs: a peer that plays the writer or the reader of a whole
// transfer, and files to transfer.

func init() {
	moreCommands["input"] = labCommand{"input FILE COUNT:BYTES...", 1, plain((*session).input)}

	maps.Copy(conditions, map[string]looker{
		"key KEY OP N":          lookProperty("key", "%#x", func(g segmentState) int64 { return int64(g.key) }),
		"semmode KEY OP OCTAL":  lookSemaphoreMode,
		"woke NAME OP N":        ofProgram(lookWoke),
		"waits NAME KEY NUMBER": ofProgram(lookWaits),
		"unread NAME OP N":      lookUnread,
		"received NAME FILE":    lookReceived,
		"stopped NAME":          lookStopped,
		"lines NAME OP N":       ofProgram(lookLines),
	})

	moreSteps["open"] = (*player).open
	moreSteps["send"] = (*player).send
	moreSteps["end"] = (*player).sendEnd
	moreSteps["receive"] = (*player).receive
	moreSteps["next"] = (*player).next
	moreSteps["leave"] = (*player).leave
	moreSteps["spawn"] = (*player).spawn
	moreSteps["die"] = func(*player, []string) error { return unix.Kill(os.Getpid(), unix.SIGKILL) }
}

// part is what COUNT:BYTES stands for, such as 1024+1:A or 100:random. \0 is a
// zero byte, \n a line feed.
func part(word string) ([]byte, error) {
	count, what, _ := strings.Cut(word, ":")
	size, err := sum(count)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", word, err)
	}
	n := int(size)
	switch {
	case n < 0 || what == "":
		return nil, fmt.Errorf("%s: want COUNT:BYTES", word)
	case what == "random": // but the same bytes each time
		text := make([]byte, n+8)
		r := rand.New(rand.NewPCG(3, uint64(n)))
		for i := 0; i < n; i += 8 {
			binary.LittleEndian.PutUint64(text[i:], r.Uint64())
		}
		return text[:n], nil
	}
	what = strings.NewReplacer(`\0`, "\x00", `\n`, "\n").Replace(what)
	return bytes.Repeat([]byte(what), n/len(what)+1)[:n], nil
}

// input makes a file for a program to read.
func (s *session) input(ts *testscript.TestScript, args []string) {
	var all []byte
	for _, word := range args[1:] {
		text, err := part(word)
		ts.Check(err)
		all = append(all, text...)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), all, 0o644))
	s.lab.files[args[0]] = all
}

func lookSemaphoreMode(s *session, args []string) (bool, string, error) {
	id, state, err := findSemaphores(args[0])
	if state != "" || err != nil {
		return false, state, err
	}
	mode := uint32(0)
	for other, e := range tables[1].entries() {
		if other == id {
			mode = e.mode() & 0o777
		}
	}
	is, err := compare(int64(mode), args[1], "0"+args[2])
	return is, fmt.Sprintf("the mode of semaphore set %s is %o", args[0], mode), err
}

// lookWoke counts how often a program has woken up since the script asked
// first.
func lookWoke(s *session, p *process, args []string) (bool, string, error) {
	if p.within(0) {
		return false, args[0] + " " + ending(p.status()), nil
	}
	now := 0
	for _, pid := range tree(p.cmd.Process.Pid) {
		now += switches(pid)
	}
	if p.woke == 0 {
		p.woke = now + 1
	}
	n := now + 1 - p.woke
	is, err := compare(int64(n), args[1], args[2])
	return is, fmt.Sprintf("%s has gone to sleep and woken up %d times since", args[0], n), err
}

// lookWaits tells whether a program waits for its turn: it sleeps in semop, or it
// looks again and again. That is wrong, but only the scripts sleeps and end are
// about it. A program looks if it was the last to use the semaphore, which is 0,
// and since then wakes up and uses the processor. One that is still on its way to
// semop does not do so for long.
func lookWaits(s *session, p *process, args []string) (bool, string, error) {
	if p.within(0) {
		return false, args[0] + " " + ending(p.status()), nil
	}
	sleeps, state, err := s.look([]string{"waiters", args[1], args[2], ">", "0"})
	taken, _, _ := s.look([]string{"last", args[1], args[2], args[0]})
	empty, _, _ := s.look([]string{"value", args[1], args[2], "=", "0"})
	if err != nil || sleeps || !taken || !empty {
		p.turn = nil
		return sleeps, state, err
	}
	now := 0
	for _, pid := range tree(p.cmd.Process.Pid) {
		now += switches(pid) + processorTime(pid)
	}
	if p.turn == nil {
		p.turn = &now
	}
	if looks := now-*p.turn >= 20; looks {
		p.turn = nil // of another wait
		return true, args[0] + " looks again and again", nil
	}
	return false, state, nil
}

// lookUnread counts the bytes in the pipe that is a program's standard input.
func lookUnread(s *session, args []string) (bool, string, error) {
	p := s.named(args[0])
	if p == nil || p.keyboard == nil {
		return false, args[0] + " has no pipe as its input", nil
	}
	n := 0
	raw, err := p.keyboard.SyscallConn()
	if err == nil {
		raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	}
	if err != nil {
		return false, "", err
	}
	is, err := compare(int64(n), args[1], args[2])
	return is, fmt.Sprintf("%s has not read %d bytes of its input", args[0], n), err
}

// lookReceived compares what a peer has received with a file.
func lookReceived(s *session, args []string) (bool, string, error) {
	p, want := s.named(args[0]), s.lab.files[args[1]]
	if p == nil || want == nil && args[1] != "/dev/null" {
		return false, "nothing was received", nil
	}
	got := p.captured[1].String()
	if got == string(want) {
		return true, fmt.Sprintf("all %d bytes have come", len(want)), nil
	}
	at := 0
	for at < min(len(got), len(want)) && got[at] == want[at] {
		at++
	}
	return false, fmt.Sprintf("%d bytes came out, of %d; they are right up to byte %d", len(got), len(want), at), nil
}

func lookStopped(s *session, args []string) (bool, string, error) {
	p := s.named(args[0])
	is := p != nil && idle(p.cmd.Process.Pid, "T")
	return is, args[0] + " is " + notUnless(is) + "stopped", nil
}

// lookLines counts the lines on standard error.
func lookLines(s *session, p *process, args []string) (bool, string, error) {
	n := strings.Count(p.stderr(), "\n")
	is, err := compare(int64(n), args[1], args[2])
	return is, fmt.Sprintf("%s has printed %d lines on standard error", args[0], n), err
}

// The peer as a writer and as a reader.

func (p *player) cnt() *int32 { return (*int32)(unsafe.Pointer(&p.mem[0])) }

func (p *player) semop(key string, number, n int) error {
	id, _, err := findSemaphores(key)
	if err == nil {
		err = semopRetry(id, number, n, 0)
	}
	return err
}

// open KEY SIZE SEMKEY makes the segment and the set, as a writer does, and
// attaches the segment.
func (p *player) open(args []string) error {
	if p.mem != nil { // of an earlier open
		if err := p.do("detach"); err != nil {
			return err
		}
	}
	for _, step := range []string{"make " + args[0] + " " + args[1], "semget " + args[2] + " 2",
		"setval " + args[2] + " 0 1", "attach " + args[0]} {
		if err := p.do(step); err != nil {
			return err
		}
	}
	return nil
}

// send SEMKEY COUNT:BYTES... plays a writer. It sends each COUNT:BYTES in blocks
// that are as large as possible.
func (p *player) send(args []string) error {
	if len(p.mem) < 8 {
		return errors.New("no segment is attached")
	}
	for _, word := range args[1:] {
		if word == "" {
			continue
		}
		text, err := part(word)
		if err != nil {
			return err
		}
		for block := range slices.Chunk(text, len(p.mem)-4) {
			if err := p.semop(args[0], 0, -1); err != nil {
				return err
			}
			copy(p.mem[4:], block)
			atomic.StoreInt32(p.cnt(), int32(len(block)))
			if err := p.semop(args[0], 1, +1); err != nil {
				return err
			}
		}
	}
	return nil
}

// end SEMKEY KEY sends the end, waits until a reader has read it, and removes
// the set and the segment at once. A reader has read the end when it makes its
// V(0). A reader that ends without it loses points in the scripts that look for
// the V(0), not in all.
func (p *player) sendEnd(args []string) error {
	err := p.semop(args[0], 0, -1)
	if err != nil {
		return err
	}
	atomic.StoreInt32(p.cnt(), 0)
	if err = p.semop(args[0], 1, +1); err == nil {
		err = p.endRead(args[0])
	}
	return errors.Join(err, p.do("rmsem "+args[0]), p.do("remove "+args[1]))
}

// endRead waits for V(0), or for the end of the process that made the P(1).
func (p *player) endRead(semkey string) error {
	id, _, err := findSemaphores(semkey)
	if err != nil {
		return err
	}
	done, reader := make(chan error, 1), -1 // a pidfd
	go func() { done <- p.semop(semkey, 0, -1) }()
	for {
		select {
		case err := <-done:
			return err
		case <-time.After(time.Millisecond):
		}
		if reader < 0 {
			pid := semctl(id, 1, getPID)
			if pid == os.Getpid() || pid <= 0 {
				continue // nobody has made the P(1), or a process unseen here
			}
			if reader, err = unix.PidfdOpen(pid, 0); err != nil {
				return nil // it has ended
			}
			defer unix.Close(reader)
		}
		if hasEnded(reader) {
			return nil
		}
	}
}

// receive SEMKEY [N] plays a reader, for N blocks or until the end. It prints the
// data to its standard error, and answers with the sizes of the blocks.
func (p *player) receive(args []string) error {
	most := 1 << 30
	if args[1] != "" {
		most, _ = strconv.Atoi(args[1])
	}
	if len(p.mem) < 8 {
		return errors.New("no segment is attached")
	}
	sizes := []string{}
	for range most {
		if err := p.semop(args[0], 1, -1); err != nil {
			return err
		}
		n := int(atomic.LoadInt32(p.cnt()))
		sizes = append(sizes, strconv.Itoa(n))
		if p.said = fmt.Sprint(len(sizes), " blocks"); len(sizes) <= 20 {
			p.said = strings.Join(sizes, " ")
		}
		if n < 0 || n > len(p.mem)-4 {
			return fmt.Errorf("cnt is %d", n)
		}
		os.Stderr.Write(p.mem[4 : 4+n])
		if err := p.semop(args[0], 0, +1); err != nil {
			return err
		}
		if n == 0 {
			break
		}
	}
	return nil
}

// next SEMKEY makes the reader's V(0), while the next P(1) already waits in
// another thread. So the reader gets its turn even if the writer removes the set
// right after that.
func (p *player) next(args []string) error {
	id, _, err := findSemaphores(args[0])
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- p.semop(args[0], 1, -1) }()
	for semctl(id, 1, getNCnt) == 0 && len(done) == 0 { // P(1) does not wait if the writer made one V too many
		time.Sleep(time.Millisecond)
	}
	return errors.Join(p.semop(args[0], 0, +1), <-done)
}

// leave SEMKEY is the last act of a reader: V(0).
func (p *player) leave(args []string) error {
	if err := p.semop(args[0], 0, +1); err != nil {
		return err
	}
	os.Exit(0)
	return nil
}

// spawn starts a child that does all further steps. This process never waits for
// it, so a child that has ended stays a zombie.
func (p *player) spawn([]string) error {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	fmt.Println("done")
	for {
		time.Sleep(time.Hour)
	}
}

// A giving03 is the decider of lab 03. A writer can be held before its V(1), which
// gives the reader its turn.
type giving03 struct{}

var rules03 = []rule{{unix.SYS_SEMOP, 0, always, 0}, {unix.SYS_SEMTIMEDOP, 0, always, 0}}

func (giving03) points() []string { return []string{"give"} }

func (giving03) at(c call) []string {
	operations := make([]byte, 6*min(c.args[2], 8)) // struct sembuf
	memoryOf(c.thread, c.args[1], operations)
	for o := range slices.Chunk(operations, 6) {
		if binary.NativeEndian.Uint16(o) == 1 && int16(binary.NativeEndian.Uint16(o[2:])) > 0 {
			return []string{"give"}
		}
	}
	return nil
}

func (giving03) missing(name, _ string) string {
	return name + " has not called semop for a V(1)"
}

// TestPolling checks that programs that look again and again lose points in the
// scripts that are about it, and in no others.
func TestPolling(t *testing.T) {
	needWorlds(t)
	t.Parallel()
	a, err := txtar.ParseFile("testdata/03-producer-consumer/lab/wrong/looks-again.txtar")
	if err != nil {
		t.Fatal(err)
	}
	l := labs[1]
	sub := &submission{lab: l, changed: buildWrong(t, l, a, wrongFields(a))}
	for _, name := range strings.Fields("leftovers reader-killed reader-signals removed stopped writer-killed writer-signals") {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if v := sub.judge(findScript(t, l, name)); v.status != "passed" {
				t.Errorf("%s%s", v.feedback(), v.printed)
			}
		})
	}
}
