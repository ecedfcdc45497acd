//go:build linux

package shm_test

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The tests named TestStatement show what the tutorials state about shared
// memory to be true, or what is true instead. The README has the list. What
// they have in common is here.

// Numbers that x/sys does not have.
const (
	shmRemap  = 0o40000
	shmExec   = 0o100000
	shmDest   = 0o1000 // in the mode: marked for removal
	shmLocked = 0o2000 // in the mode
	shmLBA    = 4096   // what SHM_RND rounds to, on most machines a page

	ipcInfo   = 3
	shmLock   = 11
	shmUnlock = 12
	shmStat   = 13
	shmInfo   = 14

	semGetVal = 12
	semSetVal = 16
)

var pageSize = os.Getpagesize()

// inRoom takes a test into an IPC namespace of its own, as root of it: there
// are no other segments, and the limits may be changed. There it is true.
// Elsewhere it starts the test in there, reports how it went, and is false.
func inRoom(t *testing.T) bool {
	t.Helper()
	if here.Test != t.Name() && privateRoom() == shared {
		t.Skip("needs a private IPC namespace")
	}
	return apart(t, job{Room: privateRoom(), Root: true})
}

// asOrdinaryUser takes it, likewise, into a process without any privilege.
func asOrdinaryUser(t *testing.T) bool {
	t.Helper()
	j := job{}
	if here.Test != t.Name() && os.Geteuid() == 0 {
		if can, _ := condition("setuid"); !can {
			t.Skip("needs a process of another user")
		}
		j.UID = 65534
	}
	return apart(t, j)
}

// parallel runs a test beside others, and not while this process forks: the
// child would have what the test has attached, until it calls exec.
func parallel(t *testing.T) {
	t.Parallel()
	forking.RLock()
	t.Cleanup(forking.RUnlock)
}

// apart takes it, likewise, into a process of its own, whose umask and limits are
// nobody else's.
func apart(t *testing.T, j job) bool {
	t.Helper()
	if here.Test == t.Name() {
		t.Cleanup(func() { skippedHere = t.Skipped() })
		return true
	}
	t.Parallel()
	j.Test = t.Name()
	j.test(t)
	return false
}

var skippedHere bool

func (j job) doTest() int {
	flag.Set("test.run", "^"+j.Test+"$")
	flag.Set("test.v", "true")
	if suite.Run() != 0 {
		return failed
	}
	if skippedHere {
		return skipped
	}
	return passed
}

// newSegment makes a private segment, to which only those find whom the test
// tells its id. It is removed with the end of the test.
func newSegment(t *testing.T, size int) (id int) {
	t.Helper()
	return newSegmentMode(t, unix.IPC_PRIVATE, size, 0o600)
}

func newSegmentMode(t *testing.T, key, size, mode int) (id int) {
	t.Helper()
	id, err := unix.SysvShmGet(key, size, unix.IPC_CREAT|unix.IPC_EXCL|mode)
	want(t, "shmget", err, nil)
	t.Cleanup(func() { unix.SysvShmCtl(id, unix.IPC_RMID, nil) })
	return id
}

// attach attaches a segment until the end of the test.
func attach(t *testing.T, id, flags int) []byte {
	t.Helper()
	mem, err := unix.SysvShmAttach(id, 0, flags)
	want(t, "shmat", err, nil)
	attached.Store(attachment{t, addressOf(mem)}, true)
	t.Cleanup(func() {
		if _, still := attached.Load(attachment{t, addressOf(mem)}); still {
			detach(t, mem)
		}
	})
	return mem
}

// attached are the attachments that there are. What a test has detached is
// not detached once more at its end: another test's may be there by then.
var attached sync.Map

type attachment struct {
	t  *testing.T
	at uintptr
}

func detach(t *testing.T, mem []byte) {
	t.Helper()
	attached.Delete(attachment{t, addressOf(mem)})
	want(t, "shmdt", unix.SysvShmDetach(mem), nil)
}

