//go:build linux && (amd64 || arm64 || riscv64)

package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The tests in this file show what the tutorial states about what the kernel
// knows about segments, or what is true instead. The table at the end of
// README.md names a test for each statement.

// Commands of shmctl that package unix lacks. See <linux/ipc.h> and
// <linux/shm.h>.
const (
	ipcInfo = 3  // IPC_INFO
	shmStat = 13 // SHM_STAT
	shmInfo = 14 // SHM_INFO
)

// A process may attach a segment several times, each time at another address.
// Each attach counts, and each is detached by itself.
func TestStatement18AttachedTwice(t *testing.T) {
	id := newSegment(t, 4, 0o600)
	a, b := attach(t, id), attach(t, id)
	wantAttaches(t, id, 2)
	*int32At(a, 0) = 18
	if got := *int32At(b, 0); got != 18 {
		t.Errorf("%d at the other address, want 18", got)
	}
	want(t, "shmdt", unix.SysvShmDetach(a), nil)
	wantAttaches(t, id, 1)
	if got := *int32At(b, 0); got != 18 {
		t.Errorf("%d after the first was detached, want 18", got)
	}
}

// "Without shmdt shm_nattch stays above 0": the kernel detaches when the
// process ends, even by kill -9.
func TestStatement20ExitDetaches(t *testing.T) {
	for _, end := range []func(peer){peer.end, peer.kill} {
		other := newPeer(t, func(test conn) {
			attach(t, test.hear())
			test.say(0)
			test.waitForEnd() // and no shmdt follows
		})
		id := newSegment(t, 1, 0o600)
		other.say(id)
		other.hear()
		wantAttaches(t, id, 1)
		end(other)
		wantAttaches(t, id, 0)
	}
}

// "shm_nattch is the number of processes": it is the number of attaches. After
// mprotect it is the number of mappings. This one process has two, then three.
func TestStatement21CountsAttaches(t *testing.T) {
	id := newSegment(t, 2*pageSize, 0o600)
	attach(t, id)
	mem := attach(t, id)
	wantAttaches(t, id, 2)
	// Other rights for one of its pages split a mapping into two.
	second, both := mem[pageSize:], unix.PROT_READ|unix.PROT_WRITE
	want(t, "mprotect", unix.Mprotect(second, unix.PROT_READ), nil)
	wantAttaches(t, id, 3)
	want(t, "mprotect", unix.Mprotect(second, both), nil)
}

// IPC_STAT needs read permission, even for the owner. It fills in size,
// times, pids, count and mode.
func TestStatement22StatNeedsRead(t *testing.T) {
	if !asOrdinaryUser(t) {
		return
	}
	start := time.Now().Unix()
	id := newSegment(t, 22, 0o600)
	ds := stat(t, id)
	if ds.Segsz != 22 || ds.Nattch != 0 || ds.Perm.Mode != 0o600 ||
		ds.Ctime < start || ds.Atime != 0 || ds.Dtime != 0 ||
		ds.Cpid != int32(os.Getpid()) || ds.Lpid != 0 {
		t.Errorf("a new segment: %+v", ds)
	}
	attach(t, id)
	ds = stat(t, id)
	if ds.Nattch != 1 || ds.Atime < start || ds.Lpid != ds.Cpid {
		t.Errorf("attached: %+v", ds)
	}
	unreadable := newSegment(t, 1, 0o200)
	_, err := unix.SysvShmCtl(unreadable, unix.IPC_STAT, &ds)
	want(t, "IPC_STAT with mode 0200", err, unix.EACCES)
}

// IPC_SET changes owner, group and mode, and nothing else.
func TestStatement23SetChangesTheOwner(t *testing.T) {
	id := newSegment(t, 23, 0o600)
	ds := stat(t, id)
	ds.Perm.Uid, ds.Perm.Gid, ds.Perm.Mode = nobody, nobody, 0o640
	ds.Segsz = 4096
	_, err := unix.SysvShmCtl(id, unix.IPC_SET, &ds)
	if err == unix.EINVAL {
		t.Skip("needs a user namespace that has the user 65534")
	}
	want(t, "IPC_SET", err, nil)
	// The creator stays the same, so this process may still look.
	ds = stat(t, id)
	if ds.Perm.Uid != nobody || ds.Perm.Gid != nobody ||
		ds.Perm.Mode != 0o640 || ds.Segsz != 23 ||
		ds.Perm.Cuid != uint32(os.Geteuid()) {
		t.Errorf("%+v", ds)
	}
}

// IPC_INFO gives the limits.
func TestStatement26InfoGivesLimits(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	setLimit(t, "shmmax", 1<<20)
	setLimit(t, "shmmni", 26)
	setLimit(t, "shmall", 1000)
	_, got := info[struct{ max, min, mni, seg, all uint64 }](t, ipcInfo)
	if got.max != 1<<20 || got.mni != 26 || got.all != 1000 || got.min != 1 {
		t.Errorf("%+v", got)
	}
}

// SHM_INFO gives what is in use: segments, their pages, those in memory.
func TestStatement27InfoGivesUse(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	newSegment(t, 1, 0o600)
	mem := attach(t, newSegment(t, 3*pageSize, 0o600))
	mem[0] = 1 // only this page exists
	_, got := info[struct {
		segments         int32
		pages, rss, swap uint64
	}](t, shmInfo)
	if got.segments != 2 || got.pages != 4 || got.rss+got.swap != 1 {
		t.Errorf("%+v, want 2 segments of 4 pages, 1 in memory", got)
	}
}

