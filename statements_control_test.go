//go:build linux

package shm_test

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// IPC_STAT needs the right to read, also of the owner, and fills in size,
// times, pids, count and mode.
func TestStatement22StatNeedsRead(t *testing.T) {
	if !asOrdinaryUser(t) {
		return
	}
	start := time.Now().Unix()
	id := newSegment(t, 22)
	ds := stat(t, id)
	if ds.Segsz != 22 || ds.Nattch != 0 || ds.Perm.Mode != 0o600 || ds.Ctime < start ||
		ds.Cpid != int32(os.Getpid()) || ds.Lpid != 0 || ds.Atime != 0 || ds.Dtime != 0 {
		t.Errorf("a new segment: %+v", ds)
	}
	attach(t, id, 0)
	if ds := stat(t, id); ds.Nattch != 1 || ds.Atime < start || ds.Lpid != ds.Cpid {
		t.Errorf("attached: %+v", ds)
	}
	blind := newSegmentMode(t, unix.IPC_PRIVATE, 1, 0o200)
	_, err := unix.SysvShmCtl(blind, unix.IPC_STAT, &ds)
	want(t, "IPC_STAT with mode 0200", err, unix.EACCES)
}

// IPC_SET changes owner, group and mode, and nothing else.
func TestStatement23SetChangesTheOwner(t *testing.T) {
	parallel(t)
	id := newSegment(t, 23)
	ds := stat(t, id)
	ds.Perm.Uid, ds.Perm.Gid, ds.Perm.Mode, ds.Segsz = 65534, 65534, 0o640, 4096
	_, err := unix.SysvShmCtl(id, unix.IPC_SET, &ds)
	if err == unix.EINVAL {
		t.Skip("needs a user namespace with the user 65534")
	}
	want(t, "IPC_SET", err, nil)
	remains := os.Geteuid()
	// As its creator we may still look: that cannot be given away.
	if ds := stat(t, id); ds.Perm.Uid != 65534 || ds.Perm.Gid != 65534 ||
		ds.Perm.Mode != 0o640 || ds.Perm.Cuid != uint32(remains) || ds.Segsz != 23 {
		t.Errorf("%+v", ds)
	}
}

// IPC_RMID marks the segment with SHM_DEST and takes its key away; it is
// removed with the last detach.
func TestStatement24RemovedAtTheLastDetach(t *testing.T) {
	parallel(t)
	key := newKey()
	id := newSegmentMode(t, key, 1, 0o600)
	mem := attach(t, id, 0)
	_, err := unix.SysvShmCtl(id, unix.IPC_RMID, nil)
	want(t, "IPC_RMID", err, nil)
	if ds := stat(t, id); ds.Perm.Mode != 0o600|shmDest || ds.Perm.Key != 0 {
		t.Errorf("mode %o, key %#x, want 1600 and 0", ds.Perm.Mode, ds.Perm.Key)
	}
	_, err = unix.SysvShmGet(key, 0, 0)
	want(t, "shmget with the old key", err, unix.ENOENT)
	detach(t, mem)
	_, err = unix.SysvShmCtl(id, unix.IPC_STAT, new(unix.SysvShmDesc))
	want(t, "IPC_STAT after the last detach", err, unix.EINVAL)
}

// Those who are attached can use a marked segment. On Linux, others can even
// attach it, by its id.
func TestStatement25MarkedIsUsable(t *testing.T) {
	parallel(t)
	id := newSegment(t, 4)
	mem := attach(t, id, 0)
	_, err := unix.SysvShmCtl(id, unix.IPC_RMID, nil)
	want(t, "IPC_RMID", err, nil)
	other := newPeer(t)
	other.attach(id, nil)
	other.store(0, 25)
	if got := *int32At(mem, 0); got != 25 {
		t.Errorf("%d, want the other's 25", got)
	}
}

// IPC_INFO gives the limits.
func TestStatement26InfoGivesLimits(t *testing.T) {
	if !inRoom(t) {
		return
	}
	limit(t, "shmmax", 1<<20)
	limit(t, "shmmni", 26)
	limit(t, "shmall", 1000)
	_, got := info[struct{ max, min, mni, seg, all uint64 }](t, ipcInfo)
	if got.max != 1<<20 || got.mni != 26 || got.all != 1000 || got.min != 1 {
		t.Errorf("%+v", got)
	}
}

