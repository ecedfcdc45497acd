//go:build linux

package semaphores_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// This file holds what the tests of the statements share: the other process
// of a test, the lesson's programs, and segments and semaphores that go away
// with a test. The tests run one after the other.

const patience = time.Minute // for another process, on a busy machine

// want stops the test unless a call ended as it should.
func want(t testing.TB, call string, got, want error) {
	t.Helper()
	if got != want {
		t.Fatalf("%s: %v, want %v", call, got, want)
	}
}

// build builds programs of this lesson and returns their directory.
func build(t testing.TB, programs ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	args := []string{"build", "-buildvcs=false", "-o", dir + "/"}
	race := debug.BuildSetting{Key: "-race", Value: "true"}
	info, _ := debug.ReadBuildInfo()
	if slices.Contains(info.Settings, race) { // as these tests
		args = append(args, "-race")
	}
	for _, program := range programs {
		args = append(args, "./"+program)
	}
	cmd := exec.Command("go", args...)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, text)
	}
	return dir
}

var keysTried = 0

// newKey returns a key that no segment and no set of semaphores has.
func newKey(t testing.TB) int {
	t.Helper()
	for {
		keysTried++
		key := 1<<30 | os.Getpid()<<8 | keysTried&0xff
		_, noSegment := unix.SysvShmGet(key, 0, 0)
		_, _, noSet := unix.Syscall(unix.SYS_SEMGET, uintptr(key), 0, 0)
		if noSegment == unix.ENOENT && noSet == unix.ENOENT {
			return key
		} else if keysTried > 0xff {
			t.Fatalf("no key is free: %v, %v", noSegment, noSet)
		}
	}
}

// newSegment creates a segment without a key. It is removed when the test
// ends.
func newSegment(t *testing.T, size int) (id int) {
	t.Helper()
	return createSegment(t, unix.IPC_PRIVATE, size)
}

func createSegment(t *testing.T, key, size int) (id int) {
	t.Helper()
	id, err := unix.SysvShmGet(key, size, unix.IPC_CREAT|unix.IPC_EXCL|0o600)
	want(t, "shmget", err, nil)
	t.Cleanup(func() { unix.SysvShmCtl(id, unix.IPC_RMID, nil) })
	return id
}

// attach attaches a segment until the test ends.
func attach(t *testing.T, id int) []byte {
	t.Helper()
	mem, err := unix.SysvShmAttach(id, 0, 0)
	want(t, "shmat", err, nil)
	t.Cleanup(func() { unix.SysvShmDetach(mem) })
	return mem
}

func firstWord(mem []byte) *int32 {
	return (*int32)(unsafe.Pointer(&mem[0]))
}

func addressOf(mem []byte) uintptr { return uintptr(unsafe.Pointer(&mem[0])) }

// createSemaphores creates a set of semaphores, which are 0.
func createSemaphores(t *testing.T, key, n int) (id int) {
	t.Helper()
	set, _, errno := unix.Syscall(unix.SYS_SEMGET, uintptr(key), uintptr(n),
		unix.IPC_CREAT|unix.IPC_EXCL|0o600)
	if errno != 0 {
		t.Fatalf("semget: %v", errno)
	}
	t.Cleanup(func() {
		unix.Syscall6(unix.SYS_SEMCTL, set, 0, unix.IPC_RMID, 0, 0, 0)
	})
	return int(set)
}

// tryAdd adds n to a semaphore of a set, if that is possible without waiting.
func tryAdd(id, number, n int) error {
	op := [3]int16{int16(number), int16(n), unix.IPC_NOWAIT}
	_, _, errno := unix.Syscall(unix.SYS_SEMOP, uintptr(id),
		uintptr(unsafe.Pointer(&op)), 1)
	if errno != 0 {
		return errno
	}
	return nil
}

// inNamespace runs a test once more in an IPC namespace of its own, as root
// of it. There are no other segments, and the test may change the limits. It
// returns true there. In the first process it reports the outcome and returns
// false. Where no namespace can be had, it skips the test.
func inNamespace(t *testing.T) bool {
	t.Helper()
	const variable = "SHM_BY_EXAMPLE_NAMESPACE"
	if os.Getenv(variable) == t.Name() {
		return true
	}
	root := func(id int) []syscall.SysProcIDMap {
		return []syscall.SysProcIDMap{{HostID: id, Size: 1}}
	}
	var err error
	for _, attr := range []*syscall.SysProcAttr{
		{Cloneflags: unix.CLONE_NEWIPC}, // root may
		{Cloneflags: unix.CLONE_NEWIPC | unix.CLONE_NEWUSER,
			UidMappings: root(os.Geteuid()), GidMappings: root(os.Getegid())},
	} {
		var out strings.Builder
		cmd := exec.Command("/proc/self/exe", "-test.v",
			"-test.run=^"+t.Name()+"$", "-test.timeout="+patience.String())
		cmd.Env = append(os.Environ(), variable+"="+t.Name())
		cmd.SysProcAttr = attr
		cmd.Stdout, cmd.Stderr = &out, &out
		if err = cmd.Start(); err != nil {
			continue
		}
		err = cmd.Wait()
		if strings.Contains(out.String(), "--- SKIP: "+t.Name()) {
			t.Skip(out.String())
		} else if err != nil ||
			!strings.Contains(out.String(), "--- PASS: "+t.Name()) {
			t.Errorf("in its namespace: %v\n%s", err, &out)
		}
		return false
	}
	t.Skipf("needs an IPC namespace of its own: %v", err)
	return false
}

// setLimit sets a limit of this IPC namespace.
func setLimit(t *testing.T, name string, value int) {
	t.Helper()
	file := "/proc/sys/kernel/" + name
	err := os.WriteFile(file, []byte(strconv.Itoa(value)), 0)
	if err != nil {
		t.Skipf("needs to change a limit of its namespace: %v", err)
	}
}

// A peer is the other process of a test.
type peer struct {
	conn
	cmd *exec.Cmd
}

// newPeer starts the other process, which runs body and ends. The process is
// this test binary once more: there the test runs up to this same call, so
// nothing may come before it that must happen only once.
func newPeer(t *testing.T, body func(test conn)) peer {
	t.Helper()
	const variable = "SHM_BY_EXAMPLE_PEER"
	if os.Getenv(variable) == t.Name() {
		body(conn{t, bufio.NewReader(os.Stdin), os.Stdout})
		os.Exit(0)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	cmd := exec.CommandContext(ctx, "/proc/self/exe",
		"-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), variable+"="+t.Name())
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	want(t, "pipe", err, nil)
	stdout, err := cmd.StdoutPipe()
	want(t, "pipe", err, nil)
	want(t, "start", cmd.Start(), nil)
	t.Cleanup(func() { cancel(); stdin.Close(); cmd.Wait() })
	return peer{conn{t, bufio.NewReader(stdout), stdin}, cmd}
}

// A conn is one end of the connection between a test and the other process.
// They send each other numbers.
type conn struct {
	t   *testing.T
	in  *bufio.Reader
	out io.Writer
}

func (c conn) say(n int) { fmt.Fprintln(c.out, n) }

func (c conn) hear() int {
	c.t.Helper()
	line, err := c.in.ReadString('\n')
	n, e := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || e != nil {
		rest, _ := io.ReadAll(c.in)
		c.t.Fatalf("the other process says: %v %s%s", err, line, rest)
	}
	return n
}
