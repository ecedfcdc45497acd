//go:build linux

package shm_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What only lab 01 needs: conditions about what a program has done over time, and
// steps of a peer that has a child.

func init() {
	maps.Copy(conditions, map[string]looker{
		"byte KEY OFFSET OP N":              lookByte,
		"looks NAME":                        lookLooks,
		"sleeps NAME":                       lookSleeps,
		"repeats NAME OP N":                 ofProgram(lookRepeats),
		"pace NAME FROM TO OP MILLISECONDS": ofProgram(lookPace),
		"blocks KEY LETTERS":                lookBlocks,
		"spacing OP MILLISECONDS":           lookSpacing,
		"cleared":                           lookCleared,
		"gap NAME OP MILLISECONDS":          lookGap,
		"speaks NAME":                       ofProgram(lookSpeaks),
		"succeeded NAME":                    ofProgram(lookSucceeded),
		"mixed":                             lookMixed,
	})
	moreSteps["child"] = (*player).childDoes
	moreSteps["kill-child"] = (*player).killChild
	moreSteps["catch"] = (*player).catch
	moreSteps["watch"] = (*player).watch
}

func lookByte(s *session, args []string) (bool, string, error) {
	part, state, err := s.at(args[0], args[1], 1)
	if state != "" || err != nil {
		return false, state, err
	}
	is, err := compare(int64(part[0]), args[2], args[3])
	return is, fmt.Sprintf("byte %s of the segment is %d", args[1], part[0]), err
}

// history is what the conditions of lab 01 remember from earlier looks.
type history struct {
	looks   map[string]*counter      // by the program's name
	letters string                   // of the blocks that were seen, each once
	first   time.Time                // when the first block was seen
	last    time.Time                // when the last block was seen
	cleared string                   // says that the writer has cleared a block, or empty
	gaps    map[string]time.Duration // from one look of a program to the next
}

type counter struct {
	switches, cpu, count int
	since                time.Time
}

// lookLooks waits, in await, until a program has looked ten times more: it has
// slept in between, or used the processor.
func lookLooks(s *session, args []string) (bool, string, error) { return s.comesRound(args[0], false) }

// lookSleeps does the same, but the program must have slept in between.
func lookSleeps(s *session, args []string) (bool, string, error) { return s.comesRound(args[0], true) }

func (s *session) comesRound(name string, asleep bool) (bool, string, error) {
	p := s.named(name)
	if p == nil || p.within(0) {
		return false, name + " has ended", nil
	}
	pids := tree(p.cmd.Process.Pid)
	now := counter{since: time.Now()}
	for _, pid := range pids {
		now.switches += switches(pid)
		now.cpu += processorTime(pid)
	}
	all := s.lab.history.looks
	c := all[name]
	if c == nil {
		all[name] = &now
		return false, name + " has not looked again", nil
	}
	if now.switches != c.switches || !asleep && now.cpu != c.cpu {
		c.switches = now.switches
		c.count++
	}
	if !asleep {
		c.cpu = now.cpu
	}
	if c.count >= 10 {
		s.lab.history.gaps[name] = time.Since(c.since) / 10
		delete(all, name)
		return true, name + " looks again and again", nil
	}
	state := name + " does not look again"
	if spent := now.cpu - c.cpu; asleep && spent > 0 {
		state = fmt.Sprintf("%s has used %d ms of processor time, and slept %d times", name, 10*spent, c.count)
	}
	return false, state, nil
}

// processorTime is the processor time of a process so far, in units of 10 ms.
func processorTime(pid int) int {
	fields := statFields(fmt.Sprintf("/proc/%d/stat", pid))
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return user + system
}

// lookMixed tells whether a program has printed a block of two characters, as it is
// while a writer puts a new block over an old one.
func lookMixed(s *session, _ []string) (bool, string, error) {
	for name, p := range s.programs() {
		for line := range strings.Lines(p.stdout()) {
			block, is := strings.CutPrefix(strings.TrimRight(line, "\x00\"\n"), "\"")
			if is && block != "" && strings.Trim(block, block[:1]) != "" {
				return true, fmt.Sprintf("%s has printed %s", name, short(line)), nil
			}
		}
	}
	return false, "no program has printed a block of two characters", nil
}

// lookRepeats counts how often a line on standard error was repeated.
func lookRepeats(s *session, p *process, args []string) (bool, string, error) {
	count, most, line := map[string]int{}, 0, ""
	for text := range strings.Lines(p.stderr()) {
		if count[text]++; count[text] > most {
			most, line = count[text], strings.TrimSpace(text)
		}
	}
	is, err := compare(int64(most), args[1], args[2])
	return is, fmt.Sprintf("%s has printed %d times %s on standard error", args[0], most, short(line)), err
}