// attachAt is shmat(2) as it is in C.
func attachAt(id int, address uintptr, flags int) (uintptr, error) {
	at, _, errno := unix.Syscall(unix.SYS_SHMAT, uintptr(id), address, uintptr(flags))
	if errno != 0 {
		return 0, errno
	}
	return at, nil
}

// newMapping maps memory that is of no interest: a place to attach at.
func newMapping(t *testing.T, size int) []byte {
	t.Helper()
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	want(t, "mmap", err, nil)
	t.Cleanup(func() { unix.Munmap(mem) })
	return mem
}

// stat is what the kernel knows of a segment.
func stat(t *testing.T, id int) (ds unix.SysvShmDesc) {
	t.Helper()
	_, err := unix.SysvShmCtl(id, unix.IPC_STAT, &ds)
	want(t, "shmctl IPC_STAT", err, nil)
	return ds
}

func wantAttaches(t *testing.T, id int, n uint64) {
	t.Helper()
	if got := stat(t, id).Nattch; got != n {
		t.Errorf("shm_nattch is %d, want %d", got, n)
	}
}

// want stops the test unless a call ended as it is to.
func want(t *testing.T, call string, got, want error) {
	t.Helper()
	if got != want {
		t.Fatalf("%s: %v, want %v", call, got, want)
	}
}

// rss is how many bytes of a segment are in memory.
func rss(t *testing.T, id int) int {
	t.Helper()
	text, err := os.ReadFile("/proc/sysvipc/shm")
	want(t, "read /proc/sysvipc/shm", err, nil)
	for line := range strings.Lines(string(text)) {
		if column := strings.Fields(line); column[1] == strconv.Itoa(id) {
			n, _ := strconv.Atoi(column[14])
			return n
		}
	}
	t.Fatalf("segment %d is not in /proc/sysvipc/shm", id)
	return 0
}

// mapping is the line of /proc/self/maps that begins at an address.
func mapping(t *testing.T, address uintptr) (size int, perms string, inode int) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/maps")
	want(t, "read /proc/self/maps", err, nil)
	for line := range strings.Lines(string(text)) {
		var from, to uintptr
		var offset, device string
		fmt.Sscanf(line, "%x-%x %s %s %s %d", &from, &to, &perms, &offset, &device, &inode)
		if from == address {
			return int(to - from), perms, inode
		}
	}
	t.Fatalf("nothing begins at %#x", address)
	return
}

// faultAt does what is to fault, and returns the address at which it did: 0 if
// it did not.
func faultAt(do func()) (address uintptr) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if err := recover(); err != nil {
			address = err.(interface{ Addr() uintptr }).Addr()
		}
	}()
	do()
	return 0
}

// pageFaults is how often this thread has touched a page that it had not.
func pageFaults() int64 {
	var u syscall.Rusage
	syscall.Getrusage(unix.RUSAGE_THREAD, &u)
	return u.Minflt
}

var keysUsed atomic.Int32

// newKey is a key that nobody else on the machine has.
func newKey() int { return int(ownKey(os.Getpid(), int(keysUsed.Add(1)))) }

// newSemaphore makes a set of semaphores, which are 0.
func newSemaphore(t *testing.T, key, n int) (id int) {
	t.Helper()
	id = semget(key, n, unix.IPC_CREAT|unix.IPC_EXCL|0o600)
	if id < 0 {
		t.Fatal("semget failed")
	}
	t.Cleanup(func() { remove("sem", id) })
	return id
}

// semctl does so to the first semaphore of a set; -1 is an error.
func semctl(id, command, value int) int {
	got, _, _ := unix.Syscall6(unix.SYS_SEMCTL, uintptr(id), 0, uintptr(command), uintptr(value), 0, 0)
	return int(got)
}

