//go:build linux

package shm_test

import (
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A key is any number, or one from ftok, or IPC_PRIVATE.
func TestStatement01AnyKey(t *testing.T) {
	parallel(t)
	derived, err := ftok(t.TempDir(), newKey())
	want(t, "ftok", err, nil)
	for _, key := range []int{newKey(), derived} {
		id := newSegmentMode(t, key, 1, 0o600)
		if found, err := unix.SysvShmGet(key, 0, 0); err != nil || found != id {
			t.Errorf("key %#x leads to %d, %v, not to %d", key, found, err, id)
		}
	}
	// IPC_PRIVATE is 0, and each call makes a new segment.
	if one, two := newSegment(t, 1), newSegment(t, 1); one == two {
		t.Error("IPC_PRIVATE found a segment")
	}
}

// "Only a child made afterwards can use an IPC_PRIVATE segment": no, whoever
// learns its id can. This peer was there before the segment.
func TestStatement02PrivateForWhoKnowsTheID(t *testing.T) {
	parallel(t)
	other := newPeer(t)
	other.try("is it there already?")
	id := newSegment(t, 4)
	mem := attach(t, id, 0)
	other.attach(id, nil)
	other.store(0, 42)
	if got := *int32At(mem, 0); got != 42 {
		t.Errorf("%d in the segment, want 42", got)
	}
}

// ftok of the same path and id gives every process the same key: by it,
// strangers meet.
func TestStatement03StrangersMeetByFtok(t *testing.T) {
	parallel(t)
	path := t.TempDir()
	key, err := ftok(path, newKey())
	want(t, "ftok", err, nil)
	id := newSegmentMode(t, key, 1, 0o600)
	other := newPeer(t)
	theirs := other.ask("ftok", path, key>>24)
	if found := other.ask("find", theirs); theirs != key || found != id {
		t.Errorf("the other has key %#x and finds %d, want %#x and %d", theirs, found, key, id)
	}
}

// "The size is rounded up to pages": the mapping is, shm_segsz is not.
func TestStatement04SizeIsNotRounded(t *testing.T) {
	parallel(t)
	id := newSegment(t, 1000)
	if got := stat(t, id).Segsz; got != 1000 {
		t.Errorf("shm_segsz is %d, want 1000", got)
	}
	mem := attach(t, id, 0)
	if size, _, _ := mapping(t, addressOf(mem)); size != pageSize {
		t.Errorf("%d bytes are mapped, want %d", size, pageSize)
	}
}

// "IPC_CREAT makes or attaches, and IPC_EXCL fails if there is one": IPC_CREAT
// makes or opens and attaches nothing, and IPC_EXCL alone is ignored.
func TestStatement05CreatAndExcl(t *testing.T) {
	parallel(t)
	key := newKey()
	id := newSegmentMode(t, key, 1, 0o600)
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

// The permissions are or-ed into the flags, and kept; no umask applies.
func TestStatement06NoUmask(t *testing.T) {
	if !apart(t, job{}) {
		return // the umask is the whole process's
	}
	syscall.Umask(0o077)
	id := newSegmentMode(t, unix.IPC_PRIVATE, 1, 0o664)
	if got := stat(t, id).Perm.Mode; got != 0o664 {
		t.Errorf("mode %o, want 664", got)
	}
	// A file, such as a POSIX object, knows the umask.
	file := t.TempDir() + "/file"
	want(t, "write", os.WriteFile(file, nil, 0o664), nil)
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v, want 600", info.Mode(), err)
	}
}

// More than SHMMAX is EINVAL, and so is more than an existing segment has.
// With size 0 any size is opened: look at it then.
func TestStatement07TooLarge(t *testing.T) {
	if !inRoom(t) {
		return
	}
	key := newKey()
	id := newSegmentMode(t, key, 1000, 0o600)
	_, err := unix.SysvShmGet(key, 1001, 0)
	want(t, "more than exists", err, unix.EINVAL)
	_, err = unix.SysvShmGet(key, 999, 0) // less is not noticed
	want(t, "less than exists", err, nil)
	opened, err := unix.SysvShmGet(key, 0, 0)
	want(t, "size 0", err, nil)
	if got := stat(t, opened).Segsz; opened != id || got != 1000 {
		t.Errorf("segment %d of %d bytes, want %d of 1000", opened, got, id)
	}
	limit(t, "shmmax", 8192)
	newSegment(t, 8192)
	_, err = unix.SysvShmGet(unix.IPC_PRIVATE, 8193, unix.IPC_CREAT|0o600)
	want(t, "more than SHMMAX", err, unix.EINVAL)
}

// "0666 is a normal choice": it lets every user of the machine in, to read
// and to write. 0600 does not.
func TestStatement08EverybodyMayEnter(t *testing.T) {
	parallel(t)
	if can, _ := condition("setuid"); !can {
		t.Skip("needs a process of another user")
	}
	stranger := newPeerIn(t, job{UID: 65534})
	closed := newSegmentMode(t, unix.IPC_PRIVATE, 4, 0o600)
	if answer := stranger.try("attach", closed); answer != unix.EACCES.Error() {
		t.Errorf("0600: %s, want %v", answer, unix.EACCES)
	}
	open := newSegmentMode(t, unix.IPC_PRIVATE, 4, 0o666)
	mem := attach(t, open, 0)
	stranger.attach(open, nil)
	stranger.store(0, 666)
	if got := *int32At(mem, 0); got != 666 {
		t.Errorf("0666: the stranger could not write")
	}
}
