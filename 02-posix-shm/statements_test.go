//go:build linux

package main_test

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The tests in this directory show what the tutorial states about POSIX
// objects, or what is true instead. The table at the end of README.md names a
// test for each statement.

// "Segments and POSIX objects live until they are removed, or until reboot":
// they outlive their processes, but a segment does not outlive its IPC
// namespace, as the next test shows. (No test can show here that logind
// removes a user's objects at logout.)
func TestStatement32OutlivesItsProcess(t *testing.T) {
	plain := []*syscall.SysProcAttr{nil}
	other := newPeer(t, plain, func(test conn) {
		key := test.hear()
		id, err := unix.SysvShmGet(key, pageSize,
			unix.IPC_CREAT|unix.IPC_EXCL|0o600)
		want(t, "shmget", err, nil)
		err = os.WriteFile(objectName(key), []byte("still here"), 0o600)
		want(t, "write", err, nil)
		test.say(id)
	})
	key := newKey(t)
	other.say(key)
	id := other.hear()
	t.Cleanup(func() {
		unix.SysvShmCtl(id, unix.IPC_RMID, nil)
		os.Remove(objectName(key))
	})
	other.end()
	if found, err := unix.SysvShmGet(key, 0, 0); err != nil || found != id {
		t.Errorf("the segment: %d, %v, want %d", found, err, id)
	}
	text, err := os.ReadFile(objectName(key))
	if string(text) != "still here" {
		t.Errorf("the object: %q, %v", text, err)
	}
}

// The memory of a segment that nobody removed is free again once the last
// process of its IPC namespace has ended.
func TestStatement32EndsWithItsNamespace(t *testing.T) {
	const size = 32 << 20
	other := newPeer(t, inNewNamespace(), func(test conn) {
		id, err := unix.SysvShmGet(unix.IPC_PRIVATE, size,
			unix.IPC_CREAT|0o600)
		want(t, "shmget", err, nil)
		mem, err := unix.SysvShmAttach(id, 0, 0)
		want(t, "shmat", err, nil)
		for i := range mem {
			mem[i] = 1
		}
		test.say(id)
		test.waitForEnd()
	})
	other.hear()
	with := sharedMemory(t)
	other.end() // and nobody removes the segment
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		now := sharedMemory(t)
		if now < with-size/2 { // other processes have shared memory, too
			return
		} else if time.Now().After(end) {
			t.Fatalf("%d bytes with the namespace, %d after it", with, now)
		}
	}
}

// sharedMemory returns how much shared memory this machine uses, in bytes.
func sharedMemory(t *testing.T) (bytes int) {
	text, err := os.ReadFile("/proc/meminfo")
	want(t, "read /proc/meminfo", err, nil)
	_, after, _ := strings.Cut(string(text), "Shmem:")
	fmt.Sscan(after, &bytes)
	return bytes << 10
}

// The life of an object, from creation to removal. The C functions are
// shm_open, ftruncate, mmap, munmap, close and shm_unlink.
func TestStatement34LifeOfAnObject(t *testing.T) {
	name := objectName(newKey(t))
	fd, err := unix.Open(name, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR|
		unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	want(t, "shm_open", err, nil)
	defer os.Remove(name)
	var st unix.Stat_t
	if unix.Fstat(fd, &st); st.Size != 0 {
		t.Errorf("a new object has %d bytes, want 0", st.Size)
	}
	want(t, "ftruncate", unix.Ftruncate(fd, 34), nil)
	mem, err := unix.Mmap(fd, 0, 34, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_SHARED)
	want(t, "mmap", err, nil)
	copy(mem, "hello")
	want(t, "close", unix.Close(fd), nil)
	want(t, "shm_unlink", unix.Unlink(name), nil)
	if got := string(mem[:5]); got != "hello" { // the mapping is still there
		t.Errorf("%q, want hello", got)
	}
	want(t, "munmap", unix.Munmap(mem), nil)
	_, err = unix.Open(name, unix.O_RDWR|unix.O_CLOEXEC, 0)
	want(t, "shm_open after shm_unlink", err, unix.ENOENT)
}

// MAP_POPULATE faults the pages in beforehand. Without it, each first touch
// is a fault.
func TestStatement35Populate(t *testing.T) {
	runtime.LockOSThread() // the kernel counts the faults of each thread
	defer runtime.UnlockOSThread()
	const pages = 64
	touch := func(flags int) int64 {
		size := pages * pageSize
		mem := mapObject(t, newObject(t, size), size, flags)
		before := pageFaults()
		for page := range pages {
			mem[page*pageSize] = 1
		}
		return pageFaults() - before
	}
	if n := touch(unix.MAP_POPULATE); n > pages/4 {
		t.Errorf("populated: %d faults for %d pages, want none", n, pages)
	}
	if n := touch(0); n < pages {
		t.Errorf("not populated: %d faults for %d pages", n, pages)
	}
}

// "MAP_HUGETLB gives huge pages, else fall back": on an object of shm_open it
// always fails, even if huge pages are free. It needs a file of hugetlbfs.
func TestStatement36NoHugePages(t *testing.T) {
	const size = 2 << 20
	f := newObject(t, size)
	_, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_SHARED|unix.MAP_HUGETLB)
	want(t, "mmap MAP_HUGETLB", err, unix.EINVAL)
	mapObject(t, f, size, 0)
}

// mlock brings pages into memory and keeps them there: the kernel refuses to
// write them out. (SHM_LOCK of lesson 07 only keeps them.)
func TestStatement37Mlock(t *testing.T) {
	f := newObject(t, pageSize)
	mem := mapObject(t, f, pageSize, 0)
	want(t, "MADV_PAGEOUT", unix.Madvise(mem, unix.MADV_PAGEOUT), nil)
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st); st.Blocks != 0 {
		t.Errorf("%d blocks in memory before the first touch", st.Blocks)
	}
	err := unix.Mlock(mem)
	if err == unix.EPERM || err == unix.ENOMEM {
		t.Skipf("needs to lock memory (ulimit -l): %v", err)
	}
	want(t, "mlock", err, nil)
	if unix.Fstat(int(f.Fd()), &st); st.Blocks == 0 {
		t.Errorf("no blocks in memory after mlock")
	}
	err = unix.Madvise(mem, unix.MADV_PAGEOUT)
	want(t, "MADV_PAGEOUT when locked", err, unix.EINVAL)
}
