//go:build linux

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

	"golang.org/x/sys/unix"
)

// This file holds what the tests of the statements share: the other process
// of a test, and objects that go away with it. The tests run one after the
// other.

const patience = time.Minute // for another process, on a busy machine

var pageSize = os.Getpagesize()

// want stops the test unless a call ended as it should.
func want(t testing.TB, call string, got, want error) {
	t.Helper()
	if got != want {
		t.Fatalf("%s: %v, want %v", call, got, want)
	}
}

var keysTried = 0

// newKey returns a key that no segment has. No object has its objectName.
func newKey(t testing.TB) int {
	t.Helper()
	for {
		keysTried++
		key := 1<<30 | os.Getpid()<<8 | keysTried&0xff
		_, noSegment := unix.SysvShmGet(key, 0, 0)
		_, noObject := os.Lstat(objectName(key))
		if noSegment == unix.ENOENT && os.IsNotExist(noObject) {
			return key
		} else if keysTried > 0xff {
			t.Fatalf("no key is free: %v, %v", noSegment, noObject)
		}
	}
}

// objectName returns the path of the POSIX object that belongs to a key.
func objectName(key int) string {
	return fmt.Sprintf("/dev/shm/shm-by-example-%d", key)
}

// newObject creates a POSIX object. Its name is removed when the test ends.
func newObject(t *testing.T, size int) *os.File {
	t.Helper()
	f, err := os.OpenFile(objectName(newKey(t)),
		os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	want(t, "shm_open", err, nil)
	t.Cleanup(func() {
		os.Remove(f.Name())
		f.Close()
	})
	want(t, "ftruncate", f.Truncate(int64(size)), nil)
	return f
}

// mapObject maps an object until the test ends.
func mapObject(t *testing.T, f *os.File, size, flags int) []byte {
	t.Helper()
	mem, err := unix.Mmap(int(f.Fd()), 0, size,
		unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|flags)
	want(t, "mmap", err, nil)
	t.Cleanup(func() { unix.Munmap(mem) })
	return mem
}

// pageFaults returns how many page faults this thread has had.
func pageFaults() int64 {
	var usage syscall.Rusage
	syscall.Getrusage(unix.RUSAGE_THREAD, &usage)
	return usage.Minflt
}

// inNewNamespace lists ways to start a process in an IPC namespace of its
// own: one for root, and one for other users, on systems that allow it.
func inNewNamespace() []*syscall.SysProcAttr {
	root := func(id int) []syscall.SysProcIDMap {
		return []syscall.SysProcIDMap{{HostID: id, Size: 1}}
	}
	return []*syscall.SysProcAttr{
		{Cloneflags: unix.CLONE_NEWIPC},
		{Cloneflags: unix.CLONE_NEWIPC | unix.CLONE_NEWUSER,
			UidMappings: root(os.Geteuid()), GidMappings: root(os.Getegid())},
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
// nothing may come before it that must happen only once. The process starts
// in the first way that is allowed; if none is, the test is skipped.
func newPeer(t *testing.T, ways []*syscall.SysProcAttr,
	body func(test conn)) *peer {
	t.Helper()
	const variable = "SHM_BY_EXAMPLE_PEER"
	if os.Getenv(variable) == t.Name() {
		body(conn{t, bufio.NewReader(os.Stdin), os.Stdout})
		os.Exit(0)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	var err error
	for _, attr := range ways {
		cmd := exec.CommandContext(ctx, "/proc/self/exe",
			"-test.run=^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), variable+"="+t.Name())
		cmd.SysProcAttr = attr
		cmd.Stderr = os.Stderr
		stdin, e := cmd.StdinPipe()
		want(t, "pipe", e, nil)
		stdout, e := cmd.StdoutPipe()
		want(t, "pipe", e, nil)
		if err = cmd.Start(); err == nil {
			p := &peer{conn{t, bufio.NewReader(stdout), stdin}, cmd, stdin}
			t.Cleanup(p.end)
			return p
		}
	}
	t.Skipf("needs to start a process in an IPC namespace: %v", err)
	return nil
}

// end lets the other process end by itself.
func (p *peer) end() {
	p.stdin.Close()
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
