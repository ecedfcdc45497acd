//go:build linux

package shm_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

const (
	scriptTime = time.Minute      // a program that takes longer hangs
	untilTime  = 20 * time.Second // how long "until" waits

	// A tick is the time from one look to the next, while a test waits.
	// Patience is counted in ticks: a busy machine delays the programs and
	// the ticks alike.
	tick = 10 * time.Millisecond
)

// eventually looks again and again whether something is so, as long as patience
// lasts. It tells whether it was so.
func eventually(patience time.Duration, seen func() bool) bool {
	for ; !seen(); patience -= tick {
		if patience <= 0 {
			return false
		}
		time.Sleep(tick)
	}
	return true
}

// A process is a program in the background. Its output is in files, so that
// scripts can look at it while it runs.
type process struct {
	cmd      *exec.Cmd
	files    [2]string     // where its output is, if it is not captured
	keyboard *os.File      // writes to its standard input, or nil
	ended    chan struct{} // closed when it has been waited for
	labState
}

// A labState is what only the labs need to know of a program.
type labState struct {
	captured  [2]*capture // its output
	told      int         // how many steps a peer was told to do
	removes   bool        // one of these steps removes something
	holds     bool        // the last step was a P
	sets      []int       // the semaphore sets that a peer has made
	nap       nap         // its longest sleep, in lab 04
	locks     bool        // it was told to lock a mutex, and not yet to unlock it
	toldAt    time.Time   // when it was told the last step
	signalled bool        // the script has sent it a signal
	judged    bool        // it is the student's
	expected  bool        // it has ended as the script says
	started   time.Time   // when it was started
	pid       int         // its pid in its own PID namespace
	woke      int         // its wake-ups when the script asked first, plus 1
	turn      *int        // its wake-ups and ticks when it began to wait for its turn, in lab 03
	asked     int         // how often the script asked whether it idles
	holder    *holder     // holds its calls, if it was started with -hold
	children  []int       // pidfds of the children that it had at a signal
}

