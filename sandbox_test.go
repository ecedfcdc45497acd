//go:build linux

package shm_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Students' programs run in a sandbox. Each script has its own. There a program
// cannot see or signal other processes, reach the network, write a file that is
// there after the script's end, or read what it is compared with. When the script
// ends, all its processes are killed.

const (
	sandboxMemory   = 1 << 30  // bytes of private memory of one process
	sandboxFile     = 64 << 20 // bytes of one file, and of all files together
	sandboxBuild    = 1 << 30  // bytes of all files of a build
	sandboxSegments = "65536"  // pages of System V shared memory
	outputKept      = 1 << 20  // bytes of what a program prints
)

// sandboxProcesses are the processes and threads of one submission. If there are so
// many, the sandbox ends. The kernel's limit is higher: the sandbox should end before
// the program sees an error of fork, and goes another way. A runtime such as
// Java's has more threads where there are more processors.
var sandboxProcesses = 200 + 10*max(0, runtime.NumCPU()-4)

// A sandbox is what the programs of one script have in common.
type sandbox struct {
	dir        string // their /tmp: a file system of its own
	submission string // the student's folder, which they see and cannot change
	uid        int    // the uid of the programs; 0 for the grader's own
	building   bool   // the submission's build runs, and may write to submission
	init       *process
	running    []*process
	counted    time.Time // when the processes were counted last
}

// inSandbox says how to start one program, for the process that does it.
type inSandbox struct {
	Dir, Submission, Ours string
	Hide                  []string // directories that the program must not see
	UID                   int
	Namespaces, Building  bool
	Asked                 string // the list of calls that the kernel asks about, or empty
	Processes             uint64 // limit on the processes of this uid
	Argv                  []string
}

// The places that a program sees.
const (
	seenWork       = "/tmp/work"       // its working directory, empty
	seenSubmission = "/tmp/submission" // the student's folder
	seenOurs       = "/tmp/ours"       // our programs; students' programs do not see it
)

// sandboxUID is another uid than the grader's, and a different one for each
// sandbox, so that no two sandboxes share a limit on processes. systemd gives
// uids of this range to services that have no user of their own.
func sandboxUID() int {
	if os.Geteuid() != 0 {
		return 0
	}
	return 61184 + (41*os.Getpid()+int(sandboxes.Add(1)))%4336
}

var sandboxes atomic.Int32

