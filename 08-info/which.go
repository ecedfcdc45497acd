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
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// given is which object the flags name: the segment of a key, or of an id; the
// POSIX object of a name; or, in reap, a set of semaphores. The key 0 is none.
// The id -1 is none, since 0 is the id of a segment.
var given = struct {
	key, id       int
	name          string
	semKey, semID int
	count         int // how many of these
}{id: -1, semID: -1}

func whichFlags() {
	numberFlag(&given.key, "key", "`key` of the segment", 1)
	numberFlag(&given.id, "id", "`id` of the segment, as list shows it", 0)
}

// anyFlags are whichFlags and the name of a POSIX object.
func anyFlags() {
	whichFlags()
	flag.Func("name", "`name` of the POSIX object, as list shows it",
		func(s string) error {
			given.name = s
			given.count++
			if path.Clean("/"+s) != s {
				return errors.New("want a slash and a file name")
			}
			return nil
		})
}

// numberFlag defines a flag for a key or an id, from lowest on. Any other value
// is an error: with -key 0, reap would be about all objects. The kernel takes
// 32 bits, and would ignore those above.
func numberFlag(to *int, flagName, usage string, lowest uint64) {
	flag.Func(flagName, usage, func(s string) error {
		n, err := strconv.ParseUint(s, 0, 32)
		if err != nil || n < lowest || lowest == 0 && n > math.MaxInt32 {
			return fmt.Errorf("want a number from %d on, of 32 bits", lowest)
		}
		*to = int(n)
		given.count++
		return nil
	})
}

// refuseTwice ends the program if a flag is given twice. Package flag would
// drop the first one.
func refuseTwice(args []string) {
	seen := map[string]bool{}
	for _, arg := range args {
		title, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if !strings.HasPrefix(arg, "-") {
			continue // a value
		} else if seen[title] {
			wrongUsage("-" + title + " is given twice")
		}
		seen[title] = true
	}
}

// wantOne ends the program unless the flags name one object.
func wantOne() {
	if given.count == 1 {
		return
	}
	var flags []string // that the command has
	for _, title := range []string{"key", "id", "name", "semkey", "semid"} {
		if flag.Lookup(title) != nil {
			flags = append(flags, "-"+title)
		}
	}
	wrongUsage("want one of " + strings.Join(flags, ", "))
}

// findAny returns the object that -key, -id or -name names.
func findAny() (*object, error) {
	wantOne()
	if given.name != "" {
		o, err := posixObject(given.name, shmDevice(""))
		if errors.Is(err, unix.ENOENT) {
			return nil, noSuchName(err)
		} else if err != nil {
			return nil, fmt.Errorf("stat %s: %w", given.name, err)
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
	memory := residents()[shmid]
	o.Resident, o.Swapped = memory.rss, memory.swap
	return o, nil
}

// noSuchName explains that no file of /dev/shm has the name. An object that
// had it may still be there, as long as a process has it.
func noSuchName(err error) error {
	if s, err := scan(); err == nil {
		for _, o := range s.objects(posixObjects(), false) {
			if *o.Name == given.name && o.fillIn(s) {
				return fmt.Errorf("%s has been removed\nits memory is freed "+
					"when these processes have closed it: %s", o.title(),
					strings.Join(o.row(time.Now()).processes, ", "))
			}
		}
	}
	return fmt.Errorf("stat %s: %w\n%s list shows the objects that there are",
		given.name, err, program)
}

// find returns the id of the segment that -key or -id names. See shmget(2).
func find() (shmid int, err error) {
	wantOne()
	if given.id >= 0 {
		return given.id, nil
	}

	// With size 0 and no flags shmget makes none, and asks for no right.
	shmid, err = unix.SysvShmGet(given.key, 0, 0)
	if err == unix.ENOENT {
		err = fmt.Errorf("shmget key %#x: no such segment\n"+
			"%s list shows those that there are", uint32(given.key), program)
	} else if err != nil {
		err = fmt.Errorf("shmget key %#x: %w", uint32(given.key), err)
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
	ds, lookErr := look(shmid)
	uid := uint32(os.Geteuid())
	switch {
	case gone(err) && gone(lookErr):
		return fmt.Errorf("%s segment %d: no such segment\n"+
			"%s list shows those that there are", call, shmid, program)
	case err == unix.EPERM && lookErr == nil && ds.Perm.Uid != uid &&
		ds.Perm.Cuid != uid:
		return fmt.Errorf("%s segment %d: %w: it belongs to %s\nonly its "+
			"owner, its creator, and root with CAP_SYS_ADMIN (for a lock: "+
			"CAP_IPC_LOCK) may", call, shmid, err, userName(ds.Perm.Uid))
	}
	return fmt.Errorf("%s segment %d: %w", call, shmid, err)
}