// lookPace compares the time between two lines on standard output.
func lookPace(s *session, p *process, args []string) (bool, string, error) {
	from, e1 := strconv.Atoi(args[1])
	to, e2 := strconv.Atoi(args[2])
	if err := errors.Join(e1, e2); err != nil {
		return false, "", err
	}
	c := p.captured[0]
	c.lock.Lock()
	defer c.lock.Unlock()
	if len(c.lines) < to || from < 1 {
		return false, fmt.Sprintf("%s has printed %d lines", args[0], len(c.lines)), nil
	}
	took := c.lines[to-1].Sub(c.lines[from-1])
	is, err := compare(took.Milliseconds(), args[3], args[4])
	return is, fmt.Sprintf("line %d of the output of %s came %.1f s after line %d", to, args[0],
		took.Seconds(), from), err
}

// lookBlocks notes each new block in the segment, and waits, in await, for
// blocks of these letters.
func lookBlocks(s *session, args []string) (bool, string, error) {
	w := &s.lab.history
	size, _ := strconv.Atoi(s.lab.values["BLOCK"])
	text, state, err := s.at(args[0], "8", size)
	if err != nil {
		return false, "", err
	}
	if state == "" && text[0] != 0 && strings.Count(string(text), string(text[:1])) == size &&
		!strings.HasSuffix(w.letters, string(text[:1])) {
		w.letters += string(text[:1])
		w.last = time.Now()
		if w.first.IsZero() {
			w.first = w.last
		}
	}
	if state == "" && w.letters != "" {
		for field, at := range map[string]int{"cnt": 0, "buf": 8} {
			if part, gone, _ := s.at(args[0], strconv.Itoa(at), 4); gone == "" && string(part) == "\x00\x00\x00\x00" {
				w.cleared = fmt.Sprintf("%s was 0 after block %c", field, w.letters[len(w.letters)-1])
			}
		}
	}
	switch {
	case len(w.letters) >= len(args[1])-1 && without(args[1], w.letters): // one may be missed
		return true, "the blocks were " + w.letters, nil
	case w.letters == "":
		return false, fmt.Sprintf("no block of %d equal letters was seen", size), nil
	}
	return false, fmt.Sprintf("the blocks were %s, not %s", short(w.letters), args[1]), nil
}

// without tells whether rest is word without some of its letters, but with the
// last one.
func without(word, rest string) bool {
	if !strings.HasSuffix(rest, word[len(word)-1:]) {
		return false
	}
	for _, letter := range rest {
		_, after, found := strings.Cut(word, string(letter))
		if !found {
			return false
		}
		word = after
	}
	return true
}

// lookCleared tells whether the writer has cleared a block, while the script
// waited for blocks.
func lookCleared(s *session, _ []string) (bool, string, error) {
	cleared := s.lab.history.cleared
	return cleared != "", cleared, nil
}

// lookGap compares the time between two looks of a program, for which the script
// has waited before.
func lookGap(s *session, args []string) (bool, string, error) {
	gap := s.lab.history.gaps[args[0]]
	is, err := compare(gap.Milliseconds(), args[1], args[2])
	return is, fmt.Sprintf("%s looks once in %v", args[0], gap.Round(time.Millisecond)), err
}

// lookSpeaks tells whether a program has printed anything.
func lookSpeaks(s *session, p *process, args []string) (bool, string, error) {
	return p.stdout()+p.stderr() != "", args[0] + " has printed nothing", nil
}

// lookSucceeded tells whether a peer could do its last step.
func lookSucceeded(s *session, p *process, args []string) (bool, string, error) {
	answer := lastLine(p.stdout())
	return answer == "done", strings.TrimPrefix(answer, "error: "), nil
}

// lookSpacing compares the time from the first block that was seen to the last.
func lookSpacing(s *session, args []string) (bool, string, error) {
	w := &s.lab.history
	took := w.last.Sub(w.first)
	is, err := compare(took.Milliseconds(), args[0], args[1])
	return is, fmt.Sprintf("from block %.1s to the last one it took %.1f s", w.letters, took.Seconds()), err
}

// holdOutput fills the pipe to which a program prints, and stops reading, so that
// the program's next write waits. It leaves room for a number of bytes, less than
// a page. releaseOutput starts reading again.
func (c *capture) holdOutput(room int) error {
	parked := make(chan struct{})
	c.lock.Lock()
	held, ended := c.held != nil, c.closed
	if !held && !ended {
		c.held, c.parked = make(chan struct{}), parked
	}
	c.lock.Unlock()
	if held {
		return errors.New("its output is held already")
	} else if ended {
		return nil
	}
	if err := c.r.SetReadDeadline(time.Unix(1, 0)); err != nil {
		return err
	}
	select {
	case <-parked:
	case <-c.done: // the program has ended
		return nil
	}
	raw, err := c.r.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	raw.Control(func(fd uintptr) {
		w, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			failed = err
			return
		}
		defer unix.Close(w)
		if room > 0 { // the pipe has pages, and a write goes on in the last one
			size, err := unix.FcntlInt(uintptr(w), unix.F_GETPIPE_SZ, 0)
			page := os.Getpagesize()
			for size -= room; err == nil && size > 0; size -= min(size, page) {
				var n int
				n, err = unix.Write(w, make([]byte, min(size, page)))
				c.lock.Lock()
				c.filling += max(n, 0)
				c.lock.Unlock()
			}
			failed = err
			return
		}
		for _, size := range []int{4096, 1} {
			for {
				n, err := unix.Write(w, make([]byte, size))
				if n > 0 {
					c.lock.Lock()
					c.filling += n
					c.lock.Unlock()
				}
				if err == unix.EAGAIN {
					break
				} else if err != nil && err != unix.EINTR {
					failed = err
					return
				}
			}
		}
	})
	return failed
}