// limit sets a limit of this IPC namespace.
func limit(t *testing.T, name string, value int) {
	t.Helper()
	file := "/proc/sys/kernel/" + name
	if err := os.WriteFile(file, []byte(strconv.Itoa(value)), 0); err != nil {
		t.Skipf("needs to change a limit of its namespace: %v", err)
	}
}

// newObject makes a POSIX object without contents, and removes its name.
func newObject(t *testing.T, size int) *os.File {
	t.Helper()
	f, err := os.OpenFile(newName(), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	want(t, "shm_open", err, nil)
	t.Cleanup(func() {
		os.Remove(f.Name())
		f.Close()
	})
	want(t, "ftruncate", f.Truncate(int64(size)), nil)
	return f
}

// newName is the file of an object that nobody else on the machine has.
func newName() string {
	return fmt.Sprintf("/dev/shm/%s-%d", ownName(os.Getpid()), keysUsed.Add(1))
}

// newView maps an object until the end of the test.
func newView(t *testing.T, f *os.File, size, flags int) []byte {
	t.Helper()
	mem, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_SHARED|flags)
	want(t, "mmap", err, nil)
	t.Cleanup(func() { unix.Munmap(mem) })
	return mem
}

// info asks for one of the structures that shmctl(2) fills for ipcs.
func info[T any](t *testing.T, command int) (result int, info T) {
	t.Helper()
	var ds unix.SysvShmDesc // has room for each of them
	result, err := unix.SysvShmCtl(0, command, &ds)
	want(t, "shmctl", err, nil)
	return result, *(*T)(unsafe.Pointer(&ds))
}

// TestStatementsTable holds the README's table of the statements complete:
// each has a line, a lesson that exists and a test, and each test a line.
func TestStatementsTable(t *testing.T) {
	text, err := os.ReadFile("README.md")
	want(t, "read README.md", err, nil)
	row := regexp.MustCompile("(?m)^\\| (\\d+) \\| (.+?) \\| (.*?) \\| (.*) \\| `(\\w+)` \\|$")
	named := map[string]bool{}
	next := 1
	for _, m := range row.FindAllStringSubmatch(string(text), -1) {
		if m[1] != strconv.Itoa(next) {
			t.Errorf("statement %s comes where %d was to", m[1], next)
		}
		if !strings.HasPrefix(m[5], fmt.Sprintf("TestStatement%02d", next)) {
			t.Errorf("%s is no test of statement %d", m[5], next)
		}
		if !regexp.MustCompile(`\]\(0[1-8]-[a-z-]+/README\.md\)`).MatchString(m[4]) {
			t.Errorf("statement %d has no lesson: %q", next, m[4])
		}
		named[m[5]] = true
		next++
	}
	if next != 54 {
		t.Errorf("the table has %d statements, not 53", next-1)
	}
	wrong := []string{"2", "4", "5", "8", "12", "16", "20", "21", "30", "31",
		"32", "36", "45", "51", "53"}
	for _, n := range wrong {
		m := regexp.MustCompile(`(?m)^\| ` + n + ` \| .+? \| (.*?) \|`).FindSubmatch(text)
		if m == nil || len(m[1]) < 10 || strings.HasPrefix(string(m[1]), "true") {
			t.Errorf("statement %s is wrong, and the table does not say what is true", n)
		}
	}
	for _, test := range statementTests(t) {
		if !named[test] {
			t.Errorf("%s is not in the table", test)
		}
		delete(named, test)
	}
	for test := range named {
		t.Errorf("the table names %s, which does not exist", test)
	}
}

// statementTests lists the tests of statements.
func statementTests(t *testing.T) (names []string) {
	files, _ := filepath.Glob("*_test.go")
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		want(t, "parse "+file, err, nil)
		for _, d := range parsed.Decls {
			f, ok := d.(*ast.FuncDecl)
			if ok && regexp.MustCompile(`^TestStatement\d`).MatchString(f.Name.Name) {
				names = append(names, f.Name.Name)
			}
		}
	}
	return names
}
