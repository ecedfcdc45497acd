//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const shmDir = "/dev/shm" // a tmpfs, see shm_overview(7)

// posixObjects lists the files of /dev/shm: shared memory, and semaphores,
// whose names begin with sem. It opens none, for a program that asks for a
// lease, to see whether it is the only one, would be told that it is not.
func posixObjects() (all []*object) {
	dev := shmDevice("")
	// Where there is no directory, there are no objects. With the slash, it
	// may be a link to another one. Programs make folders in it, too.
	filepath.WalkDir(shmDir+"/", func(file string, f fs.DirEntry, _ error) (
		_ error) {
		if f == nil || !f.Type().IsRegular() {
			return
		}
		o, err := posixObject(strings.TrimPrefix(path.Clean(file), shmDir),
			dev)
		if err == nil {
			all = append(all, o)
		}
		return
	})
	return all
}

// posixObject looks at one. Device dev is that of /dev/shm.
func posixObject(title string, dev uint64) (*object, error) {
	var st unix.Stat_t
	if err := unix.Lstat(shmDir+title, &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Dev != dev {
		return nil, errors.New("no regular file of " + shmDir)
	}
	return &object{
		Kind: kindOf(title), Name: &title, Inode: &st.Ino, UID: &st.Uid,
		Mode: new(st.Mode & 0o777), Bytes: uint64(st.Size),
		Resident: new(uint64(st.Blocks) * 512), // or in swap
		Changed:  unixTime(max(st.Mtim.Sec, st.Ctim.Sec)),
		backing:  backing{st.Dev, st.Ino}, path: shmDir + title,
		read: unixTime(st.Atim.Sec),
	}, nil
}

// kindOf tells what a file of /dev/shm is. A semaphore's begins with sem.
func kindOf(title string) string {
	if strings.HasPrefix(title, "/sem.") {
		return kindSemaphore
	}
	return kindPOSIX
}

// statPOSIX shows a POSIX object in the manner of the tutorial.
func statPOSIX(stdout io.Writer) error {
	o, err := findAny()
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "=== POSIX Object Information ===\n")
	fmt.Fprintf(stdout, "Name: %s\n", o.title())
	fmt.Fprintf(stdout, "Size: %d bytes\n", o.Bytes)
	fmt.Fprintf(stdout, "Allocated: %d bytes\n", *o.Resident)
	fmt.Fprintf(stdout, "Inode: %d\n", *o.Inode)
	fmt.Fprintf(stdout, "Last change time: %s\n", ctime(o.Changed.Unix()))
	fmt.Fprintf(stdout, "Owner: %s\n", userName(*o.UID))
	fmt.Fprintf(stdout, "Permission mode: %o\n", *o.Mode)
	return attached(o)
}
