//go:build linux

// Package shm_test starts the real programs of every lesson side by side, as a
// student does. It checks what they print, how they exit, and what the kernel
// still holds afterwards. testdata/README.md explains how.
package shm_test

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

var (
	update = flag.Bool("update", false,
		"write what the programs printed into the scripts that compare it")
	long = flag.Bool("long", false, "cause the faults everywhere and often, "+
		"which takes minutes: at every call of every program")

	built string // where the programs are: built/01-shm-write-read/writer

	// haveWorlds tells whether scripts run side by side, each in a world of its own.
	haveWorlds bool
)

const (
	// The scripts' own keys and name: scriptKey and the next two.
	scriptKey  = 0x80000001
	scriptName = "shm-by-example-0000001"

	// Environment variables.
	insideVariable  = "SHM_BY_EXAMPLE_INSIDE" // we are in our user namespace
	worldlessIsFine = "SHM_BY_EXAMPLE_WORLDLESS_IS_FINE"
	builtVariable   = "SHM_BY_EXAMPLE_BUILT" // where another process has built the programs
	hideVariable    = "SHM_BY_EXAMPLE_HIDE"  // the directory of all submissions, with -labs
)

// Only TestMain runs on the first thread, and no test. /proc/PID shows the
// namespaces of the first thread, and these stay those of the machine.
func init() { runtime.LockOSThread() }

func TestMain(m *testing.M) {
	useGraderUsage()
	flag.Parse()
	if bundled != "" {
		if err := fromBundle(); err != nil {
			fmt.Fprintln(os.Stderr, "labgrade:", err)
			os.Exit(graderFail)
		}
	}
	// Under nohup(1) SIGHUP is ignored, and programs would inherit that. They do
	// not inherit a handler.
	if signal.Ignored(unix.SIGHUP) {
		signal.Notify(make(chan os.Signal, 1), unix.SIGHUP)
	}
	haveWorlds = tryWorld() == nil
	if !haveWorlds && os.Getenv(insideVariable) == "" {
		if status, err := runInUserNamespace(); err == nil {
			os.Exit(status)
		}
	}
	if !haveWorlds {
		flag.Set("test.parallel", "1")
	} else if !isSet("test.parallel") { // most scripts wait most of the time
		flag.Set("test.parallel", "16")
	}
	os.Exit(runTests(m))
}

func isSet(name string) (set bool) {
	flag.Visit(func(f *flag.Flag) { set = set || f.Name == name })
	return set
}

// runInUserNamespace starts this test binary once more, in a user namespace
// with the same uid, where it may make worlds. It returns the exit status.
func runInUserNamespace() (status int, err error) {
	// Ctrl-C reaches both processes. The other one would inherit an ignored SIGINT,
	// but does not inherit a handler.
	signal.Notify(make(chan os.Signal, 1), unix.SIGINT)
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Dir = startedIn // its flags may have relative paths
	cmd.Env = append(os.Environ(), insideVariable+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	uid, gid := os.Geteuid(), os.Getegid()
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}},
		AmbientCaps: []uintptr{unix.CAP_SYS_ADMIN},
		Pdeathsig:   unix.SIGKILL,
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	cmd.Wait()
	return cmd.ProcessState.ExitCode(), nil
}

// enterWorld gives this goroutine's thread, and the programs that it starts,
// System V objects and a /dev/shm of their own. The thread cannot leave the world:
// it ends with the goroutine, and the world ends with the last program in it.
func enterWorld() error {
	if err := unix.Unshare(unix.CLONE_NEWIPC | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("mount / private: %w", err)
	}
	if err := unix.Mount("shm", "/dev/shm", "tmpfs", 0, "mode=1777,size=64m"); err != nil {
		return fmt.Errorf("mount /dev/shm: %w", err)
	}
	// An ordinary user needed the right to mount only for this.
	err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
	if err != nil {
		return fmt.Errorf("prctl: %w", err)
	}
	return nil
}

// tryWorld tells whether a world can be made.
func tryWorld() error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		result <- enterWorld()
	}()
	return <-result
}