// SHM_INFO gives what is in use: segments, their pages, those in memory.
func TestStatement27InfoGivesUse(t *testing.T) {
	if !inRoom(t) {
		return
	}
	newSegment(t, 1)
	mem := attach(t, newSegment(t, 3*pageSize), 0)
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
	if !inRoom(t) {
		return
	}
	ids := []int{newSegment(t, 1), newSegment(t, 1), newSegment(t, 1)}
	remove("shm", ids[1])
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

// lockSegment locks a segment in memory, if this process may.
func lockSegment(t *testing.T, id int) {
	t.Helper()
	_, err := unix.SysvShmCtl(id, shmLock, nil)
	if err == unix.EPERM || err == unix.ENOMEM {
		t.Skipf("needs to lock memory (ulimit -l): %v", err)
	}
	want(t, "SHM_LOCK", err, nil)
	t.Cleanup(func() { unix.SysvShmCtl(id, shmUnlock, nil) })
}

// SHM_LOCK sets SHM_LOCKED and keeps the pages from being swapped: to the
// kernel they are unevictable. Those of another segment are not.
func TestStatement29LockedIsNotSwapped(t *testing.T) {
	parallel(t)
	const pages = 128
	locked, other := newSegment(t, pages*pageSize), newSegment(t, pages*pageSize)
	lockSegment(t, locked)
	if mode := stat(t, locked).Perm.Mode; mode != 0o600|shmLocked {
		t.Errorf("mode %o, want 2600", mode)
	}
	for _, id := range []int{locked, other} {
		mem := attach(t, id, 0)
		for page := range pages {
			mem[page*pageSize] = 1
		}
		if frame(mem) == 0 {
			t.Log("the pages' state is for CAP_SYS_ADMIN only")
			break
		}
		n := 0
		for page := range pages {
			if unevictable(t, frame(mem[page*pageSize:])) {
				n++
			}
		}
		// The kernel sorts new pages in by the dozen: a few are not yet.
		if (n > pages/2) != (id == locked) || id == other && n > 0 {
			t.Errorf("%d of %d pages are unevictable", n, pages)
		}
	}
	_, err := unix.SysvShmCtl(locked, shmUnlock, nil)
	want(t, "SHM_UNLOCK", err, nil)
	if mode := stat(t, locked).Perm.Mode; mode != 0o600 {
		t.Errorf("unlocked: mode %o, want 600", mode)
	}
}

// unevictable tells whether the kernel will not write a page out to swap.
func unevictable(t *testing.T, frame int) bool {
	f, err := os.Open("/proc/kpageflags")
	want(t, "open", err, nil)
	defer f.Close()
	var flags [8]byte
	_, err = f.ReadAt(flags[:], int64(frame)*8)
	want(t, "read "+f.Name(), err, nil)
	return flags[2]&4 != 0 // KPF_UNEVICTABLE, bit 18
}

// "SHM_LOCK needs CAP_IPC_LOCK": since Linux 2.6.10 the owner needs only the
// limit RLIMIT_MEMLOCK, which ulimit -l shows, and no capability.
func TestStatement30LockWithinTheLimit(t *testing.T) {
	if !asOrdinaryUser(t) {
		return
	}
	var has unix.Rlimit
	want(t, "getrlimit", unix.Getrlimit(unix.RLIMIT_MEMLOCK, &has), nil)
	most := min(has.Max, 8<<20)
	if most < uint64(pageSize) {
		t.Skip("needs a hard limit of a page of locked memory (ulimit -Hl)")
	}
	small, large := newSegment(t, pageSize), newSegment(t, int(most)+pageSize)
	for _, c := range []struct {
		limit uint64
		id    int
		want  error
	}{
		{most, small, nil},
		{most, large, unix.ENOMEM},
		{0, large, unix.EPERM},
	} {
		has.Cur = c.limit
		want(t, "setrlimit", unix.Setrlimit(unix.RLIMIT_MEMLOCK, &has), nil)
		_, err := unix.SysvShmCtl(c.id, shmLock, nil)
		for end := time.Now().Add(untilTime); c.want == nil && err == unix.ENOMEM &&
			time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			// All processes of the user share the limit: when they are done.
			_, err = unix.SysvShmCtl(c.id, shmLock, nil)
		}
		want(t, fmt.Sprintf("SHM_LOCK with a limit of %d", c.limit), err, c.want)
	}
}

