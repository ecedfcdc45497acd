//go:build linux

package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"example.com/shm-by-example/08-info/ipc"
)

// The object that a command is about: the segment of a key, 0 being none, or
// of an id, -1 being none, for an id may be 0; or the POSIX object of a name.
var (
	key  ipc.Key
	id   = -1
	name ipc.Name
)

func whichFlags(flags *flag.FlagSet) {
	flags.Var(&key, "key", "`key` of the segment")
	flags.Func("id", "`id` of the segment, as list shows it",
		func(s string) (err error) {
			id, err = parseID(s)
			return err
		})
}

func parseID(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return -1, errors.New("want 0 to 2147483647")
	}
	return int(n), nil
}

// anyFlags are whichFlags and the name of a POSIX object.
func anyFlags(flags *flag.FlagSet) {
	whichFlags(flags)
	flags.Var(&name, "name", "`name` of the POSIX object, as list shows it")
}

// findAny returns the object that -key, -id or -name names.
func findAny() (*object, error) {
	if (name == "") == (key == 0 && id < 0) {
		return nil, ipc.Usage("want one of -key, -id and -name")
	} else if name != "" {
		o, err := posixObject(string(name))
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
	return segment{shmid, ds}.object(), nil
}

// find returns the id of the segment that -key or -id names. See shmget(2).
func find() (shmid int, err error) {
	switch {
	case (key == 0) == (id < 0):
		return 0, ipc.Usage("want one of -key and -id")
	case key == 0:
		return id, nil
	}
	shmid, err = unix.SysvShmGet(int(key), 0, 0) // makes none, asks no right
	if err == unix.ENOENT {
		err = fmt.Errorf("shmget key %v: no such segment\n"+
			"08-info list shows those that there are", key)
	} else if err != nil {
		err = fmt.Errorf("shmget key %v: %w", key, err)
	}
	return shmid, err
}

// gone tells whether an error of shmctl means that there is no such segment:
// not any more, for the most part.
func gone(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EIDRM)
}

// explain puts into words why a call about a segment failed.
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

// ours tells whether a segment is this process's to change.
func ours(ds unix.SysvShmDesc) bool {
	uid := uint32(os.Geteuid())
	return ds.Perm.Uid == uid || ds.Perm.Cuid == uid
}