// A world is where a script, a README or a fault happens.
type world struct{ before map[string]func() }

// newWorld puts this goroutine into a world of its own. Without worlds the test
// uses the objects of the machine, and tests run one after the other.
func newWorld(t interface{ Skip(...any) }) (*world, error) {
	runtime.LockOSThread() // Pdeathsig kills programs when the thread that started them ends
	if haveWorlds {
		if err := enterWorld(); err != nil {
			return nil, err
		}
	}
	w := &world{before: objects()}
	for name := range w.before {
		t.Skip("somebody else has " + name)
	}
	return w, nil
}

// left lists the objects that were made since the world began and still exist. It
// removes them.
func (w *world) left() (names []string) {
	for name, remove := range objects() {
		if w.before[name] == nil {
			names = append(names, name)
			remove()
		}
	}
	slices.Sort(names)
	return names
}

// scriptKeys are the keys of the lab's script that runs now. They are needed only
// without namespaces.
var scriptKeys []uint32

// ours tells whether our programs and scripts make an object of this name. The name
// has the form that objects uses.
func ours(name string) bool {
	for _, key := range append(slices.Clone(scriptKeys), scriptKey, scriptKey+1, scriptKey+2) {
		if strings.HasSuffix(name, fmt.Sprintf("key %#x,", key)) {
			return true
		}
	}
	return strings.Contains(name, scriptName) || slices.ContainsFunc(pairs(), func(p pair) bool {
		return slices.ContainsFunc(p.objects, func(object string) bool {
			what, key, _ := strings.Cut(object, ",")
			return name == object || key != "" && strings.HasPrefix(name, what) && strings.HasSuffix(name, key+",")
		})
	})
}

// ftok is ftok(3).
func ftok(path string, letter byte) uint32 {
	var st unix.Stat_t
	unix.Stat(path, &st)
	id := uint32(letter)
	return uint32(st.Ino&0xffff) | uint32(st.Dev&0xff)<<16 | id<<24
}

// A table is one of the kernel's three tables of System V objects. An entry is
// found by its index. This needs no permission and no file in /proc.
type table struct {
	name       string
	ctl        uintptr
	info, stat uintptr // SHM_INFO, SHM_STAT_ANY and so on
}

var tables = []table{
	{"segment", unix.SYS_SHMCTL, 14, 15},
	{"semaphore set", unix.SYS_SEMCTL, 19, 20},
	{"message queue", unix.SYS_MSGCTL, 12, 13},
}

// control is shmctl(2), semctl(2) or msgctl(2); it returns -1 if that fails.
func (t table) control(id int, command uintptr, arg unsafe.Pointer) int {
	args := []uintptr{command, uintptr(arg), 0}
	if t.ctl == unix.SYS_SEMCTL {
		args = []uintptr{0, command, uintptr(arg)}
	}
	result, _, errno := unix.Syscall6(t.ctl, uintptr(id), args[0], args[1], args[2], 0, 0)
	if errno != 0 {
		return -1
	}
	return int(result)
}

// An entry is what the kernel tells about an object: struct shmid64_ds, semid64_ds
// or msqid64_ds. Each is smaller than an entry, and begins with struct ipc64_perm.
type entry [64]uint32

func (e *entry) key() uint32  { return e[0] }
func (e *entry) mode() uint32 { return e[5] } // with SHM_DEST and so on

// entries are the table's objects, by id.
func (t table) entries() iter.Seq2[int, *entry] {
	return func(yield func(int, *entry) bool) {
		var e entry
		highest := t.control(0, t.info, unsafe.Pointer(&e))
		for index := range highest + 1 {
			id := t.control(index, t.stat, unsafe.Pointer(&e))
			if id >= 0 && !yield(id, &e) {
				return
			}
		}
	}
}