// newSandbox makes a sandbox for programs that this thread starts. The thread is
// already in a world.
func newSandbox(dir, submission string, building bool) (*sandbox, error) {
	b := &sandbox{dir: dir, submission: submission, uid: sandboxUID(), building: building}
	if haveWorlds {
		options := fmt.Sprintf("mode=1777,size=%d", sandboxFile)
		if err := unix.Mount("tmp", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
			return nil, fmt.Errorf("mount %s: %w", dir, err)
		}
		os.WriteFile("/proc/sys/kernel/shmall", []byte(sandboxSegments), 0) // only root may
	} else if err := os.Chmod(dir, 0o1777); err != nil {
		return nil, err
	}
	for _, name := range []string{"work", "submission", "ours"} {
		path := filepath.Join(dir, name)
		if err := os.Mkdir(path, 0o755); err != nil {
			return nil, err
		}
	}
	if b.uid != 0 {
		if err := os.Chown(filepath.Join(dir, "work"), b.uid, b.uid); err != nil {
			note("programs run as your own user: the grader cannot use another one here")
			b.uid = 0
		}
	}
	if !haveWorlds {
		note("this machine allows no namespaces: programs see your files and processes, and reach the network")
		// A process whose parent has ended becomes a child of this process.
		return b, unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	}
	// When package os first starts or finds a process, it starts a child to
	// test for pidfds. That child must not become process 1 of the namespace.
	os.FindProcess(os.Getpid())
	// The next child of this thread is process 1 of a new PID namespace. When
	// it ends, the kernel kills all other processes there.
	if err := unix.Unshare(unix.CLONE_NEWPID); err != nil {
		note("programs can see other processes: " + err.Error())
		return b, nil
	}
	cmd := exec.Command(filepath.Join(built, "reap-all"))
	if !building {
		cmd.Args = append(cmd.Args, strconv.Itoa(sandboxProcesses))
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	p, err := startCaptured(cmd)
	b.init = p
	return b, err
}

// command is a program in the sandbox. If ours is not empty, it is the directory
// of a program of ours.
func (b *sandbox) command(asked, ours string, argv ...string) (*exec.Cmd, *os.File, error) {
	here := inSandbox{Dir: b.dir, Submission: b.submission, Ours: ours, UID: b.uid,
		Namespaces: haveWorlds, Building: b.building, Asked: asked,
		Argv: slices.Clone(argv), Processes: uint64(2 * sandboxProcesses)}
	if b.uid == 0 { // the grader's uid has other processes, too
		here.Processes = uint64(tasksOf(os.Getuid()) + 4*sandboxProcesses)
	}
	root, err := os.Getwd()
	if err != nil {
		return nil, nil, err
	}
	here.Hide = append(here.Hide, root, built, b.submission, os.TempDir(), os.Getenv(hideVariable))
	in := seenSubmission
	if ours != "" {
		in = seenOurs
	}
	if !haveWorlds {
		in = b.submission
		if ours != "" {
			in = ours
		}
	}
	if !filepath.IsAbs(argv[0]) {
		here.Argv[0] = filepath.Join(in, argv[0])
	}
	text, err := json.Marshal(here)
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.Command(filepath.Join(built, "sandbox"), string(text))
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=" + seenWork, "LANG=C.UTF-8", "SANDBOX=" + b.dir}
	if strings.HasPrefix(goRoot(), "/") { // so that a build can call go
		cmd.Env[0] += ":" + filepath.Join(goRoot(), "bin")
	}
	if !haveWorlds {
		cmd.Env[1] = "HOME=" + filepath.Join(b.dir, "work")
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	cmd.ExtraFiles = []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	if haveWorlds {
		cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN}
	}
	return cmd, r, nil
}

var goRoot = sync.OnceValue(func() string {
	text, _ := exec.Command("go", "env", "GOROOT").Output()
	return strings.TrimSpace(string(text))
})

// A startError says why a program could not be started. It is the student's fault.
type startError string

func (e startError) Error() string { return string(e) }

// likely is what the student should look at.
func (e startError) likely() string {
	switch text := string(e); {
	case strings.Contains(text, "may not be executed"):
		return "the program is not executable, or the interpreter in its first line is not: chmod +x"
	case strings.Contains(text, "is no program"):
		return "the interpreter line is missing, or the program was built for another machine"
	case strings.Contains(text, "the interpreter"):
		return "the interpreter line has a wrong path, or a line end of Windows (CR LF)"
	}
	return "the program cannot be started; try it in an empty directory"
}

// start starts a program in the sandbox, and returns when it runs. A holder, if
// there is one, holds its calls.
func (b *sandbox) start(h *holder, ours string, stdin *os.File, argv ...string) (*process, error) {
	list, socket := "", -1
	if h != nil {
		list = h.list
	}
	cmd, report, err := b.command(list, ours, argv...)
	if err != nil {
		return nil, err
	}
	defer report.Close()
	if h != nil {
		if socket, err = askedBy(cmd); err != nil {
			return nil, err
		}
	}
	if stdin != nil {
		cmd.Stdin = stdin
	}
	started := time.Now()
	p, err := b.add(cmd)
	for _, f := range cmd.ExtraFiles {
		f.Close()
	}
	if err != nil {
		return nil, err
	}
	p.started, p.holder = started, h
	// The process closes this file when it becomes the program.
	report.SetReadDeadline(started.Add(scriptTime))
	text, err := io.ReadAll(report)
	if h != nil {
		l, e := listen(socket)
		if err = errors.Join(err, e); e == nil {
			go l.answer(h.decide)
		}
	}
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if n, is := strings.CutPrefix(line, "pid: "); is {
			p.pid, err = strconv.Atoi(n)
			continue
		}
		if reason, failed := strings.CutPrefix(line, "exec: "); failed {
			p.within(scriptTime)
			return nil, startError(reason)
		}
		note(line)
	}
	return p, err
}