// "After SHM_LOCK no page fault happens": it brings nothing into memory, and
// the first touch of each page is a fault.
func TestStatement31LockFaultsNothingIn(t *testing.T) {
	parallel(t)
	runtime.LockOSThread() // whose faults are counted
	defer runtime.UnlockOSThread()
	id := newSegment(t, 8*pageSize)
	lockSegment(t, id)
	if got := rss(t, id); got != 0 {
		t.Errorf("locked: %d bytes in memory, want none", got)
	}
	mem := attach(t, id, 0)
	before := pageFaults()
	for page := range 8 {
		mem[page*pageSize] = 1
	}
	if n := pageFaults() - before; n < 8 {
		t.Errorf("%d faults, want 8", n)
	}
}

// "Segments and POSIX objects live until they are removed, or until reboot":
// they outlive their processes, but not their IPC namespace. (That logind
// removes a user's at logout cannot be shown here.)
func TestStatement32OutlivesItsProcess(t *testing.T) {
	t.Parallel()
	other, key, name := newPeer(t), newKey(), newName()
	id := other.ask("make", key, pageSize)
	t.Cleanup(func() { remove("shm", id); os.Remove(name) })
	other.ask("object", name)
	other.end()
	if found, err := unix.SysvShmGet(key, 0, 0); err != nil || found != id {
		t.Errorf("the segment: %d, %v, want %d", found, err, id)
	}
	if text, err := os.ReadFile(name); string(text) != "still here" {
		t.Errorf("the object: %q, %v", text, err)
	}
	t.Run("Namespace", namespaceEnds)
}

// namespaceEnds: the memory of a segment that nobody removed is free again
// once the last process of its IPC namespace has ended.
func namespaceEnds(t *testing.T) {
	if privateRoom() == shared {
		t.Skip("needs a private IPC namespace")
	}
	other := newPeerIn(t, job{Room: privateRoom()})
	const size = 32 << 20
	id := other.ask("make", newKey(), size)
	other.attach(id, nil)
	other.ask("fill")
	with := sharedMemory(t)
	other.kill(unix.SIGKILL) // it leaves the segment
	for end := time.Now().Add(untilTime); ; time.Sleep(5 * time.Millisecond) {
		if now := sharedMemory(t); now < with-size/2 {
			return
		} else if time.Now().After(end) {
			t.Fatalf("%d bytes with the namespace, %d after its end", with, now)
		}
	}
}

// sharedMemory is how much there is on this machine, in bytes.
func sharedMemory(t *testing.T) (bytes int) {
	text, err := os.ReadFile("/proc/meminfo")
	want(t, "read /proc/meminfo", err, nil)
	_, after, _ := strings.Cut(string(text), "Shmem:")
	fmt.Sscan(after, &bytes)
	return bytes << 10
}

// Segments that nobody removes use up SHMMNI, their number, or SHMALL, their
// pages: then shmget fails with ENOSPC. No memory is lacking.
func TestStatement33OrphansExhaustTheLimits(t *testing.T) {
	if !inRoom(t) {
		return
	}
	limit(t, "shmmni", 3)
	for range 3 {
		newSegment(t, 1)
	}
	_, err := unix.SysvShmGet(unix.IPC_PRIVATE, 1, unix.IPC_CREAT|0o600)
	want(t, "a segment more than SHMMNI", err, unix.ENOSPC)

	limit(t, "shmmni", 100)
	limit(t, "shmall", 10) // 3 are in use
	newSegment(t, 7*pageSize)
	_, err = unix.SysvShmGet(unix.IPC_PRIVATE, 1, unix.IPC_CREAT|0o600)
	want(t, "a page more than SHMALL", err, unix.ENOSPC)
}
