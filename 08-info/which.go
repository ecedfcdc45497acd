//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"path"
	"strconv"

	"golang.org/x/sys/unix"
)

// The object that a command is about: the segment with this key or id, or the
// POSIX object with this name. An id may be 0, so -1 means that none is given.
var (
	key  int
	id   = -1
	name string
)

func whichFlags(flags *flag.FlagSet) {
	numberFlag(flags, &key, "key", "`key` of the segment", 1)
	numberFlag(flags, &id, "id", "`id` of the segment, as list shows it", 0)
}

// anyFlags defines the flags of whichFlags, and one for the name of a POSIX
// object.
func anyFlags(flags *flag.FlagSet) {
	whichFlags(flags)
	flags.Func("name", "`name` of the POSIX object, as list shows it",
		func(s string) error {
			name = s
			if path.Clean("/"+s) != s {
				return errors.New("want a slash and a file name")
			}
			return nil
		})
}

// numberFlag defines a flag for a key or an id. It accepts numbers from lowest
// on. A smaller one could mean that the flag was not given, and reap would then
// look at all objects. The kernel takes only the lower 32 bits.
func numberFlag(flags *flag.FlagSet, to *int, name, usage string,
	lowest uint64) {
	flags.Func(name, usage, func(s string) error {
		n, err := strconv.ParseUint(s, 0, 32)
		if err != nil || n < lowest || lowest == 0 && n > math.MaxInt32 {
			return errors.New("out of range, or no number")
		}
		*to = int(n)
		return nil
	})
}

// findAny returns the object that -key, -id or -name names.
func findAny() (*object, error) {
	if (name == "") == (key == 0 && id == -1) {
		wrongUsage("want one of -key, -id and -name")
	} else if name != "" {
		o, err := posixObject(name, shmDevice(""))
		if err != nil {
			return nil, fmt.Errorf("stat %s: %w\n08-info list shows the "+
				"objects that there are", name, err)
		}
		return o, nil
	}
	shmid, err := find()
	if err != nil {
		return nil, err
	}
	ds, err := look(shmid)
	if err != nil {
		return nil, explain("shmctl IPC_STAT", shmid, err)
	}
	o := segment{shmid, ds}.object()
	o.Resident = residents()[shmid].rss
	return o, nil
}

// find returns the id of the segment that -key or -id names. See shmget(2).
func find() (shmid int, err error) {
	if (key == 0) == (id == -1) {
		wrongUsage("want one of -key and -id")
	} else if key == 0 {
		return id, nil
	}

	// With size 0 and no flags shmget creates none, and needs no permission.
	shmid, err = unix.SysvShmGet(key, 0, 0)
	if err == unix.ENOENT {
		err = fmt.Errorf("shmget key %#x: no such segment\n"+
			"08-info list shows those that there are", uint32(key))
	} else if err != nil {
		err = fmt.Errorf("shmget key %#x: %w", uint32(key), err)
	}
	return shmid, err
}

// look asks the kernel what it knows about a segment, as stat does.
func look(shmid int) (ds unix.SysvShmDesc, err error) {
	_, err = unix.SysvShmCtl(shmid, unix.IPC_STAT, &ds)
	if err == unix.EACCES {
		return lookAny(shmid)
	}
	return ds, err
}

// gone tells whether an error of shmctl means that there is no such segment.
// Usually somebody has removed it.
func gone(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EIDRM)
}

// explain returns an error that says why a call about a segment failed.
func explain(call string, shmid int, err error) error {
	ds, lost := look(shmid)
	switch {
	case gone(err) && gone(lost):
		return fmt.Errorf("%s segment %d: no such segment\n"+
			"08-info list shows those that there are", call, shmid)
	case err == unix.EPERM && lost == nil && !ours(ds):
		return fmt.Errorf("%s segment %d: %w: it belongs to %s\n"+
			"only its owner, its creator and root may", call, shmid, err,
			userName(ds.Perm.Uid))
	}
	return fmt.Errorf("%s segment %d: %w", call, shmid, err)
}

// ours tells whether this user may change a segment.
func ours(ds unix.SysvShmDesc) bool {
	uid := uint32(os.Geteuid())
	return ds.Perm.Uid == uid || ds.Perm.Cuid == uid
}
