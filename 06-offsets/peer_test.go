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
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// This file holds what the tests of the statements share: the other process
// of a test, and segments that go away with it.

const patience = time.Minute // for another process, on a busy machine

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
func newSegment(t *testing.T, size int) (id int) {
	t.Helper()
	id, err := unix.SysvShmGet(unix.IPC_PRIVATE, size, unix.IPC_CREAT|0o600)
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

// attachElsewhere attaches a segment at another address than the given one.
func attachElsewhere(t *testing.T, id int, address uintptr) []byte {
	t.Helper()
	for {
		if mem := attach(t, id); addressOf(mem) != address {
			return mem
		}
	}
}

// attachAt attaches a segment at a chosen address, as shmat(2) does in C. The
// address is in memory of newPlace, which unmaps the segment, too.
func attachAt(id int, address uintptr, flags int) (uintptr, error) {
	at, _, errno := unix.Syscall(unix.SYS_SHMAT, uintptr(id), address,
		uintptr(flags))
	if errno != 0 {
		return 0, errno
	}
	return at, nil
}

// newPlace maps memory of this process, so that there is a place where
// nothing else can be mapped.
func newPlace(t *testing.T, size int) []byte {
	t.Helper()
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	want(t, "mmap", err, nil)
	t.Cleanup(func() { unix.Munmap(mem) })
	return mem
}

func firstWord(mem []byte) *int32 {
	return (*int32)(unsafe.Pointer(&mem[0]))
}

func addressOf(mem []byte) uintptr { return uintptr(unsafe.Pointer(&mem[0])) }

// frame returns the number of the physical page at mem. It is 0 if this process
// has no CAP_SYS_ADMIN: then the kernel does not tell it.
func frame(mem []byte) int {
	f, err := os.Open("/proc/self/pagemap")
	if err != nil {
		return 0
	}
	defer f.Close()
	var entry uint64
	bytes := (*[8]byte)(unsafe.Pointer(&entry))
	f.ReadAt(bytes[:], int64(addressOf(mem))/int64(pageSize)*8)
	return int(entry & (1<<55 - 1))
}

// newPeer starts the other process, which runs body and ends. The process is
// this test binary once more: there the test runs up to this same call, so
// nothing may come before it that must happen only once. It returns the
// connection to that process.
func newPeer(t *testing.T, body func(test conn)) (other conn) {
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
	return conn{t, bufio.NewReader(stdout), stdin}
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