// add starts a program that ends with the sandbox.
func (b *sandbox) add(cmd *exec.Cmd) (*process, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	// In a PID namespace process 1 has Pdeathsig, and the others end with it.
	// Here package syscall would kill a child that cannot see its parent.
	if b.init == nil {
		cmd.SysProcAttr.Pdeathsig = unix.SIGKILL
	}
	p, err := startCaptured(cmd)
	if err == nil {
		b.running = append(b.running, p)
	}
	return p, err
}

// end kills all that is left in the sandbox, and waits until it has ended.
func (b *sandbox) end(patience time.Duration) (err error) {
	if b.init != nil && !b.init.killIn(patience) {
		err = errors.New("process 1 of the sandbox cannot be killed")
	}
	for _, p := range b.running {
		if !p.within(0) {
			unix.Kill(-p.cmd.Process.Pid, unix.SIGKILL)
		}
		if err == nil && !p.killIn(patience) {
			err = fmt.Errorf("process %d cannot be killed", p.cmd.Process.Pid)
		}
	}
	if b.init == nil {
		killOrphans()
	}
	if haveWorlds {
		unix.Unmount(b.dir, unix.MNT_DETACH) // so that the directory can be removed
	}
	return err
}

// crowd is the number of processes and threads if there were too many, and else 0.
func (b *sandbox) crowd() (n int) {
	if b.init != nil {
		n, _ = strconv.Atoi(strings.TrimSpace(b.init.stdout()))
		return n
	}
	if time.Since(b.counted) < time.Second {
		return 0
	}
	b.counted = time.Now()
	for _, p := range b.running { // without process 1 the grader must count
		for _, pid := range tree(p.cmd.Process.Pid) {
			threads, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
			n += len(threads)
		}
	}
	if n < sandboxProcesses {
		return 0
	}
	return n
}

// killOrphans kills the processes whose parents have ended. They have become
// children of this process. Without namespaces one script is run at a time.
func killOrphans() {
	eventually(time.Second, func() bool {
		orphans := children(os.Getpid())
		for _, pid := range orphans {
			unix.Kill(pid, unix.SIGKILL)
			unix.Wait4(pid, nil, unix.WNOHANG, nil)
		}
		return len(orphans) == 0
	})
}

// children are the processes that a process has started and not yet waited
// for. See proc_pid_task(5).
func children(pid int) (pids []int) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, file := range files {
		text, _ := os.ReadFile(file)
		for word := range strings.FieldsSeq(string(text)) {
			if n, err := strconv.Atoi(word); err == nil {
				pids = append(pids, n)
			}
		}
	}
	return pids
}

// tree is a process and all that descend from it.
func tree(pid int) []int {
	pids := []int{pid}
	for i := 0; i < len(pids) && len(pids) < 1000; i++ {
		pids = append(pids, children(pids[i])...)
	}
	return pids
}

// tasksOf counts the threads of a user.
func tasksOf(uid int) (n int) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		var st unix.Stat_t
		if unix.Stat(dir, &st) != nil || int(st.Uid) != uid {
			continue
		}
		tasks, _ := os.ReadDir(dir + "/task")
		n += len(tasks)
	}
	return n
}

var (
	notesLock sync.Mutex
	notes     []string // what a sandbox lacks on this machine
)

func note(text string) {
	notesLock.Lock()
	defer notesLock.Unlock()
	if !slices.Contains(notes, text) {
		notes = append(notes, text)
	}
}

// reapAll is process 1 of a sandbox. It waits for the processes whose parents
// have ended. If it has an argument, it ends when there are so many processes and
// threads, and the kernel kills them all: they would take the processors from all
// others. Before that it prints their number.
func reapAll(args []string) error {
	if len(args) > 0 {
		most, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		go func() {
			for ; ; time.Sleep(5 * tick) {
				if n := countTasks(most); n >= most {
					fmt.Println(n)
					os.Exit(0)
				}
			}
		}()
	}
	for {
		if _, err := unix.Wait4(-1, nil, 0, nil); err == unix.ECHILD {
			time.Sleep(tick)
		}
	}
}

// countTasks counts the processes and threads of this PID namespace. It does so only
// if there may be so many: a look at each costs time.
func countTasks(most int) (n int) {
	// The last word of /proc/loadavg is the id that was given last.
	text, _ := os.ReadFile("/proc/loadavg")
	words := strings.Fields(string(text))
	if len(words) == 0 {
		return 0
	}
	last, _ := strconv.Atoi(words[len(words)-1])
	if last < most {
		return 0
	}
	for id := 1; id <= min(last, 1<<16); id++ {
		if unix.Kill(id, 0) != unix.ESRCH {
			n++
		}
	}
	return n
}