// startProcess starts a program. Its output goes to dir/name.out and dir/name.err.
func startProcess(cmd *exec.Cmd, dir, name string) (*process, error) {
	p := &process{cmd: cmd, ended: make(chan struct{}),
		files: [2]string{filepath.Join(dir, name+".out"), filepath.Join(dir, name+".err")}}
	stdout, err := os.Create(p.files[0])
	if err != nil {
		return nil, err
	}
	defer stdout.Close()
	stderr, err := os.Create(p.files[1])
	if err != nil {
		return nil, err
	}
	defer stderr.Close()
	if cmd.Stdout == nil {
		cmd.Stdout = stdout
	}
	cmd.Stderr = stderr
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = unix.SIGKILL
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() { // wait at once: a zombie looks like a process that runs
		cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// within waits for the end of a process as long as patience lasts. It tells
// whether the process has ended.
func (p *process) within(patience time.Duration) bool {
	for ; patience > 0; patience -= tick {
		select {
		case <-p.ended:
			return true
		case <-time.After(tick):
		}
	}
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// kill kills a process. It tells whether the process has ended: it may be stuck
// in the kernel.
func (p *process) kill() bool { return p.killIn(untilTime) }

func (p *process) killIn(patience time.Duration) bool {
	if !p.within(0) {
		for _, pid := range tree(p.cmd.Process.Pid) { // a program that it traces goes on
			unix.Kill(pid, unix.SIGKILL)
		}
	}
	return p.within(patience)
}

func (p *process) stdout() string { return p.output(0) }
func (p *process) stderr() string { return p.output(1) }

func (p *process) output(which int) string {
	if c := p.captured[which]; c != nil {
		return c.String()
	}
	text, _ := os.ReadFile(p.files[which])
	return string(text)
}

// status is the exit status of a process, or the name of the signal that ended
// it, or "running".
func (p *process) status() string {
	if !p.within(0) {
		return "running"
	}
	if w := p.cmd.ProcessState.Sys().(syscall.WaitStatus); w.Signaled() {
		return strings.TrimPrefix(unix.SignalName(w.Signal()), "SIG")
	}
	return strconv.Itoa(p.cmd.ProcessState.ExitCode())
}

// panicked tells whether a Go program has crashed. Its exit status is then 2, as
// with wrong usage, so the text must tell.
func (p *process) panicked() bool {
	text := p.stderr()
	return strings.Contains(text, "\ngoroutine ") || strings.Contains(text, "DATA RACE")
}

func (p *process) String() string {
	return fmt.Sprintf("%s\n  status %s\n  stdout: %s\n  stderr: %s",
		strings.Join(p.cmd.Args, " "), p.status(), elide(p.stdout()), elide(p.stderr()))
}

// A session is what our own commands of a script work on.
type session struct {
	world    *world
	running  map[string]*process
	attached map[string][]byte
	open     []*os.File // what programs read, until the end
	lab      *labRun    // nil but in a lab
}

type command = func(ts *testscript.TestScript, neg bool, args []string)

// A form is how a command can be written, such as "segment KEY attached N". A word in
// capitals stands for any word, [WORD] may be missing, and WORD... is one or more.
type form struct {
	words string
	do    func(s *session, ts *testscript.TestScript, args []string)
}

// commands are our own commands. testdata/README.md lists them. A command that has
// none of its forms fails. Otherwise a wrong word could make a check that checks
// nothing.
func commands() map[string]command {
	commands := map[string]command{}
	for name, forms := range map[string][]form{
		"start":  {{"NAME PROGRAM [ARG...]", (*session).start}},
		"finish": {{"NAME STATUS [WITHIN]", (*session).finish}},
		"enter":  {{"NAME", (*session).enter}},
		"signal": {{"NAME SIGNAL", (*session).signal}},
		"status": {{"STATUS PROGRAM [ARG...]", (*session).status}},
		"until": {
			{"segment KEY exists|gone", (*session).untilSegment},
			{"segment KEY attached N", (*session).untilSegment},
			{"semaphores KEY exists|gone", (*session).untilSemaphores},
			{"file FILE exists|gone", (*session).untilFile},
			{"NAME prints TEXT...", (*session).untilProgram},
			{"NAME waits|looks|stays-asleep|ends", (*session).untilProgram},
		},
		"segment": {
			{"make KEY SIZE [MODE]", (*session).segmentMake},
			{"attach|detach|remove|id KEY", (*session).segment},
			{"mode KEY BITS", (*session).segment},
			{"give KEY UID", (*session).segment},
			{"fill KEY OFFSET COUNT LETTER", (*session).segment},
			{"int32 KEY OFFSET VALUE [NAME]", (*session).segment},
		},
		"semaphores": {
			{"make KEY VALUE...", (*session).semaphores},
			{"add KEY NUMBER N", (*session).semaphores},
			{"remove KEY", (*session).semaphores},
		},
		"letters":      {{"COUNT LETTER...", (*session).letters}},
		"nothing-left": {{"", (*session).nothingLeft}},
	} {
		commands[name] = func(ts *testscript.TestScript, neg bool, args []string) {
			usage := "usage:"
			for _, f := range forms {
				if !neg && f.fits(args) {
					f.do(ts.Value("session").(*session), ts, args)
					return
				}
				usage += "\n  " + name + " " + f.words
			}
			ts.Fatalf("%s", usage)
		}
	}
	return commands
}

// fits tells whether the arguments of a command have this form.
func (f form) fits(args []string) bool {
	pattern, text := "", ""
	for word := range strings.FieldsSeq(f.words) {
		name := strings.Trim(word, "[.]")
		if name == strings.ToUpper(name) {
			name = "[^\x00]*"
		}
		one := "(?:(?:" + name + ")\x00)"
		if strings.Contains(word, "...") {
			one = "(?:" + one + "+)"
		}
		if strings.HasPrefix(word, "[") {
			one += "?"
		}
		pattern += one
	}
	for _, arg := range args {
		text += arg + "\x00"
	}
	return regexp.MustCompile("^" + pattern + "$").MatchString(text)
}

// start starts a program in the background.
func (s *session) start(ts *testscript.TestScript, args []string) {
	name := args[0]
	if s.running[name] != nil {
		ts.Fatalf("%s is running already", name)
	}
	cmd, keyboard := s.command(ts, args[1:])
	p, err := startProcess(cmd, ts.MkAbs("."), name)
	ts.Check(err)
	p.keyboard = keyboard
	s.running[name] = p
}

// command is a program on the script's PATH, in its directory. After -uid=N
// it is run as that user; after -stdin=FILE it reads that file, and after
// -stdin= it waits for what "enter" types.
func (s *session) command(ts *testscript.TestScript, args []string) (*exec.Cmd, *os.File) {
	uid, other := option(&args, "-uid=")
	file, input := option(&args, "-stdin=")
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		ts.Fatalf("want [-uid=N] [-stdin=FILE] PROGRAM [ARG...]")
	}
	program := args[0]
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		path := filepath.Join(dir, program)
		if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 &&
			info.Mode().IsRegular() && !strings.Contains(program, "/") {
			program = path
			break
		}
	}
	cmd := exec.Command(program, args[1:]...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = append(os.Environ(), "PATH="+ts.Getenv("PATH"))
	var keyboard *os.File
	if input {
		cmd.Stdin, keyboard = s.openInput(ts, file)
	}
	if other {
		id, err := strconv.ParseUint(uid, 10, 32)
		ts.Check(err)
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Credential: &syscall.Credential{Uid: uint32(id), Gid: uint32(id)}}
		cmd.Dir = "/" // another user may not enter the script's own directory
	}
	return cmd, keyboard
}

// option takes an option such as -uid=N off the arguments.
func option(args *[]string, name string) (value string, given bool) {
	if len(*args) > 0 {
		if value, given = strings.CutPrefix((*args)[0], name); given {
			*args = (*args)[1:]
			return value, true
		}
	}
	return "", false
}

// openInput opens a file for a program to read. Without a name it makes a pipe,
// and returns the other end, too. Both are closed at the script's end. The name
// "unreadable" stands for an input whose read fails.
func (s *session) openInput(ts *testscript.TestScript, file string) (stdin, keyboard *os.File) {
	var err error
	switch file {
	case "":
		stdin, keyboard, err = os.Pipe()
		s.open = append(s.open, keyboard)
	case "unreadable": // with a directory, Python ends before the program begins
		stdin, err = os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	default:
		stdin, err = os.Open(ts.MkAbs(file))
	}
	ts.Check(err)
	s.open = append(s.open, stdin)
	return stdin, keyboard
}

// finish waits for the program's end and checks how it ended. Its output is
// then there for stdout, stderr and cmp.
func (s *session) finish(ts *testscript.TestScript, args []string) {
	p, within := s.process(ts, args[0]), scriptTime
	if len(args) > 2 {
		var err error
		within, err = time.ParseDuration(args[2])
		ts.Check(err)
	}
	if !p.within(within) {
		ts.Fatalf("%s is still running after %v\n%v", args[0], within, p)
	}
	delete(s.running, args[0])
	fmt.Fprint(ts.Stdout(), p.stdout())
	fmt.Fprint(ts.Stderr(), p.stderr())
	if p.panicked() {
		ts.Fatalf("panic or data race")
	}
	if got := p.status(); !slices.Contains(strings.Split(args[1], "|"), got) {
		ts.Fatalf("ended with %s, want %s", got, args[1])
	}
}

// status runs a program to its end and checks its exit status.
func (s *session) status(ts *testscript.TestScript, args []string) {
	const name = "the-program-of-status"
	s.start(ts, append([]string{name}, args[1:]...))
	s.finish(ts, []string{name, args[0]})
}

func (s *session) process(ts *testscript.TestScript, name string) *process {
	p := s.running[name]
	if p == nil {
		ts.Fatalf("%s was not started", name)
	}
	return p
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

// signal sends a signal. A program that has just ended is no failure.
func (s *session) signal(ts *testscript.TestScript, args []string) {
	sig := parseSignal(ts, args[1])
	err := s.process(ts, args[0]).cmd.Process.Signal(sig)
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		ts.Fatalf("signal %s: %v", args[0], err)
	}
}

// parseSignal is the signal of a name such as INT.
func parseSignal(ts *testscript.TestScript, name string) unix.Signal {
	sig := unix.SignalNum("SIG" + name)
	if sig == 0 {
		ts.Fatalf("no such signal: %s", name)
	}
	return sig
}

// until waits for something that can be seen.
func (s *session) until(ts *testscript.TestScript, args []string, seen func() bool) {
	if !eventually(untilTime, seen) {
		all := ""
		for name, p := range s.running {
			all += fmt.Sprintf("\n%s: %v", name, p)
		}
		ts.Fatalf("waited %v in vain until %s%s", untilTime, strings.Join(args, " "), all)
	}
}

func (s *session) untilFile(ts *testscript.TestScript, args []string) {
	s.until(ts, args, func() bool {
		_, err := os.Lstat(ts.MkAbs(args[1]))
		return (err == nil) == (args[2] == "exists")
	})
}

func (s *session) untilSemaphores(ts *testscript.TestScript, args []string) {
	key := parseKey(ts, args[1])
	s.until(ts, args, func() bool { return (semget(key, 0, 0) >= 0) == (args[2] == "exists") })
}

func (s *session) untilSegment(ts *testscript.TestScript, args []string) {
	key := parseKey(ts, args[1])
	var attached uint64
	if args[2] == "attached" {
		var err error
		attached, err = strconv.ParseUint(args[3], 10, 64)
		ts.Check(err)
	}
	s.until(ts, args, func() bool {
		var ds unix.SysvShmDesc
		id, err := unix.SysvShmGet(key, 0, 0)
		if err == nil && tables[0].control(id, tables[0].stat, unsafe.Pointer(&ds)) < 0 {
			err = unix.EIDRM
		}
		switch args[2] {
		case "exists":
			return err == nil
		case "gone":
			return err == unix.ENOENT
		}
		return err == nil && ds.Nattch == attached
	})
}

func (s *session) untilProgram(ts *testscript.TestScript, args []string) {
	p := s.process(ts, args[0])
	does := p.does(args[1], args[2:])
	s.until(ts, args, func() bool {
		ended := p.within(0)
		if does() {
			return true
		} else if ended {
			ts.Fatalf("%s ended and did not: %s\n%v", args[0], strings.Join(args[1:], " "), p)
		}
		return false
	})
}

// does returns a function that tells whether a program does something. It may be
// called many times.
func (p *process) does(what string, args []string) func() bool {
	pid := p.cmd.Process.Pid
	last, count := -1, 0
	switch what {
	case "prints":
		text := strings.Join(args, " ")
		return func() bool { return strings.Contains(p.stdout()+p.stderr(), text) }
	case "ends":
		return func() bool { return p.within(0) }
	case "waits": // all its threads sleep, three times in a row
		return func() bool {
			if count++; !idle(pid, "S") {
				count = 0
			}
			return count == 3
		}
	case "looks": // it has been woken up ten times, a while apart
		return func() bool {
			if now := switches(pid); now != last {
				last = now
				count++
			}
			return count == 11
		}
	default: // stays-asleep: it has not been woken up for a while
		return func() bool {
			now := switches(pid)
			if count++; now != last || !idle(pid, "ST") { // it runs, or has not run yet
				last, count = now, 0
			}
			return count == 20
		}
	}
}

// statusField is a field of a process in /proc/PID/status. See proc(5).
func statusField(pid int, name string) (value string) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if _, after, ok := strings.Cut(string(text), "\n"+name+":"); ok {
		fmt.Sscan(after, &value)
	}
	return value
}

