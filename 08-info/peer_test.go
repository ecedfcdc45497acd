//go:build linux && (amd64 || arm64 || riscv64)

package main_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// This file holds what the tests of the statements share: the other process
// of a test, a process with other rights, and segments that go away with a
// test. The tests run one after the other, so that none sees what another has
// attached.

const (
	patience = time.Minute // for another process, on a busy machine
	nobody   = 65534       // a user and a group without any rights
)

var pageSize = os.Getpagesize()

// want stops the test unless a call ended as it should.
func want(t testing.TB, call string, got, want error) {
	t.Helper()
	if got != want {
		t.Fatalf("%s: %v, want %v", call, got, want)
	}
}

// newSegment creates a segment without a key. It is removed when the test
// ends.
func newSegment(t *testing.T, size, mode int) (id int) {
	t.Helper()
	id, err := unix.SysvShmGet(unix.IPC_PRIVATE, size, unix.IPC_CREAT|mode)
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

// again runs a test once more, in a process of its own, and returns true there.
// It starts the process in the first of these ways that is allowed. In the
// first process it reports the outcome and returns false. If no way is allowed,
// it skips the test and says what the test needs.
func again(t *testing.T, needs string, ways ...*syscall.SysProcAttr) bool {
	t.Helper()
	const variable = "SHM_BY_EXAMPLE_AGAIN"
	if os.Getenv(variable) == t.Name() {
		return true
	}
	var err error
	for _, attr := range ways {
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
			t.Errorf("in its own process: %v\n%s", err, &out)
		}
		return false
	}
	t.Skipf("needs %s: %v", needs, err)
	return false
}

// inNamespace runs a test again in an IPC namespace of its own, as root of
// it. There are no other segments, and the test may change the limits.
func inNamespace(t *testing.T) bool {
	t.Helper()
	root := func(id int) []syscall.SysProcIDMap {
		return []syscall.SysProcIDMap{{HostID: id, Size: 1}}
	}
	return again(t, "an IPC namespace of its own",
		&syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWIPC}, // root may
		&syscall.SysProcAttr{
			Cloneflags:  unix.CLONE_NEWIPC | unix.CLONE_NEWUSER,
			UidMappings: root(os.Geteuid()), GidMappings: root(os.Getegid())})
}

// asOrdinaryUser runs a test again without any privilege.
func asOrdinaryUser(t *testing.T) bool {
	t.Helper()
	attr := new(syscall.SysProcAttr)
	if os.Geteuid() == 0 {
		attr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	return again(t, "a process of another user", attr)
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
	cmd   *exec.Cmd
	stdin io.Closer
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
	p := peer{conn{t, bufio.NewReader(stdout), stdin}, cmd, stdin}
	t.Cleanup(func() { cancel(); p.end() })
	return p
}

// end lets the other process end by itself.
func (p peer) end() {
	p.stdin.Close()
	p.cmd.Wait()
}

// kill ends it by a signal that it cannot catch.
func (p peer) kill() {
	p.cmd.Process.Kill()
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
