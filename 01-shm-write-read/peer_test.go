//go:build linux

package writeread_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// This file holds what the tests of the statements share: the other process
// of a test, and segments that go away with it. The tests run one after the
// other, so that none sees what another has attached.

const patience = time.Minute // for another process, on a busy machine

var pageSize = os.Getpagesize()

// want stops the test unless a call ended as it should.
func want(t *testing.T, call string, got, want error) {
	t.Helper()
	if got != want {
		t.Fatalf("%s: %v, want %v", call, got, want)
	}
}

var keysTried = 0

// newKey returns a key that no segment has.
func newKey(t *testing.T) int {
	t.Helper()
	for {
		keysTried++
		key := 1<<30 | os.Getpid()<<8 | keysTried&0xff
		if _, err := unix.SysvShmGet(key, 0, 0); err == unix.ENOENT {
			return key
		} else if keysTried > 0xff {
			t.Fatalf("shmget key %#x: %v: no key is free", key, err)
		}
	}
}

// ftok is the function of the C library. It makes a key of the low bits of
// the inode number, of the device number and of id. See ftok(3).
func ftok(path string, id int) (key int, err error) {
	var st unix.Stat_t
	err = unix.Stat(path, &st)
	return int(st.Ino&0xffff) | int(st.Dev&0xff)<<16 | id&0xff<<24, err
}

// newSegment creates a segment without a key. It is removed when the test
// ends.
func newSegment(t *testing.T, size int) (id int) {
	t.Helper()
	return createSegment(t, unix.IPC_PRIVATE, size, 0o600)
}

func createSegment(t *testing.T, key, size, mode int) (id int) {
	t.Helper()
	id, err := unix.SysvShmGet(key, size, unix.IPC_CREAT|unix.IPC_EXCL|mode)
	want(t, "shmget", err, nil)
	t.Cleanup(func() { unix.SysvShmCtl(id, unix.IPC_RMID, nil) })
	return id
}

// attach attaches a segment until the test ends.
func attach(t *testing.T, id, flags int) []byte {
	t.Helper()
	mem, err := unix.SysvShmAttach(id, 0, flags)
	want(t, "shmat", err, nil)
	t.Cleanup(func() { unix.SysvShmDetach(mem) })
	return mem
}

// stat returns what the kernel knows about a segment.
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

func int32At(mem []byte, offset int) *int32 {
	return (*int32)(unsafe.Pointer(&mem[offset]))
}

func addressOf(mem []byte) uintptr { return uintptr(unsafe.Pointer(&mem[0])) }

// mapping finds the line of /proc/self/maps that begins at an address.
func mapping(t *testing.T, address uintptr) (size int, perms string) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/maps")
	want(t, "read /proc/self/maps", err, nil)
	for line := range strings.Lines(string(text)) {
		var from, to uintptr
		fmt.Sscanf(line, "%x-%x %s", &from, &to, &perms)
		if from == address {
			return int(to - from), perms
		}
	}
	t.Fatalf("no mapping begins at %#x", address)
	return
}

// faultAt calls a function that may touch memory in a forbidden way. It
// returns the address of the fault, or 0 if there was none.
func faultAt(touch func()) (address uintptr) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if err := recover(); err != nil {
			address = err.(interface{ Addr() uintptr }).Addr()
		}
	}()
	touch()
	return 0
}

// inOwnProcess runs a test once more, in a process of its own. It returns
// true there. In the first process it reports the outcome and returns false.
func inOwnProcess(t *testing.T) bool {
	t.Helper()
	const variable = "SHM_BY_EXAMPLE_OWN_PROCESS"
	if os.Getenv(variable) == t.Name() {
		return true
	}
	cmd := exec.Command("/proc/self/exe", "-test.v",
		"-test.run=^"+t.Name()+"$", "-test.timeout="+patience.String())
	cmd.Env = append(os.Environ(), variable+"="+t.Name())
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("in its own process: %v\n%s", err, out)
	}
	return false
}

// A peer is the other process of a test.
type peer struct {
	conn
	cmd   *exec.Cmd
	stdin io.Closer
}

// newPeer starts the other process, which runs body and ends. The process is
// this test binary once more: there the test runs up to this same call, so
// nothing may come before it that must happen only once. With attr the
// process can run as another user. Where that is not allowed, the test is
// skipped.
func newPeer(t *testing.T, attr *syscall.SysProcAttr,
	body func(test conn)) *peer {
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
	cmd.SysProcAttr = attr
	stdin, err := cmd.StdinPipe()
	want(t, "pipe", err, nil)
	stdout, err := cmd.StdoutPipe()
	want(t, "pipe", err, nil)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil && attr != nil {
		cancel()
		t.Skipf("needs to start a process of another user: %v", err)
	} else {
		want(t, "start", err, nil)
	}
	p := &peer{conn{t, bufio.NewReader(stdout), stdin}, cmd, stdin}
	t.Cleanup(func() { p.end(); cancel() })
	return p
}

// end lets the other process end by itself.
func (p *peer) end() {
	p.stdin.Close()
	p.cmd.Wait()
}

// kill ends it by a signal.
func (p *peer) kill(signal unix.Signal) {
	p.cmd.Process.Signal(signal)
	p.cmd.Wait()
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

// waitForEnd waits until the test lets the other process end.
func (c conn) waitForEnd() { io.Copy(io.Discard, c.in) }