// idle tells whether all threads of a process are in one of these states: S for
// sleeping, T for stopped.
func idle(pid int, states string) bool {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, file := range tasks {
		if fields := statFields(file); len(fields) == 0 || !strings.Contains(states, fields[0]) {
			return false
		}
	}
	return len(tasks) > 0
}

// statFields are the fields of a stat file from the third on, the state. The second
// is the program's name, in parentheses. See proc_pid_stat(5).
func statFields(file string) []string {
	text, _ := os.ReadFile(file)
	return strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
}

// switches counts how often the threads of a process began to wait. The number
// grows while a program looks again and again.
func switches(pid int) (n int) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	for _, dir := range tasks {
		thread, _ := strconv.Atoi(filepath.Base(dir))
		count, _ := strconv.Atoi(statusField(thread, "voluntary_ctxt_switches"))
		n += count
	}
	return n
}

func parseKey(ts *testscript.TestScript, text string) int {
	key, err := strconv.ParseUint(text, 0, 32)
	ts.Check(err)
	return int(key)
}

// parseNumber is a number among a command's arguments.
func parseNumber(ts *testscript.TestScript, text string) int {
	n, err := strconv.ParseInt(text, 0, 64)
	ts.Check(err)
	return int(n)
}

// segmentMake makes a segment, as shmget does, and does not attach it.
func (s *session) segmentMake(ts *testscript.TestScript, args []string) {
	mode := 0o600
	if len(args) > 3 {
		mode = parseNumber(ts, args[3])
	}
	_, err := unix.SysvShmGet(parseKey(ts, args[1]), parseNumber(ts, args[2]), unix.IPC_CREAT|unix.IPC_EXCL|mode)
	ts.Check(err)
}

