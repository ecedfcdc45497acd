//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const shmDir = "/dev/shm" // a tmpfs, see shm_overview(7)

// posixObjects lists the files of /dev/shm: shared memory, and semaphores,
// whose names begin with sem. It opens none, for a program that asks for a
// lease to see whether it is alone would be told that it is not.
func posixObjects() (all []*object) {
	files, _ := os.ReadDir(shmDir) // where there is none, there are none
	swapping := swapInUse()
	for _, f := range files {
		if o, err := posixObject("/" + f.Name()); err == nil {
			if swapping {
				o.Swapped = nil // some of what is resident may be there
			}
			all = append(all, o)
		}
	}
	return all
}

// posixObject looks at one.
func posixObject(name string) (*object, error) {
	var st unix.Stat_t
	if name[0] != '/' || path.Clean(name) != name {
		return nil, errors.New("want a slash and a name")
	}
	if err := unix.Lstat(shmDir+name, &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fmt.Errorf("no regular file")
	}
	shown := printable(name)
	used, none := uint64(st.Blocks)*512, uint64(0)
	o := &object{
		Kind: kindPOSIX, Name: &shown, Inode: &st.Ino, UID: st.Uid,
		Mode: st.Mode & 0o777, Bytes: uint64(st.Size), Resident: &used,
		Swapped: &none,
		Changed: unixTime(max(st.Mtim.Sec, st.Ctim.Sec)),
		backing: backing{st.Dev, st.Ino}, path: shmDir + name,
		read: time.Unix(st.Atim.Sec, 0),
	}
	if strings.HasPrefix(name, "/sem.") {
		o.Kind = kindSemaphore
	}
	return o, nil
}

// swapInUse tells whether anything is swapped out: then nobody tells how much
// of a file is, unless it is opened.
func swapInUse() bool {
	var info unix.Sysinfo_t
	return unix.Sysinfo(&info) != nil || info.Totalswap != info.Freeswap
}

// statPOSIX shows a POSIX object in the manner of the tutorial.
func statPOSIX(stdout io.Writer) error {
	o, err := findAny()
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "=== POSIX Object Information ===\n")
	fmt.Fprintf(stdout, "Name: %s\n", *o.Name)
	fmt.Fprintf(stdout, "Size: %d bytes\n", o.Bytes)
	fmt.Fprintf(stdout, "Allocated: %d bytes\n", *o.Resident)
	fmt.Fprintf(stdout, "Inode: %d\n", *o.Inode)
	fmt.Fprintf(stdout, "Last change time: %s\n", ctime(o.Changed.Unix()))
	fmt.Fprintf(stdout, "Owner: %s\n", userName(o.UID))
	fmt.Fprintf(stdout, "Permission mode: %o\n", o.Mode)
	return attached(o)
}