// enterSandbox becomes a program in a sandbox. It reports the restrictions that
// this machine does not allow, and makes the others.
func enterSandbox(args []string) error {
	var here inSandbox
	if err := json.Unmarshal([]byte(args[0]), &here); err != nil {
		return err
	}
	const reportFD = 3
	unix.CloseRange(reportFD, 1<<31, unix.CLOSE_RANGE_CLOEXEC) // close inherited files
	// The program would inherit an ignored signal, but does not inherit a handler.
	signal.Notify(make(chan os.Signal, 1), unix.SIGINT, unix.SIGTERM, unix.SIGHUP,
		unix.SIGQUIT, unix.SIGPIPE, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM)
	report := os.NewFile(reportFD, "report")
	lacks := func(what string, err error) {
		if err != nil {
			fmt.Fprintf(report, "%s: %v\n", what, err)
		}
	}
	dir := filepath.Join(here.Dir, "work")
	if here.Namespaces {
		lacks("programs can reach the network", unix.Unshare(unix.CLONE_NEWNET))
		if err := here.mount(); err != nil {
			lacks("programs can see and write your files", err)
		} else {
			dir = seenWork
			lacks("/proc shows other processes", unix.Mount("proc", "/proc", "proc",
				unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""))
		}
	}
	if here.Building {
		dir = filepath.Dir(here.Argv[0])
	}
	lacks("working directory", os.Chdir(dir))
	for resource, limit := range map[int]uint64{unix.RLIMIT_DATA: sandboxMemory,
		unix.RLIMIT_FSIZE: sandboxFile, unix.RLIMIT_NPROC: here.Processes, unix.RLIMIT_CORE: 0} {
		if resource == unix.RLIMIT_DATA && raceEnabled() {
			continue // the race detector needs more
		}
		lacks("limits", unix.Setrlimit(resource, &unix.Rlimit{Cur: limit, Max: limit}))
	}
	if here.UID != 0 {
		lacks("other user", errors.Join(syscall.Setgroups(nil),
			syscall.Setgid(here.UID), syscall.Setuid(here.UID)))
	}
	for capability := range unix.CAP_LAST_CAP + 1 { // an ordinary user has none
		unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(capability), 0, 0, 0)
	}
	lacks("rights", errors.Join(
		unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0),
		unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)))
	if _, err := unix.Setsid(); err != nil { // a session and a process group of its own
		lacks("session", err)
	}
	fmt.Fprintf(report, "pid: %d\n", os.Getpid())
	if here.Asked != "" {
		if err := beAsked(here.Asked, reportFD+1); err != nil {
			return err
		}
	}
	err := unix.Exec(here.Argv[0], here.Argv, os.Environ())
	fmt.Fprintf(report, "exec: %s\n", whyNot(here.Argv[0], err))
	report.Close() // after that the grader answers, if the kernel asks about the exit of this process
	return err
}

// mount gives the program a file system of its own to see.
func (here inSandbox) mount() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return err
	}
	err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	// From here on only /tmp and /dev/shm can be written.
	readOnly := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	err = errors.Join(err, unix.MountSetattr(-1, "/", unix.AT_RECURSIVE, &readOnly))
	bind := func(from, to string) {
		if from != "" {
			err = errors.Join(err, unix.Mount(from, filepath.Join(here.Dir, to), "", unix.MS_BIND, ""))
		}
	}
	bind(here.Submission, "submission")
	bind(here.Ours, "ours")
	err = errors.Join(err, unix.Mount(here.Dir, "/tmp", "", unix.MS_BIND|unix.MS_REC, ""))
	writable := unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}
	places := []string{"/tmp", "/dev/shm"}
	if here.Building {
		places = append(places, seenSubmission)
	}
	for _, dir := range places {
		err = errors.Join(err, unix.MountSetattr(-1, dir, 0, &writable))
	}
	for _, dir := range here.Hide {
		if _, e := os.Stat(dir); e == nil && dir != "/tmp" && dir != "/" {
			err = errors.Join(err, unix.Mount("hidden", dir, "tmpfs", unix.MS_RDONLY, "size=4k,mode=755"))
		}
	}
	return err
}