// segment lets a script play another process, byte by byte.
func (s *session) segment(ts *testscript.TestScript, args []string) {
	verb, key := args[0], args[1]
	mem := s.attached[key]
	id, err := unix.SysvShmGet(parseKey(ts, key), 0, 0)
	if err != nil && mem == nil {
		ts.Fatalf("segment %s %s: %v", verb, key, err)
	}
	if mem == nil && (verb == "fill" || verb == "int32" || verb == "detach") {
		ts.Fatalf("segment attach %s comes first", key)
	}
	var ds unix.SysvShmDesc
	if verb == "mode" || verb == "give" {
		_, err = unix.SysvShmCtl(id, unix.IPC_STAT, &ds)
		ts.Check(err)
	}
	switch verb {
	case "attach":
		s.attached[key], err = unix.SysvShmAttach(id, 0, 0)
		ts.Check(err)
	case "detach":
		ts.Check(unix.SysvShmDetach(mem))
		delete(s.attached, key)
	case "remove":
		_, err = unix.SysvShmCtl(id, unix.IPC_RMID, nil)
		ts.Check(err)
	case "mode": // segment mode KEY BITS: it has these permissions
		if got := fmt.Sprintf("%o", ds.Perm.Mode&0o777); got != args[2] {
			ts.Fatalf("mode %s, want %s", got, args[2])
		}
	case "id": // segment id KEY: sets $ID to the segment's
		ts.Setenv("ID", strconv.Itoa(id))
	case "give": // segment give KEY UID: to another user
		ds.Perm.Uid = uint32(parseNumber(ts, args[2]))
		_, err = unix.SysvShmCtl(id, unix.IPC_SET, &ds)
		ts.Check(err)
	case "fill": // segment fill KEY OFFSET COUNT LETTER
		n := offset(ts, mem, args[3], 0)
		at := offset(ts, mem, args[2], n)
		if len(args[4]) != 1 {
			ts.Fatalf("want one letter, not %s", args[4])
		}
		copy(mem[at:at+n], bytes.Repeat([]byte(args[4]), n))
	case "int32": // segment int32 KEY OFFSET VALUE [NAME]
		word, value := (*int32)(unsafe.Pointer(&mem[offset(ts, mem, args[2], 4)])), int32(parseNumber(ts, args[3]))
		atomic.StoreInt32(word, value)
		if len(args) > 4 { // again and again until NAME ends: others write there, too
			p := s.process(ts, args[4])
			for end := time.Now().Add(untilTime); !p.within(0) && time.Now().Before(end); {
				time.Sleep(time.Millisecond)
				atomic.StoreInt32(word, value)
			}
		}
	}
}

