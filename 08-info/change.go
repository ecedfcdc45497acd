//go:build linux

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

	"example.com/shm-by-example/08-info/ipc"
)

// What set is to change; nil is left as it is.
var (
	newOwner, newGroup *uint32
	newMode            *ipc.Mode
)

func setFlags(flags *flag.FlagSet) {
	whichFlags(flags)
	flags.Func("owner", "`user` to give the segment to, name or number",
		func(s string) (err error) {
			u, unknown := user.Lookup(s)
			if unknown == nil {
				s = u.Uid
			}
			newOwner, err = number(s, "user")
			return err
		})
	flags.Func("group", "`group` to give the segment to, name or number",
		func(s string) (err error) {
			g, unknown := user.LookupGroup(s)
			if unknown == nil {
				s = g.Gid
			}
			newGroup, err = number(s, "group")
			return err
		})
	flags.Func("mode", "permission `bits` to give the segment, octal",
		func(s string) error {
			newMode = new(ipc.Mode)
			return newMode.Set(s)
		})
}

// number reads the id of a user or group. The highest stands for none.
func number(s, kind string) (*uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 1<<32-1 {
		return nil, errors.New("no such " + kind)
	}
	id := uint32(n)
	return &id, nil
}

// set changes owner, group and permissions. IPC_SET takes all three from
// struct shmid_ds, so what is to stay is read first. See shmctl(2).
func set(_ context.Context, stdout io.Writer) error {
	if newOwner == nil && newGroup == nil && newMode == nil {
		return ipc.Usage("want -owner, -group or -mode")
	}
	shmid, err := find()
	if err != nil {
		return err
	}
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
		ds.Perm.Mode = uint32(*newMode)
	}
	_, err = unix.SysvShmCtl(shmid, unix.IPC_SET, &ds)
	if _, lost := look(shmid); err == unix.EINVAL && lost == nil {
		return fmt.Errorf("shmctl IPC_SET segment %d: %w\na user namespace "+
			"has few users and groups: see /proc/self/uid_map", shmid, err)
	} else if err != nil {
		return explain("shmctl IPC_SET", shmid, err)
	}
	fmt.Fprintf(stdout, "Segment %d: owner %s, group %s, mode %04o\n", shmid,
		userName(ds.Perm.Uid), groupName(ds.Perm.Gid), ds.Perm.Mode&0o777)
	return nil
}

// lock keeps a segment's pages in memory once they are there. Lesson 07 is
// about that.
func lock(_ context.Context, stdout io.Writer) error {
	const shmLock = 11
	shmid, err := find()
	if err != nil {
		return err
	}
	_, err = unix.SysvShmCtl(shmid, shmLock, nil)
	ds, lost := look(shmid)
	switch {
	case err == unix.ENOMEM, err == unix.EPERM && lost == nil && ours(ds):
		return fmt.Errorf("shmctl SHM_LOCK segment %d: %w: more than may be "+
			"locked\nulimit -l shows how many KiB that is: raise it, or ask "+
			"root", shmid, err)
	case err != nil:
		return explain("shmctl SHM_LOCK", shmid, err)
	}
	fmt.Fprintf(stdout, "Segment %d: locked\n", shmid)
	return nil
}

// unlock lets them be swapped out again.
func unlock(_ context.Context, stdout io.Writer) error {
	const shmUnlock = 12
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
	if ds, err := look(shmid); err == nil {
		fmt.Fprintf(stdout, "Segment %d: marked, to be freed after the last "+
			"detach (%d attached)\n", shmid, ds.Nattch)
		return nil
	}
	fmt.Fprintf(stdout, "Segment %d: removed\n", shmid)
	return nil
}