// SHM_STAT takes an index and returns an id. IPC_INFO and SHM_INFO return the
// highest index.
func TestStatement28StatByIndex(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	var ids []int
	for range 3 {
		ids = append(ids, newSegment(t, 1, 0o600))
	}
	unix.SysvShmCtl(ids[1], unix.IPC_RMID, nil)
	for _, command := range []int{ipcInfo, shmInfo} {
		if highest, _ := info[unix.SysvShmDesc](t, command); highest != 2 {
			t.Errorf("the highest index is %d, want 2", highest)
		}
	}
	for index, want := range ids {
		var ds unix.SysvShmDesc
		id, err := unix.SysvShmCtl(index, shmStat, &ds)
		if index == 1 && err != unix.EINVAL || index != 1 && id != want {
			t.Errorf("index %d: %d, %v, want %d", index, id, err, want)
		}
	}
}

// info asks for one of the structs that shmctl fills in for ipcs.
func info[T any](t *testing.T, command int) (result int, info T) {
	t.Helper()
	var ds unix.SysvShmDesc // has room for each of them
	result, err := unix.SysvShmCtl(0, command, &ds)
	want(t, "shmctl", err, nil)
	return result, *(*T)(unsafe.Pointer(&ds))
}

// Segments that nobody removes use up SHMMNI, their number, or SHMALL, their
// pages. Then shmget fails with ENOSPC, although memory is free.
func TestStatement33OrphansExhaustTheLimits(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	setLimit(t, "shmmni", 3)
	for range 3 {
		newSegment(t, 1, 0o600)
	}
	_, err := unix.SysvShmGet(unix.IPC_PRIVATE, 1, unix.IPC_CREAT|0o600)
	want(t, "a segment more than SHMMNI", err, unix.ENOSPC)

	setLimit(t, "shmmni", 100)
	setLimit(t, "shmall", 10) // 3 are in use
	newSegment(t, 7*pageSize, 0o600)
	_, err = unix.SysvShmGet(unix.IPC_PRIVATE, 1, unix.IPC_CREAT|0o600)
	want(t, "a page more than SHMALL", err, unix.ENOSPC)
}

// A child of fork inherits the attachments, without a call. A program that
// exec starts has none.
func TestStatement52ForkInheritsExecDoesNot(t *testing.T) {
	id := newSegment(t, 1, 0o600)
	attach(t, id)
	wantAttaches(t, id, 1)
	sleep, err := exec.LookPath("sleep")
	want(t, "sleep", err, nil)
	child := fork(t, sleep, "sleep", "60")
	wantAttaches(t, id, 2)
	if name := child.exec(); name != "sleep" {
		t.Errorf("it runs %q, want sleep", name)
	}
	wantAttaches(t, id, 1)
}

// A forked is a child that fork made. A Go program cannot use it for much: it
// may make system calls and nothing else. It calls exec when it is told to.
type forked struct{ pid, tell, gone int }

func fork(t *testing.T, path string, args ...string) forked {
	t.Helper()
	var p, q [2]int // p tells the child to go on, q shows that it has
	want(t, "pipe", unix.Pipe2(p[:], unix.O_CLOEXEC), nil)
	want(t, "pipe", unix.Pipe2(q[:], unix.O_CLOEXEC), nil)
	program, err := unix.BytePtrFromString(path)
	want(t, "path", err, nil)
	argv, err := syscall.SlicePtrFromStrings(args)
	want(t, "arguments", err, nil)
	var b [1]byte
	pid, _, errno := unix.RawSyscall(unix.SYS_CLONE, uintptr(unix.SIGCHLD),
		0, 0)
	if errno == 0 && pid == 0 {
		unix.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG,
			uintptr(unix.SIGKILL), 0)
		unix.RawSyscall(unix.SYS_READ, uintptr(p[0]),
			uintptr(unsafe.Pointer(&b)), 1)
		unix.RawSyscall(unix.SYS_EXECVE, uintptr(unsafe.Pointer(program)),
			uintptr(unsafe.Pointer(&argv[0])), 0)
		for {
			unix.RawSyscall(unix.SYS_EXIT, 1, 0, 0)
		}
	}
	if errno != 0 {
		t.Fatalf("fork: %v", errno)
	}
	unix.Close(p[0])
	unix.Close(q[1])
	t.Cleanup(func() {
		unix.Kill(int(pid), unix.SIGKILL)
		unix.Wait4(int(pid), nil, 0, nil)
		unix.Close(p[1])
		unix.Close(q[0])
	})
	return forked{int(pid), p[1], q[0]}
}

// exec lets the child call exec, which closes the pipe that it inherited. It
// returns the name of the program that the child runs then. The kernel sets
// the name a moment after it closes the pipe.
func (f forked) exec() (name string) {
	unix.Write(f.tell, []byte{1})
	unix.Read(f.gone, make([]byte, 1))
	own, _ := os.ReadFile("/proc/self/comm")
	for end := time.Now().Add(patience); time.Now().Before(end); {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", f.pid))
		if string(text) != string(own) {
			return strings.TrimSpace(string(text))
		}
		time.Sleep(time.Millisecond)
	}
	return strings.TrimSpace(string(own))
}