// whyNot puts into words why a program could not be started.
func whyNot(path string, err error) string {
	name := filepath.Base(path)
	switch {
	case errors.Is(err, unix.ENOEXEC):
		return name + " is no program: a script needs an interpreter line, " +
			"such as #!/usr/bin/python3, and a compiled one must be for this machine"
	case errors.Is(err, unix.ENOENT):
		return "the interpreter that " + name + " names in its first line, or a library, is not on this machine"
	case errors.Is(err, unix.EACCES):
		return name + " may not be executed: chmod +x " + name
	}
	return fmt.Sprintf("%s could not be started: %v", name, err)
}

// A capture keeps what a program prints, up to a limit. It reads all of it,
// so that the program does not have to wait.
type capture struct {
	r, w *os.File
	done chan struct{}

	lock sync.Mutex
	text []byte    // the beginning of the output
	size int64     // the length of the whole output
	sum  hash.Hash // of the whole output

	lines        []time.Time   // when the first lines came
	held, parked chan struct{} // see holdOutput
	filling      int           // bytes of holdOutput that are still in the pipe
	closed       bool          // the output cannot be held any more
}

func newCapture() (*capture, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	c := &capture{r: r, w: w, done: make(chan struct{}), sum: sha256.New()}
	return c, nil
}

func (c *capture) follow() {
	defer close(c.done)
	buffer := make([]byte, 64<<10)
	for {
		n, err := c.r.Read(buffer)
		c.lock.Lock()
		text := buffer[:n]
		if c.filling > 0 && n > 0 {
			printed := bytes.ReplaceAll(text, []byte{0}, nil)
			c.filling -= n - len(printed)
			text = printed
		}
		c.size += int64(len(text))
		c.sum.Write(text)
		c.text = append(c.text, text[:min(len(text), outputKept-len(c.text))]...)
		for range min(bytes.Count(text, []byte("\n")), 100-len(c.lines)) {
			c.lines = append(c.lines, time.Now())
		}
		c.lock.Unlock()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.park()
		} else if err != nil {
			return
		}
	}
}

// catchUp returns when the grader has read what the program has printed so far. A
// busy machine may be late with that. Output that is held stays in the pipe.
func (c *capture) catchUp() {
	pipe, err := c.r.SyscallConn()
	empty := 0 // looks in a row
	eventually(time.Second, func() bool {
		unread := 0
		if err == nil {
			err = pipe.Control(func(fd uintptr) {
				unread, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ)
			})
		}
		if empty++; unread > 0 {
			empty = 0
		}
		return err != nil || empty == 2
	})
}

// close is called when the program has ended. Another process may still have its
// standard output open, so close does not wait for the end of the pipe.
func (c *capture) close() {
	c.lock.Lock()
	c.closed = true
	c.lock.Unlock()
	c.releaseOutput()
	for last, n := int64(-1), 0; n < 100; n++ {
		select {
		case <-c.done:
			c.r.Close()
			return
		case <-time.After(tick):
		}
		c.lock.Lock()
		now := c.size
		c.lock.Unlock()
		if now == last && n > 20 {
			break
		}
		last = now
	}
	c.r.Close()
	<-c.done
}

func (c *capture) String() string {
	c.lock.Lock()
	defer c.lock.Unlock()
	if c.size > int64(len(c.text)) {
		return fmt.Sprintf("%s\n(and more: %d bytes in all)\n", c.text, c.size)
	}
	return string(c.text)
}

// startCaptured starts a program and keeps what it prints.
func startCaptured(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, ended: make(chan struct{})}
	var err error
	for _, c := range []**capture{&p.captured[0], &p.captured[1]} {
		if *c, err = newCapture(); err != nil {
			return nil, err
		}
	}
	cmd.Stdout, cmd.Stderr = p.captured[0].w, p.captured[1].w
	err = cmd.Start()
	for _, c := range p.captured {
		c.w.Close()
		go c.follow()
	}
	if err != nil {
		return nil, err
	}
	go func() {
		cmd.Wait()
		for _, c := range p.captured {
			c.close()
		}
		close(p.ended)
	}()
	return p, nil
}
