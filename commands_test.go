//go:build linux

package shm_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// A session is what a script's own commands work on: the programs that it
// started and the segments that it has attached.
type session struct {
	job      job
	running  map[string]*process
	attached map[string][]byte
	open     []*os.File // what programs read, until the end
	keyboard *os.File   // of the program started last with -stdin=
}

// process is a program in the background. Its output is in files, so that
// a script can look at it while it runs.
type process struct {
	cmd      *exec.Cmd
	out, err string        // names of files
	keyboard *os.File      // if it has one, its standard input
	ended    chan struct{} // closed when it has been waited for
}

type command = func(ts *testscript.TestScript, neg bool, args []string)

// commands are those that testscript lacks. The README lists them.
func (s *session) commands() map[string]command {
	usages := map[string]struct {
		usage string
		least int
		do    func(ts *testscript.TestScript, args []string)
	}{
		"start":        {"start NAME PROGRAM [ARG...]", 2, s.start},
		"finish":       {"finish NAME STATUS|SIGNAL [WITHIN]", 2, s.finish},
		"enter":        {"enter NAME", 1, s.enter},
		"signal":       {"signal NAME SIGNAL", 2, s.signal},
		"status":       {"status STATUS PROGRAM [ARG...]", 2, s.status},
		"until":        {"until segment KEY exists|gone|attached N, until semaphores KEY exists, until file FILE exists|gone, until NAME prints TEXT|catches SIGNAL|waits|looks|stands|ends", 2, s.until},
		"segment":      {"segment make|give|attach|detach|remove|fill|int32|mode|id KEY ...", 2, s.segment},
		"semaphores":   {"semaphores make KEY VALUE..., add KEY NUMBER N, remove KEY", 2, s.semaphores},
		"letters":      {"letters COUNT LETTER...", 2, s.letters},
		"nothing-left": {"nothing-left", 0, s.nothingLeft},
	}
	commands := map[string]command{}
	for name, c := range usages {
		commands[name] = func(ts *testscript.TestScript, neg bool, args []string) {
			if neg || len(args) < c.least {
				ts.Fatalf("usage: %s", c.usage)
			}
			c.do(ts, args)
		}
	}
	return commands
}

// start starts a program in the background.
func (s *session) start(ts *testscript.TestScript, args []string) {
	name := args[0]
	if s.running[name] != nil {
		ts.Fatalf("%s is running already", name)
	}
	p := &process{
		out:   ts.MkAbs(name + ".out"),
		err:   ts.MkAbs(name + ".err"),
		ended: make(chan struct{}),
	}
	s.keyboard = nil
	p.cmd = s.command(ts, args[1:])
	p.keyboard = s.keyboard
	stdout, err := os.Create(p.out)
	ts.Check(err)
	defer stdout.Close()
	stderr, err := os.Create(p.err)
	ts.Check(err)
	defer stderr.Close()
	p.cmd.Stdout, p.cmd.Stderr = stdout, stderr
	ts.Check(p.cmd.Start())
	s.running[name] = p
	go func() { // at once, so that nobody is misled by a zombie
		p.cmd.Wait()
		close(p.ended)
	}()
}

// command is a program on the script's PATH, in its directory. After -uid=N
// it is run as that user; after -stdin=FILE it reads that, and after -stdin=
// it waits for input that never comes.
func (s *session) command(ts *testscript.TestScript, args []string) *exec.Cmd {
	as, other := strings.CutPrefix(args[0], "-uid=")
	file, input := strings.CutPrefix(args[0], "-stdin=")
	if other || input {
		args = args[1:]
	}
	program := args[0]
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		file := filepath.Join(dir, program)
		if info, err := os.Stat(file); err == nil && info.Mode()&0o111 != 0 &&
			info.Mode().IsRegular() && !strings.Contains(program, "/") {
			program = file
			break
		}
	}
	cmd := exec.Command(program, args[1:]...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = append(os.Environ(), "PATH="+ts.Getenv("PATH"), jobVariable+"=")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if input && file == "" {
		r, w, err := os.Pipe()
		ts.Check(err)
		s.open = append(s.open, r, w)
		s.keyboard = w
		cmd.Stdin = r
	} else if input {
		f, err := os.Open(ts.MkAbs(file))
		ts.Check(err)
		s.open = append(s.open, f)
		cmd.Stdin = f
	}
	if other {
		uid, err := strconv.ParseUint(as, 10, 32)
		ts.Check(err)
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}
		cmd.Dir = "/" // the script's own directory is not for others
	}
	return cmd
}