// objects lists the IPC objects, each with a function that removes it. In a world
// these are all objects, elsewhere only those that can be ours.
func objects() map[string]func() {
	all := map[string]func(){}
	add := func(name string, remove func()) {
		if haveWorlds || ours(name) {
			all[name] = remove
		}
	}
	for _, t := range tables {
		for id, e := range t.entries() {
			add(fmt.Sprintf("%s %d, key %#x,", t.name, id, e.key()),
				func() { t.control(id, unix.IPC_RMID, nil) })
		}
	}
	files, _ := os.ReadDir("/dev/shm")
	for _, f := range files {
		add("/dev/shm/"+f.Name(), func() { os.RemoveAll("/dev/shm/" + f.Name()) })
	}
	return all
}

// testInWorld runs a test in a world of its own, and fails if it left an object.
func testInWorld(t *testing.T, do func(*world)) {
	t.Helper()
	t.Parallel()
	w, err := newWorld(t)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if left := w.left(); len(left) > 0 {
			t.Errorf("left behind: %s", strings.Join(left, " "))
		}
	}()
	do(w)
}

// needWorlds skips a test where there are no worlds. There the tests run one after
// the other, and all of them would take minutes.
func needWorlds(t *testing.T) {
	if !haveWorlds && !*long {
		t.Skip("without namespaces a short selection is run; with -long, all")
	}
}

// TestWorlds fails where there should be worlds. Otherwise a change of the machine
// could turn most of the tests off, and nobody would notice.
func TestWorlds(t *testing.T) {
	switch {
	case haveWorlds:
	case os.Getenv("CI") == "true" && os.Getenv(worldlessIsFine) == "":
		t.Errorf("no namespaces can be made here: %v. Allow them, or set %s=1 to "+
			"accept a short selection of the tests", tryWorld(), worldlessIsFine)
	default:
		t.Skipf("no namespaces can be made here: %v", tryWorld())
	}
}

func runTests(m *testing.M) int {
	// For everything that is built here, also by READMEs: linking takes less time
	// without the tables for a debugger, and without asking git for the version.
	os.Setenv("GOFLAGS", os.Getenv("GOFLAGS")+" -ldflags=-w -buildvcs=false")
	if another := os.Getenv(builtVariable); another != "" {
		built = another
	}
	if built != "" { // the bundle has the programs, or another process has built them
		return gradeMain()
	}
	dir, err := os.MkdirTemp("", "shm-by-example-")
	if err == nil {
		defer os.RemoveAll(dir)
		err = os.Chmod(dir, 0o755) // some scripts run programs as the user nobody
		built = dir
	}
	for _, lesson := range lessons() {
		mains, e := mainPackages(lesson)
		if e == nil {
			e = build(built, lesson, mains)
		}
		err = errors.Join(err, e)
	}
	if err == nil {
		err = installOtherPrograms()
	}
	if err == nil && !haveWorlds { // copies of this suite take turns
		err = lockMachine()
	}
	if err != nil {
		fmt.Println("FAIL:", err)
		return 1
	}
	if grading() {
		return gradeMain()
	}
	return m.Run()
}

// lockMachine takes a lock for as long as this process runs. Every copy of this
// suite, of any user, waits for it.
func lockMachine() error {
	fd, err := unix.Open("/tmp", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open /tmp: %w", err)
	}
	return unix.Flock(fd, unix.LOCK_EX)
}

// lessons are the numbered directories.
func lessons() []string {
	dirs, _ := filepath.Glob("[0-9][0-9]-*")
	return dirs
}

// build builds programs of a lesson: dir/LESSON/PROGRAM. One with main.go in
// the lesson's own directory has the lesson's name.
func build(dir, lesson string, mains []string, flags ...string) error {
	out := filepath.Join(dir, lesson)
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	args := append([]string{"build", "-o", out + "/"}, flags...)
	if raceEnabled() {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, mains...)...)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w\n%s", cmd, err, text)
	}
	return nil
}

// mainPackages lists the programs of a lesson, such as ./LESSON/writer.
func mainPackages(lesson string) (mains []string, err error) {
	err = filepath.WalkDir(lesson, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == "main.go" {
			mains = append(mains, "./"+filepath.Dir(path))
		}
		return err
	})
	if err == nil && len(mains) == 0 {
		err = fmt.Errorf("%s has no main.go", lesson)
	}
	return mains, err
}