// offset is an offset at which a segment has n more bytes.
func offset(ts *testscript.TestScript, mem []byte, text string, n int) int {
	at := parseNumber(ts, text)
	if at < 0 || at+n > len(mem) {
		ts.Fatalf("the segment has %d bytes, and not %d from %s on", len(mem), n, text)
	}
	return at
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
		var err error
		eventually(untilTime, func() bool {
			err = semopRetry(semget(key, 0, 0), num, int(n), unix.IPC_NOWAIT)
			return err != unix.EAGAIN
		})
		if err != nil {
			ts.Fatalf("semop: %v", err)
		}
	}
	switch args[0] {
	case "make":
		if semget(key, len(numbers), unix.IPC_CREAT|unix.IPC_EXCL|0o600) < 0 {
			ts.Fatalf("semget %#x failed", key)
		}
		for num, n := range numbers {
			if n != 0 { // a new semaphore is 0 already: no semop is made for it
				add(num, n)
			}
		}
	case "add":
		add(int(numbers[0]), numbers[1])
	case "remove":
		if tables[1].control(semget(key, 0, 0), unix.IPC_RMID, nil) < 0 {
			ts.Fatalf("there is no semaphore set %#x to remove", key)
		}
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
	count, err := strconv.ParseUint(args[0], 10, 16)
	ts.Check(err)
	for _, letter := range args[1:] {
		ts.Setenv(letter, strings.Repeat(letter, int(count)))
	}
}

// nothingLeft checks now what is checked at the end of every script.
func (s *session) nothingLeft(ts *testscript.TestScript, args []string) {
	if left := s.world.left(); len(left) > 0 {
		ts.Fatalf("left behind: %s", strings.Join(left, " "))
	}
}

// end kills the programs that the script has left running, and looks for the
// objects that were left.
func (s *session) end(t testscript.T) {
	result := t.(interface {
		Failed() bool
		Errorf(string, ...any)
	})
	skipped, _ := t.(interface{ Skipped() bool })
	ok := !result.Failed() && (skipped == nil || !skipped.Skipped())
	for name, p := range s.running {
		if ok {
			result.Errorf("%s was started and never waited for", name)
		}
		if !p.kill() {
			result.Errorf("%s cannot be killed", name)
		}
	}
	for _, f := range s.open {
		f.Close()
	}
	for _, mem := range s.attached {
		unix.SysvShmDetach(mem)
	}
	if left := s.world.left(); ok && len(left) > 0 {
		result.Errorf("left behind: %s", strings.Join(left, " "))
	}
}