func (c *capture) releaseOutput() {
	c.lock.Lock()
	defer c.lock.Unlock()
	if c.held != nil {
		c.r.SetReadDeadline(time.Time{})
		close(c.held)
		c.held = nil
	}
}

// park is called when holdOutput has interrupted a read. It returns when the
// output is released.
func (c *capture) park() {
	c.lock.Lock()
	held, parked := c.held, c.parked
	c.parked = nil
	c.lock.Unlock()
	if parked != nil {
		close(parked)
	}
	if held != nil {
		<-held
	}
}

// catch looks for a segment, and then at its cnt, without a pause. When cnt is no
// longer 0, the whole block must be there. If the two processes do not run at the
// same time, the peer may see nothing of a mistake.
func (p *player) catch(args []string) error {
	key, err := strconv.ParseInt(args[0], 0, 64)
	block, e := strconv.Atoi(args[1])
	if err = errors.Join(err, e); err != nil {
		return err
	}
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); {
		id, err := unix.SysvShmGet(int(key), 0, 0)
		if err != nil {
			continue
		}
		mem, err := unix.SysvShmAttach(id, 0, 0)
		if err != nil || len(mem) < 8+block {
			return errors.Join(err, errors.New("the segment cannot be used"))
		}
		p.mem = mem
		cnt := (*int32)(unsafe.Pointer(&mem[0]))
		for time.Now().Before(end) {
			for range 1000 {
				if n := atomic.LoadInt32(cnt); n != 0 {
					letters := bytes.Count(mem[8:8+block], mem[8:9])
					if mem[8] == 0 || letters != block {
						return fmt.Errorf("when cnt was %d, %d of %d bytes of the block were there", n, letters, block)
					}
					return nil
				}
			}
		}
	}
	return errors.New("no block came")
}

// watch looks at cnt of the attached segment. It looks without a pause around the
// times when the second and the third block come. cnt must not be 0 then. As
// with catch, the peer may not see a 0 that stays only for a moment.
func (p *player) watch([]string) error {
	if len(p.mem) < 12 {
		return errors.New("no segment is attached")
	}
	cnt := p.cnt()
	letter := (*int32)(unsafe.Pointer(&p.mem[8]))
	if !eventually(15*time.Second, func() bool { return atomic.LoadInt32(cnt) != 0 }) {
		return errors.New("no block came")
	}
	for range 2 {
		last := atomic.LoadInt32(letter)
		time.Sleep(2700 * time.Millisecond)
		for end := time.Now().Add(time.Second); time.Now().Before(end); {
			for range 1000 {
				if atomic.LoadInt32(cnt) == 0 {
					return errors.New("cnt was 0 after a block")
				}
			}
			if atomic.LoadInt32(letter) != last {
				break
			}
		}
	}
	return nil
}

// A child is another peer, which this peer has started. This peer never waits for
// it, so a killed child stays a zombie.
type child struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	answers *bufio.Reader
}

// childDoes tells the child to do a step.
func (p *player) childDoes(args []string) error {
	if p.child == nil {
		cmd := exec.Command("/proc/self/exe")
		cmd.Args = []string{"peer"}
		in, e1 := cmd.StdinPipe()
		out, e2 := cmd.StdoutPipe()
		if err := errors.Join(e1, e2); err != nil {
			return err
		}
		if err := cmd.Start(); err != nil {
			return err
		}
		p.child = &child{cmd, in, bufio.NewReader(out)}
	}
	fmt.Fprintln(p.child.in, strings.TrimSpace(strings.Join(args, " ")))
	answer, err := p.child.answers.ReadString('\n')
	if reason, failed := strings.CutPrefix(strings.TrimSpace(answer), "error: "); failed {
		err = errors.New(reason)
	}
	return err
}

// killChild kills the child, and leaves it a zombie.
func (p *player) killChild([]string) error {
	if p.child == nil {
		return errors.New("there is no child")
	}
	pid := p.child.cmd.Process.Pid
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		return err
	}
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			return err
		}
	}
}