// raceEnabled tells whether these tests were built with -race. The programs are
// then built with -race, too.
func raceEnabled() bool {
	info, _ := debug.ReadBuildInfo()
	return slices.ContainsFunc(info.Settings, func(s debug.BuildSetting) bool {
		return s.Key == "-race" && s.Value == "true"
	})
}

// This test binary is also these small programs, if it is started under their
// names. They are on every script's PATH.
var otherPrograms = map[string]func(args []string) error{
	"forbid-locks": forbidLocks,
	"futex":        futex,
	"hold":         hold,
	"lock-page":    lockPage,
	"peer":         play,
	"reap-all":     reapAll,
	"sandbox":      enterSandbox,
	"watched":      becomeWatched,
}

func init() {
	if do := otherPrograms[filepath.Base(os.Args[0])]; do != nil {
		if err := do(os.Args[1:]); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", os.Args[0], err)
			os.Exit(1)
		}
		os.Exit(0)
	}
}

// hold KEY attaches a segment, reads its first byte, and keeps it until it is
// killed. (The command "segment attach" attaches the segment in the test's own
// process. The namespaces that /proc shows for that are not the script's.)
func hold(args []string) error {
	key, err := strconv.ParseUint(args[0], 0, 32)
	if err != nil {
		return err
	}
	id, err := unix.SysvShmGet(int(key), 0, 0)
	if err != nil {
		return fmt.Errorf("shmget: %w", err)
	}
	mem, err := unix.SysvShmAttach(id, 0, 0)
	if err != nil {
		return fmt.Errorf("shmat: %w", err)
	}
	fmt.Println("attached, and the first byte is", mem[0]) // the read maps the page
	for {
		unix.Pause()
	}
}

// futex KEY|FILE OFFSET VALUE sleeps on a word of a segment or a file, if the word
// has this value, until it is woken. A C program waits in this way, without a time
// limit.
func futex(args []string) error {
	var mem []byte
	key, err := strconv.ParseUint(args[0], 0, 32)
	if err == nil {
		id, e := unix.SysvShmGet(int(key), 0, 0)
		if mem, err = unix.SysvShmAttach(id, 0, 0); e != nil {
			return fmt.Errorf("shmget: %w", e)
		}
	} else if f, e := os.OpenFile(args[0], os.O_RDWR, 0); e != nil {
		return e
	} else {
		mem, err = unix.Mmap(int(f.Fd()), 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	}
	if err != nil {
		return err
	}
	offset, e1 := strconv.Atoi(args[1])
	value, e2 := strconv.ParseUint(args[2], 0, 32)
	if err := errors.Join(e1, e2); err != nil {
		return err
	}
	word := (*uint32)(unsafe.Pointer(&mem[offset]))
	fmt.Printf("the word is %#x\n", *word)
	for {
		_, _, errno := unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), 0,
			uintptr(value), 0, 0, 0)
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		default: // EAGAIN: the word has another value
			return fmt.Errorf("futex: %w: the word is %#x", errno, *word)
		}
	}
}

// lockPage locks a segment of one page, if it may.
func lockPage([]string) error {
	id, err := unix.SysvShmGet(unix.IPC_PRIVATE, 1, 0o600)
	if err != nil {
		return err
	}
	defer unix.SysvShmCtl(id, unix.IPC_RMID, nil)
	const shmLock = 11
	_, err = unix.SysvShmCtl(id, shmLock, nil)
	return err
}

// installOtherPrograms copies this binary to a directory that a sandbox can see, too.
func installOtherPrograms() error {
	binary, err := os.ReadFile("/proc/self/exe")
	err = errors.Join(err, os.WriteFile(filepath.Join(built, "test-binary"), binary, 0o755))
	for name := range otherPrograms {
		err = errors.Join(err, os.Symlink("test-binary", filepath.Join(built, name)))
	}
	return err
}