// finish waits for the program's end, at the most for so long, and checks how
// it ended; its output is then there for stdout, stderr and cmp.
func (s *session) finish(ts *testscript.TestScript, args []string) {
	p := s.process(ts, args[0])
	within := scriptTime
	if len(args) > 2 {
		var err error
		within, err = time.ParseDuration(args[2])
		ts.Check(err)
	}
	if !closed(p.ended, within) {
		ts.Fatalf("%s is still running after %v\n%s%s", args[0], within,
			ts.ReadFile(p.out), ts.ReadFile(p.err))
	}
	delete(s.running, args[0])
	fmt.Fprint(ts.Stdout(), ts.ReadFile(p.out))
	fmt.Fprint(ts.Stderr(), ts.ReadFile(p.err))
	checkStatus(ts, p.cmd.ProcessState, ts.ReadFile(p.err), args[1])
}

func (s *session) process(ts *testscript.TestScript, name string) *process {
	p := s.running[name]
	if p == nil {
		ts.Fatalf("%s was not started", name)
	}
	return p
}

// status runs a program to its end and checks its exit status.
func (s *session) status(ts *testscript.TestScript, args []string) {
	cmd := s.command(ts, args[1:])
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	timer := time.AfterFunc(scriptTime, func() {
		if cmd.Process != nil {
			cmd.Process.Kill()
		}
	})
	defer timer.Stop()
	err := cmd.Run()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		ts.Fatalf("%v", err)
	}
	ts.Stdout().Write(stdout.Bytes())
	ts.Stderr().Write(stderr.Bytes())
	checkStatus(ts, cmd.ProcessState, stderr.String(), args[0])
}

// checkStatus wants an exit status or the name of the signal that killed.
// Wrong usage and a Go panic both exit with 2; a panic is never what is meant.
func checkStatus(ts *testscript.TestScript, state *os.ProcessState, stderr, want string) {
	if strings.Contains(stderr, "\ngoroutine ") || strings.Contains(stderr, "DATA RACE") {
		ts.Fatalf("panic or data race")
	}
	got := strconv.Itoa(state.ExitCode())
	if w := state.Sys().(syscall.WaitStatus); w.Signaled() {
		got = strings.TrimPrefix(unix.SignalName(w.Signal()), "SIG")
	}
	if got != want {
		ts.Fatalf("ended with %s, want %s", got, want)
	}
}

// enter presses Enter for a program that was started with -stdin=.
func (s *session) enter(ts *testscript.TestScript, args []string) {
	p := s.process(ts, args[0])
	if p.keyboard == nil {
		ts.Fatalf("%s has no keyboard: start it with -stdin=", args[0])
	}
	_, err := p.keyboard.WriteString("\n")
	ts.Check(err)
}

// signal sends a signal; that the program has just ended is no failure.
func (s *session) signal(ts *testscript.TestScript, args []string) {
	p := s.process(ts, args[0])
	sig := unix.SignalNum("SIG" + args[1])
	if sig == 0 {
		ts.Fatalf("no such signal: %s", args[1])
	}
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		ts.Fatalf("signal %s: %v", args[0], err)
	}
}

// until waits for something that can be seen.
func (s *session) until(ts *testscript.TestScript, args []string) {
	what := strings.Join(args[1:], " ")
	var seen func() bool
	if args[0] == "segment" {
		seen = segmentIs(ts, args[1], args[2:])
	} else if args[0] == "file" {
		seen = func() bool {
			_, err := os.Lstat(ts.MkAbs(args[1]))
			return (err == nil) == (args[2] == "exists")
		}
	} else if args[0] == "semaphores" {
		key := parseKey(ts, args[1])
		seen = func() bool { return semget(key, 0, 0) >= 0 }
	} else {
		p := s.process(ts, args[0])
		switch args[1] {
		case "prints":
			text := strings.Join(args[2:], " ")
			seen = func() bool {
				return strings.Contains(ts.ReadFile(p.out)+ts.ReadFile(p.err), text)
			}
		case "catches": // it has a handler for the signal
			sig := unix.SignalNum("SIG" + strings.Join(args[2:], " "))
			if sig == 0 {
				ts.Fatalf("no such signal: %s", what)
			}
			seen = func() bool {
				text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
				_, after, _ := strings.Cut(string(text), "\nSigCgt:\t")
				caught, _ := strconv.ParseUint(after[:min(16, len(after))], 16, 64)
				return caught&(1<<(sig-1)) != 0
			}
		case "stands": // it has been woken up no more for a while
			last, same := -1, 0
			seen = func() bool {
				now := switches(p.cmd.Process.Pid)
				if same++; now != last {
					last, same = now, 0
				}
				return same == 20
			}
		case "ends":
			seen = func() bool { return false }
		case "waits":
			asleep := 0
			seen = func() bool {
				if asleep++; !sleeping(p.cmd.Process.Pid) {
					asleep = 0
				}
				return asleep == 3
			}
		case "looks": // it has been woken up ten times, a while apart
			last, woken := switches(p.cmd.Process.Pid), 0
			seen = func() bool {
				if now := switches(p.cmd.Process.Pid); now != last {
					last = now
					woken++
				}
				return woken == 10
			}
		default:
			ts.Fatalf("until %s prints, catches, waits, looks, stands or ends, not %s", args[0], args[1])
		}
		look := seen
		seen = func() bool {
			ended := false
			select {
			case <-p.ended:
				ended = true
			default:
			}
			ok := look()
			if args[1] == "ends" {
				return ended
			}
			if !ok && ended {
				ts.Fatalf("%s ended (%v) and did not: %s\n%s%s", args[0],
					p.cmd.ProcessState, what, ts.ReadFile(p.out), ts.ReadFile(p.err))
			}
			return ok
		}
	}
	if !eventually(untilTime, seen) {
		ts.Fatalf("waited %v in vain until %s %s\n%s", untilTime, args[0], what, s.outputs(ts))
	}
}

