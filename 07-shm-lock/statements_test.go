//go:build linux

package main_test

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The tests in this file show what the tutorial states about locked pages, or
// what is true instead. The table at the end of README.md names a test for
// each statement.

// Constants that package unix lacks.
const (
	shmLock   = 11     // SHM_LOCK in <linux/shm.h>
	shmUnlock = 12     // SHM_UNLOCK
	shmLocked = 0o2000 // SHM_LOCKED, in the mode
)

var pageSize = os.Getpagesize()

// SHM_LOCK sets SHM_LOCKED and keeps the pages from being swapped: the kernel
// counts them as unevictable, and not the pages of another segment.
func TestStatement29LockedIsNotSwapped(t *testing.T) {
	const pages = 128
	locked := newSegment(t, pages*pageSize)
	other := newSegment(t, pages*pageSize)
	lock(t, locked)
	if got := mode(t, locked); got != 0o600|shmLocked {
		t.Errorf("mode %o, want 2600", got)
	}
	for _, id := range []int{locked, other} {
		mem := attach(t, id)
		for page := range pages {
			mem[page*pageSize] = 1
		}
		if frame(mem) == 0 {
			t.Log("the kernel tells the pages' state to CAP_SYS_ADMIN only")
			break
		}
		n := 0
		for page := range pages {
			if unevictable(t, frame(mem[page*pageSize:])) {
				n++
			}
		}
		// The kernel marks new pages in groups. The last group may not be
		// marked yet.
		if (n > pages/2) != (id == locked) || id == other && n > 0 {
			t.Errorf("%d of %d pages are unevictable", n, pages)
		}
	}
	_, err := unix.SysvShmCtl(locked, shmUnlock, nil)
	want(t, "SHM_UNLOCK", err, nil)
	if got := mode(t, locked); got != 0o600 {
		t.Errorf("unlocked: mode %o, want 600", got)
	}
}

// "SHM_LOCK needs CAP_IPC_LOCK": since Linux 2.6.10 the owner needs no
// capability, only room within RLIMIT_MEMLOCK, which ulimit -l shows.
func TestStatement30LockWithinTheLimit(t *testing.T) {
	if !asOrdinaryUser(t) {
		return
	}
	var limit unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit)
	want(t, "getrlimit", err, nil)
	most := min(limit.Max, 8<<20)
	if most < uint64(pageSize) {
		t.Skip("needs a hard limit of a page of locked memory (ulimit -Hl)")
	}
	small := newSegment(t, pageSize)
	large := newSegment(t, int(most)+pageSize)
	for _, c := range []struct {
		limit uint64
		id    int
		want  error
	}{
		{most, small, nil},
		{most, large, unix.ENOMEM},
		{0, large, unix.EPERM},
	} {
		limit.Cur = c.limit
		err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &limit)
		want(t, "setrlimit", err, nil)
		_, err = unix.SysvShmCtl(c.id, shmLock, nil)
		end := time.Now().Add(patience / 2)
		for err == unix.ENOMEM && c.want == nil && time.Now().Before(end) {
			// All processes of a user share the limit. Try again until others
			// have ended.
			time.Sleep(5 * time.Millisecond)
			_, err = unix.SysvShmCtl(c.id, shmLock, nil)
		}
		call := fmt.Sprintf("SHM_LOCK with a limit of %d", c.limit)
		want(t, call, err, c.want)
	}
}

// "After SHM_LOCK no page fault happens": it brings no page into memory, and
// the first touch of each page is a fault.
func TestStatement31LockFaultsNothingIn(t *testing.T) {
	runtime.LockOSThread() // the kernel counts the faults of each thread
	defer runtime.UnlockOSThread()
	const pages = 8
	id := newSegment(t, pages*pageSize)
	lock(t, id)
	if got := rss(t, id); got != 0 {
		t.Errorf("locked: %d bytes in memory, want none", got)
	}
	mem := attach(t, id)
	before := pageFaults()
	for page := range pages {
		mem[page*pageSize] = 1
	}
	if n := pageFaults() - before; n < pages {
		t.Errorf("%d faults, want %d", n, pages)
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

// lock locks a segment in memory, or skips the test if this process may not.
func lock(t *testing.T, id int) {
	t.Helper()
	_, err := unix.SysvShmCtl(id, shmLock, nil)
	if err == unix.EPERM || err == unix.ENOMEM {
		t.Skipf("needs to lock memory (ulimit -l): %v", err)
	}
	want(t, "SHM_LOCK", err, nil)
	t.Cleanup(func() { unix.SysvShmCtl(id, shmUnlock, nil) })
}

// mode returns the permissions of a segment and its flags.
func mode(t *testing.T, id int) uint32 {
	t.Helper()
	var ds unix.SysvShmDesc
	_, err := unix.SysvShmCtl(id, unix.IPC_STAT, &ds)
	want(t, "shmctl IPC_STAT", err, nil)
	return uint32(ds.Perm.Mode)
}

// rss returns how many bytes of a segment are in memory.
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

// pageFaults returns how many page faults this thread has had.
func pageFaults() int64 {
	var usage syscall.Rusage
	syscall.Getrusage(unix.RUSAGE_THREAD, &usage)
	return usage.Minflt
}

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
	address := int64(uintptr(unsafe.Pointer(&mem[0])))
	f.ReadAt(bytes[:], address/int64(pageSize)*8)
	return int(entry & (1<<55 - 1))
}

// unevictable tells whether the kernel keeps a page out of swap.
func unevictable(t *testing.T, frame int) bool {
	t.Helper()
	f, err := os.Open("/proc/kpageflags")
	want(t, "open /proc/kpageflags", err, nil)
	defer f.Close()
	var flags uint64
	bytes := (*[8]byte)(unsafe.Pointer(&flags))
	_, err = f.ReadAt(bytes[:], int64(frame)*8)
	want(t, "read /proc/kpageflags", err, nil)
	const unevictable = 18 // KPF_UNEVICTABLE in <linux/kernel-page-flags.h>
	return flags>>unevictable&1 != 0
}
