//go:build linux

package ipc

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Lookup finds the segment of key and what the kernel knows of it; ENOENT or
// ErrRemoved if there is none. Another user's, and one that has not size
// bytes, is an error with a cure. See shmget(2).
func Lookup(key Key, size int) (shmid int, ds unix.SysvShmDesc, err error) {
	shmid, err = unix.SysvShmGet(int(key), 0, 0)
	if err == unix.ENOENT {
		return 0, ds, err
	} else if err != nil {
		return 0, ds, fmt.Errorf("shmget key %v: %w", key, err)
	}
	ds, err = Stat(shmid)
	if uid := os.Geteuid(); err != nil {
		return 0, ds, err
	} else if int(ds.Perm.Uid) != uid {
		own := 1<<30 | key&0x3f<<24 | Key(uid&0xffffff)
		err = fmt.Errorf("shmget key %v: %w: it belongs to uid %d\ngive both "+
			"programs a key of your own: -key %#x",
			key, unix.EEXIST, ds.Perm.Uid, uint32(own))
	} else if ds.Segsz != uint64(size) {
		err = fmt.Errorf("shmget key %v: %w: %d bytes, %d wanted\nanother "+
			"lesson uses this key: choose one with -key, or remove it with "+
			"ipcrm -M %#x", key, unix.EEXIST, ds.Segsz, size, uint32(key))
	}
	return shmid, ds, err
}

// ErrRemoved is the error for a segment that somebody has removed.
var ErrRemoved = fmt.Errorf("segment removed while in use: %w", unix.EIDRM)

// Stat returns what the kernel knows of a segment, ErrRemoved if that is no
// more. SHM_STAT_ANY is IPC_STAT that asks for no permission; it takes an
// index, for which the id will do, and returns an id. See shmctl(2).
func Stat(shmid int) (ds unix.SysvShmDesc, err error) {
	const shmStatAny, shmDest = 15, 0o1000
	found, err := unix.SysvShmCtl(shmid, shmStatAny, &ds)
	if err == unix.EINVAL { // no such segment, or an emulator's kernel
		found = shmid
		_, err = unix.SysvShmCtl(shmid, unix.IPC_STAT, &ds)
	}
	switch {
	case err == unix.EINVAL || err == unix.EIDRM, err == nil &&
		(found != shmid || ds.Perm.Mode&shmDest != 0):
		err = ErrRemoved
	case err != nil:
		err = fmt.Errorf("shmctl segment %d: %w", shmid, err)
	}
	return ds, err
}

// Attach attaches a segment, with flag 0 or unix.SHM_RDONLY; ErrRemoved if it
// has been. See shmat(2).
func Attach(shmid, flag int) ([]byte, error) {
	mem, err := unix.SysvShmAttach(shmid, 0, flag)
	if err == unix.EINVAL || err == unix.EIDRM {
		err = ErrRemoved
	} else if err != nil {
		err = fmt.Errorf("shmat segment %d: %w", shmid, err)
	}
	return mem, err
}

// Detach detaches what Attach returned. See shmdt(2).
func Detach(mem []byte) error {
	if err := unix.SysvShmDetach(mem); err != nil {
		return fmt.Errorf("shmdt: %w", err)
	}
	return nil
}

// Remove removes a segment; the kernel frees it after the last detach. That
// it has been removed before is no error. See IPC_RMID in shmctl(2).
func Remove(shmid int) error {
	_, err := unix.SysvShmCtl(shmid, unix.IPC_RMID, nil)
	if err != nil && err != unix.EINVAL && err != unix.EIDRM {
		return fmt.Errorf("shmctl segment %d: %w", shmid, err)
	}
	return nil
}

// Keeper returns the process by which a segment lives, and whether that is
// alive: its creator; or if that has ended, as when a program in C has taken
// over what a crash left, the one that came or went last.
func Keeper(ds unix.SysvShmDesc) (pid int32, alive bool) {
	if Exited(ds.Cpid) {
		return ds.Lpid, !Exited(ds.Lpid)
	}
	return ds.Cpid, true
}

// Exited tells whether process pid has ended; false may mean that it cannot
// be told. Unlike kill(2) it is not misled by a zombie. See pidfd_open(2).
func Exited(pid int32) bool {
	fd, err := unix.PidfdOpen(int(pid), 0)
	if err != nil { // ESRCH, or a container forbids the call
		return pid > 0 && unix.Kill(int(pid), 0) == unix.ESRCH
	}
	defer unix.Close(fd)
	n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	return n > 0
}
