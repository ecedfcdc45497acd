//go:build linux

// Package writeread_test shows what the tutorial states about creating,
// attaching and removing a segment, or what is true instead. The table at the
// end of README.md names a test for each statement.
package writeread_test

import (
	"bytes"
	"os"
	"runtime"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Constants that package unix lacks.
const (
	shmDest = 0o1000   // SHM_DEST in the mode: marked for removal
	shmExec = 0o100000 // SHM_EXEC in <linux/shm.h>
)

// A key is any number, or one from ftok, or IPC_PRIVATE.
func TestStatement01AnyKey(t *testing.T) {
	derived, err := ftok(t.TempDir(), newKey(t))
	want(t, "ftok", err, nil)
	for _, key := range []int{newKey(t), derived} {
		id := createSegment(t, key, 1, 0o600)
		if found, err := unix.SysvShmGet(key, 0, 0); err != nil || found != id {
			t.Errorf("key %#x: id %d, %v, want %d", key, found, err, id)
		}
	}
	// IPC_PRIVATE is 0, and each call creates a new segment.
	if one, two := newSegment(t, 1), newSegment(t, 1); one == two {
		t.Error("IPC_PRIVATE found a segment")
	}
}

// "The size is rounded up to pages": the mapping is, shm_segsz is not.
func TestStatement04SizeIsNotRounded(t *testing.T) {
	id := newSegment(t, 1000)
	if got := stat(t, id).Segsz; got != 1000 {
		t.Errorf("shm_segsz is %d, want 1000", got)
	}
	mem := attach(t, id, 0)
	if size, _ := mapping(t, addressOf(mem)); size != pageSize {
		t.Errorf("%d bytes are mapped, want %d", size, pageSize)
	}
}

// "IPC_CREAT creates or attaches, and IPC_EXCL fails if the segment exists":
// IPC_CREAT creates or opens and attaches nothing. IPC_EXCL alone is ignored.
func TestStatement05CreatAndExcl(t *testing.T) {
	key := newKey(t)
	id := createSegment(t, key, 1, 0o600)
	opened, err := unix.SysvShmGet(key, 1, unix.IPC_CREAT|0o600)
	if err != nil || opened != id {
		t.Errorf("IPC_CREAT: %d, %v, want %d", opened, err, id)
	}
	wantAttaches(t, id, 0)
	_, err = unix.SysvShmGet(key, 1, unix.IPC_CREAT|unix.IPC_EXCL|0o600)
	want(t, "IPC_CREAT|IPC_EXCL", err, unix.EEXIST)
	_, err = unix.SysvShmGet(key, 1, unix.IPC_EXCL|0o600)
	want(t, "IPC_EXCL alone", err, nil)
}

// The permissions are or-ed into the flags, and the segment keeps them. The
// umask does not apply.
func TestStatement06NoUmask(t *testing.T) {
	if !inOwnProcess(t) {
		return // the umask belongs to the whole process
	}
	syscall.Umask(0o077)
	id := createSegment(t, unix.IPC_PRIVATE, 1, 0o664)
	if got := stat(t, id).Perm.Mode; got != 0o664 {
		t.Errorf("mode %o, want 664", got)
	}
	// To a file, and so to a POSIX object, the umask applies.
	file := t.TempDir() + "/file"
	want(t, "write", os.WriteFile(file, nil, 0o664), nil)
	info, err := os.Stat(file)
	want(t, "stat", err, nil)
	if info.Mode() != 0o600 {
		t.Errorf("the file has mode %v, want 600", info.Mode())
	}
}

// "0666 is a normal choice": it lets every user of the machine read and
// write. 0600 does not.
func TestStatement08EverybodyMayEnter(t *testing.T) {
	const nobody = 65534
	stranger := newPeer(t, &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: nobody, Gid: nobody},
	}, func(test conn) {
		_, err := unix.SysvShmAttach(test.hear(), 0, 0)
		errno, _ := err.(syscall.Errno)
		test.say(int(errno))
		*int32At(attach(t, test.hear(), 0), 0) = 666
		test.say(0)
	})
	closed := createSegment(t, unix.IPC_PRIVATE, 4, 0o600)
	stranger.say(closed)
	want(t, "shmat with mode 0600", unix.Errno(stranger.hear()), unix.EACCES)
	open := createSegment(t, unix.IPC_PRIVATE, 4, 0o666)
	mem := attach(t, open, 0)
	stranger.say(open)
	stranger.hear()
	if got := *int32At(mem, 0); got != 666 {
		t.Errorf("mode 0666: %d in the segment, want the stranger's 666", got)
	}
}

// With the address NULL the kernel chooses one that is free.
func TestStatement09KernelChooses(t *testing.T) {
	id := newSegment(t, 1)
	a, b := addressOf(attach(t, id, 0)), addressOf(attach(t, id, 0))
	if a == 0 || a == b || a%uintptr(pageSize) != 0 {
		t.Errorf("addresses %#x and %#x", a, b)
	}
}

// With SHM_RDONLY a read works, and a write is a fault: SIGSEGV in C.
func TestStatement13ReadOnly(t *testing.T) {
	mem := attach(t, newSegment(t, 100), unix.SHM_RDONLY)
	read := func() { _ = *(*byte)(unsafe.Pointer(&mem[5])) }
	if at := faultAt(read); at != 0 {
		t.Errorf("a read faulted at %#x", at)
	}
	write := func() { mem[5] = 1 }
	if at := faultAt(write); at != addressOf(mem[5:]) {
		t.Errorf("a write faulted at %#x, want %p", at, &mem[5])
	}
}

