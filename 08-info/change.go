//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os/user"
	"strconv"

	"golang.org/x/sys/unix"
)

const ( // commands of shmctl(2), from <linux/shm.h>
	shmLock   = 11 // SHM_LOCK
	shmUnlock = 12 // SHM_UNLOCK
)

// What set changes. It leaves what is nil.
var newOwner, newGroup, newMode *uint32

func setFlags() {
	whichFlags()
	flag.Func("owner", "`user` to give the segment to, name or number",
		func(s string) (err error) {
			newOwner, err = userID(s)
			return err
		})
	flag.Func("group", "`group` to give the segment to, name or number",
		func(s string) (err error) {
			if g, unknown := user.LookupGroup(s); unknown == nil {
				s = g.Gid
			}
			newGroup, err = number(s, "group")
			return err
		})
	flag.Func("mode", "permission `bits` to give the segment, octal",
		func(s string) error {
			bits, err := octal(s)
			newMode = &bits
			return err
		})
}

// userID returns the id of a user. The text is a name or a number.
func userID(s string) (*uint32, error) {
	if u, unknown := user.Lookup(s); unknown == nil {
		s = u.Uid
	}
	return number(s, "user")
}

// number reads the id of a user or group. The highest number means none.
func number(s, kind string) (*uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 1<<32-1 {
		return nil, errors.New("no such " + kind)
	}
	return new(uint32(n)), nil // a pointer to that value; since Go 1.26
}

// set changes owner, group and permissions.
func set(_ context.Context, stdout io.Writer) error {
	if newOwner == nil && newGroup == nil && newMode == nil {
		wrongUsage("want -owner, -group or -mode")
	}
	shmid, err := find()
	if err != nil {
		return err
	}

	// IPC_SET takes all three from struct shmid_ds. The struct must have the
	// old values of those that do not change. So read it first.
	ds, err := look(shmid)
	if err != nil {
		return explain("shmctl IPC_STAT", shmid, err)
	}
	if newOwner != nil {
		ds.Perm.Uid = *newOwner
	}
	if newGroup != nil {
		ds.Perm.Gid = *newGroup
	}
	if newMode != nil {
		ds.Perm.Mode = *newMode
	}

	// Write it. The kernel ignores the other fields.
	_, err = unix.SysvShmCtl(shmid, unix.IPC_SET, &ds)
	if err != nil {
		return explain("shmctl IPC_SET", shmid, err)
	}
	fmt.Fprintf(stdout, "Segment %d: owner %s, group %s, mode %04o\n", shmid,
		userName(ds.Perm.Uid), groupName(ds.Perm.Gid), ds.Perm.Mode&0o777)
	return nil
}

// lock keeps a segment's pages in memory once they are there. Lesson 07
// explains that, and who may do it.
func lock(_ context.Context, stdout io.Writer) error {
	shmid, err := find()
	if err != nil {
		return err
	}
	if _, err := unix.SysvShmCtl(shmid, shmLock, nil); err != nil {
		return explain("shmctl SHM_LOCK", shmid, err)
	}
	fmt.Fprintf(stdout, "Segment %d: locked\n", shmid)
	return nil
}

// unlock lets the pages be swapped out again.
func unlock(_ context.Context, stdout io.Writer) error {
	shmid, err := find()
	if err != nil {
		return err
	}
	if _, err := unix.SysvShmCtl(shmid, shmUnlock, nil); err != nil {
		return explain("shmctl SHM_UNLOCK", shmid, err)
	}
	fmt.Fprintf(stdout, "Segment %d: unlocked\n", shmid)
	return nil
}

// rm removes a segment: no key leads to it any more, and the kernel frees it
// as soon as nobody is attached.
func rm(_ context.Context, stdout io.Writer) error {
	shmid, err := find()
	if err != nil {
		return err
	}
	if _, err := unix.SysvShmCtl(shmid, unix.IPC_RMID, nil); err != nil {
		return explain("shmctl IPC_RMID", shmid, err)
	}

	// Is it still there? Then some process has attached it.
	if ds, err := look(shmid); err == nil {
		fmt.Fprintf(stdout, "Segment %d: marked, to be freed after the last "+
			"detach (%d attached)\n", shmid, ds.Nattch)
		return nil
	}
	fmt.Fprintf(stdout, "Segment %d: removed\n", shmid)
	return nil
}