// A tick is how often a test looks for what it waits for, and what it counts
// its patience in. A machine that is busy, or that stands still for a while,
// holds up the programs and the ticks alike.
const tick = 10 * time.Millisecond

// eventually looks until something is so, so long, and tells whether it was.
func eventually(left time.Duration, seen func() bool) bool {
	for ; !seen(); left -= tick {
		if left <= 0 {
			return false
		}
		time.Sleep(tick)
	}
	return true
}

// closed waits for a channel to be closed, so long, and tells whether it was.
func closed(c <-chan struct{}, left time.Duration) bool {
	for ; left > 0; left -= tick {
		select {
		case <-c:
			return true
		case <-time.After(min(left, tick)):
		}
	}
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// outputs are what the programs in the background have said until now.
func (s *session) outputs(ts *testscript.TestScript) string {
	var all strings.Builder
	for name, p := range s.running {
		text := elide(ts.ReadFile(p.out) + ts.ReadFile(p.err))
		fmt.Fprintf(&all, "%s:\n%s", name, text[max(0, len(text)-3000):])
	}
	return all.String()
}

// sleeping tells whether all threads of a process are waiting.
func sleeping(pid int) bool {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, file := range tasks {
		text, _ := os.ReadFile(file)
		if _, state, ok := strings.Cut(string(text), ") "); !ok || state[0] != 'S' {
			return false
		}
	}
	return len(tasks) > 0
}

// switches counts how often the threads of a process went to wait: one that
// looks again and again is known by it.
func switches(pid int) (n int) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	for _, file := range tasks {
		text, _ := os.ReadFile(file)
		if _, after, ok := strings.Cut(string(text), "\nvoluntary_ctxt_switches:"); ok {
			count := 0
			fmt.Sscan(after, &count)
			n += count
		}
	}
	return n
}

func segmentIs(ts *testscript.TestScript, key string, want []string) func() bool {
	k := parseKey(ts, key)
	state := strings.Join(want, " ")
	return func() bool {
		var ds unix.SysvShmDesc
		id, err := unix.SysvShmGet(k, 0, 0)
		if err == nil {
			const shmStatAny = 15 // needs no permission, takes an index
			_, err = unix.SysvShmCtl(id, shmStatAny, &ds)
		}
		switch {
		case state == "exists":
			return err == nil
		case state == "gone":
			return err == unix.ENOENT
		case len(want) == 2 && want[0] == "attached":
			return err == nil && fmt.Sprint(ds.Nattch) == want[1]
		}
		ts.Fatalf("until segment KEY exists, gone or attached N, not %s", state)
		return false
	}
}

func parseKey(ts *testscript.TestScript, text string) int {
	key, err := strconv.ParseUint(text, 0, 32)
	ts.Check(err)
	return int(key)
}