// SHM_EXEC lets a program execute the contents; without it that is a fault.
// The mode of the segment must allow it, too.
func TestStatement14Executable(t *testing.T) {
	id := createSegment(t, unix.IPC_PRIVATE, pageSize, 0o700)
	data := attach(t, id, 0)
	copy(data, map[string]string{ // a function that returns at once
		"amd64":   "\xc3",
		"arm64":   "\xc0\x03\x5f\xd6",
		"riscv64": "\x67\x80\x00\x00",
	}[runtime.GOARCH])
	code := attach(t, id, shmExec)
	if _, perms := mapping(t, addressOf(code)); perms != "rwxs" {
		t.Errorf("mapped %s, want rwxs", perms)
	}
	if data[0] == 0 {
		t.Skipf("needs to know an instruction of %s", runtime.GOARCH)
	}
	if at := faultAt(func() { execute(code) }); at != 0 {
		t.Errorf("with SHM_EXEC: a fault at %#x", at)
	}
	if at := faultAt(func() { execute(data) }); at != addressOf(data) {
		t.Errorf("without SHM_EXEC: a fault at %#x, want %p", at, &data[0])
	}
}

// execute calls the machine code in memory. In Go a func value is a pointer
// to a pointer to the code.
func execute(code []byte) {
	pointer := &struct{ code *byte }{&code[0]}
	(*(*func())(unsafe.Pointer(&pointer)))()
}

// "SHM_SHARE_MMU" exists only on Solaris. On Linux its number is that of
// SHM_REMAP, which is refused without an address.
func TestStatement16NoShareMMU(t *testing.T) {
	const solarisShareMMU = 0o40000
	_, err := unix.SysvShmAttach(newSegment(t, 1), 0, solarisShareMMU)
	want(t, "shmat", err, unix.EINVAL)
}

// shmdt takes the address that shmat returned, and no other.
func TestStatement17DetachTakesTheAddress(t *testing.T) {
	id := newSegment(t, 2*pageSize)
	mem := attach(t, id, 0)
	second := mem[pageSize:]
	want(t, "shmdt of page 2", unix.SysvShmDetach(second), unix.EINVAL)
	wantAttaches(t, id, 1)
	want(t, "shmdt", unix.SysvShmDetach(mem), nil)
	wantAttaches(t, id, 0)
	want(t, "shmdt once more", unix.SysvShmDetach(mem), unix.EINVAL)
}

// IPC_RMID marks the segment with SHM_DEST and takes its key away. The kernel
// removes it at the last detach.
func TestStatement24RemovedAtTheLastDetach(t *testing.T) {
	key := newKey(t)
	id := createSegment(t, key, 1, 0o600)
	mem := attach(t, id, 0)
	_, err := unix.SysvShmCtl(id, unix.IPC_RMID, nil)
	want(t, "IPC_RMID", err, nil)
	perm := stat(t, id).Perm
	if perm.Mode != 0o600|shmDest || perm.Key != 0 {
		t.Errorf("mode %o, key %#x, want 1600 and 0", perm.Mode, perm.Key)
	}
	_, err = unix.SysvShmGet(key, 0, 0)
	want(t, "shmget with the old key", err, unix.ENOENT)
	want(t, "shmdt", unix.SysvShmDetach(mem), nil)
	_, err = unix.SysvShmCtl(id, unix.IPC_STAT, new(unix.SysvShmDesc))
	want(t, "IPC_STAT after the last detach", err, unix.EINVAL)
}

// A process can change any part in place, and the rest stays as it is.
func TestStatement47RandomAccess(t *testing.T) {
	const offset = 500_000
	other := newPeer(t, nil, func(test conn) {
		*int32At(attach(t, test.hear(), 0), offset) = 47
		test.say(0)
	})
	id := newSegment(t, 1<<20)
	mem := attach(t, id, 0)
	for i := range mem {
		mem[i] = byte(i)
	}
	expected := bytes.Clone(mem)
	*int32At(expected, offset) = 47
	other.say(id)
	other.hear()
	if !bytes.Equal(mem, expected) {
		t.Error("the segment is not as it was with 47 at one offset")
	}
}

// "atexit is enough to clean up": it is enough for a program that ends by
// itself. A signal that the program does not catch ends it without clean-up.
func TestStatement53CleanUpOnSignal(t *testing.T) {
	for _, c := range []struct {
		end  func(*peer)
		left bool
	}{
		{func(p *peer) { p.end() }, false},
		{func(p *peer) { p.kill(unix.SIGTERM) }, true},
	} {
		other := newPeer(t, nil, func(test conn) {
			// What a function does that C registers with atexit.
			defer unix.SysvShmCtl(test.hear(), unix.IPC_RMID, nil)
			test.say(0)
			test.waitForEnd()
		})
		key := newKey(t)
		other.say(createSegment(t, key, 1, 0o600))
		other.hear()
		c.end(other)
		_, err := unix.SysvShmGet(key, 0, 0)
		if left := err == nil; left != c.left {
			t.Errorf("the segment is left: %v, want %v", left, c.left)
		}
	}
}