// segment lets a script play the other process, byte by byte.
func (s *session) segment(ts *testscript.TestScript, args []string) {
	verb, key := args[0], args[1]
	number := func(i int) int {
		if i >= len(args) {
			ts.Fatalf("segment %s: too few arguments", verb)
		}
		n, err := strconv.ParseInt(args[i], 0, 64)
		ts.Check(err)
		return int(n)
	}
	k := parseKey(ts, key)
	if verb == "make" { // segment make KEY SIZE [MODE]: as shmget, not attached
		mode := 0o600
		if len(args) > 3 {
			mode = number(3)
		}
		_, err := unix.SysvShmGet(k, number(2), unix.IPC_CREAT|unix.IPC_EXCL|mode)
		ts.Check(err)
		return
	}
	id, err := unix.SysvShmGet(k, 0, 0)
	if err != nil && s.attached[key] == nil {
		ts.Fatalf("segment %s %s: %v", verb, key, err)
	}
	mem := s.attached[key]
	if mem == nil && (verb == "fill" || verb == "int32") {
		ts.Fatalf("segment attach %s comes first", key)
	}
	switch verb {
	case "attach":
		mem, err := unix.SysvShmAttach(id, 0, 0)
		ts.Check(err)
		if s.attached == nil {
			s.attached = map[string][]byte{}
		}
		s.attached[key] = mem
	case "detach":
		ts.Check(unix.SysvShmDetach(mem))
		delete(s.attached, key)
	case "remove":
		_, err = unix.SysvShmCtl(id, unix.IPC_RMID, nil)
		ts.Check(err)
	case "mode": // segment mode KEY BITS: it has these permissions
		var ds unix.SysvShmDesc
		_, err = unix.SysvShmCtl(id, unix.IPC_STAT, &ds)
		ts.Check(err)
		if got := fmt.Sprintf("%o", ds.Perm.Mode&0o777); got != args[2] {
			ts.Fatalf("mode %s, want %s", got, args[2])
		}
	case "id": // segment id KEY: sets $ID to the segment's
		ts.Setenv("ID", strconv.Itoa(id))
	case "give": // segment give KEY UID: to another user
		var ds unix.SysvShmDesc
		_, err = unix.SysvShmCtl(id, unix.IPC_STAT, &ds)
		ts.Check(err)
		ds.Perm.Uid = uint32(number(2))
		_, err = unix.SysvShmCtl(id, unix.IPC_SET, &ds)
		ts.Check(err)
	case "fill": // segment fill KEY OFFSET COUNT LETTER
		at, n := number(2), number(3)
		copy(mem[at:at+n], bytes.Repeat([]byte(args[4]), n))
	case "int32": // segment int32 KEY OFFSET VALUE [NAME]: until NAME ends
		word, value := int32At(mem, number(2)), int32(number(3))
		atomic.StoreInt32(word, value)
		if len(args) > 4 { // which writes there, too
			p := s.process(ts, args[4])
			for end := time.Now().Add(untilTime); time.Now().Before(end); {
				select {
				case <-p.ended:
					return
				case <-time.After(time.Millisecond):
					atomic.StoreInt32(word, value)
				}
			}
		}
	default:
		ts.Fatalf("segment %s: no such verb", verb)
	}
}

// semaphores lets a script play the other process of a pair that has them.
func (s *session) semaphores(ts *testscript.TestScript, args []string) {
	key := parseKey(ts, args[1])
	numbers := make([]int16, len(args)-2)
	for i, arg := range args[2:] {
		n, err := strconv.ParseInt(arg, 0, 16)
		ts.Check(err)
		numbers[i] = int16(n)
	}
	add := func(num int, n int16) {
		if err := semop(semget(key, 0, 0), num, int(n), 0); err != nil {
			ts.Fatalf("semop: %v", err)
		}
	}
	switch verb := args[0]; {
	case verb == "make":
		if semget(key, len(numbers), unix.IPC_CREAT|unix.IPC_EXCL|0o600) < 0 {
			ts.Fatalf("semget %#x failed", key)
		}
		for num, n := range numbers {
			if n != 0 { // as it is anyway: without values, no semop is seen
				add(num, n)
			}
		}
	case verb == "add" && len(numbers) == 2:
		add(int(numbers[0]), numbers[1])
	case verb == "remove":
		remove("sem", semget(key, 0, 0))
	default:
		ts.Fatalf("semaphores make, add or remove, not %s", verb)
	}
}

// semget returns the id of a semaphore set, or -1.
func semget(key, n, flags int) int {
	id, _, errno := unix.Syscall(unix.SYS_SEMGET, uintptr(key), uintptr(n), uintptr(flags))
	if errno != 0 {
		return -1
	}
	return int(id)
}

// letters sets $A to COUNT times A, and so on, for cmpenv.
func (s *session) letters(ts *testscript.TestScript, args []string) {
	count, err := strconv.Atoi(args[0])
	ts.Check(err)
	for _, letter := range args[1:] {
		ts.Setenv(letter, strings.Repeat(letter, count))
	}
}

// nothingLeft looks at once for what is looked for at every script's end.
func (s *session) nothingLeft(ts *testscript.TestScript, args []string) {
	if all := s.job.left(os.Getpid()); len(all) > 0 {
		ts.Fatalf("left behind: %s", strings.Join(all, ", "))
	}
}

// end kills what a failed script has left running and returns its status.
func (s *session) end(status int) int {
	for name, p := range s.running {
		if status == passed {
			fmt.Printf("FAIL: %s was started and never waited for\n", name)
			status = failed
		}
		p.cmd.Process.Kill()
		<-p.ended
	}
	for _, f := range s.open {
		f.Close()
	}
	for _, mem := range s.attached {
		unix.SysvShmDetach(mem)
	}
	return status
}
