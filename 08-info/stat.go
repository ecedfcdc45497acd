//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"
)

// stat shows what the kernel knows of one segment.
func stat(_ context.Context, stdout io.Writer) error {
	if name != "" {
		return statPOSIX(stdout) // no segment, but a file
	}
	shmid, err := find()
	if err != nil {
		return err
	}
	ds, err := look(shmid)
	if err != nil {
		return explain("shmctl IPC_STAT", shmid, err)
	}
	printInfo(stdout, ds)

	// The tutorial ends here. Who has it attached goes to standard error, so
	// that what is on standard output can still be compared with C's.
	return attached(segment{shmid, ds}.object())
}

// look asks the kernel what it knows of a segment: struct shmid_ds. IPC_STAT
// wants the permission to read the segment. See shmctl(2).
func look(shmid int) (ds unix.SysvShmDesc, err error) {
	_, err = unix.SysvShmCtl(shmid, unix.IPC_STAT, &ds)
	if err == unix.EACCES {
		return lookAny(shmid)
	}
	return ds, err
}

// lookAny asks with SHM_STAT_ANY, which wants no permission. It takes an
// index of the kernel's table; an id contains one. What comes back is the id
// that is found there, and that may be a later segment's.
func lookAny(shmid int) (ds unix.SysvShmDesc, err error) {
	found, err := unix.SysvShmCtl(shmid, shmStatAny, &ds)
	if err == nil && found != shmid {
		err = unix.EIDRM
	}
	return ds, err
}

// printInfo is the tutorial's print_shared_memory_info, to the letter, but for
// never. What it calls processes are attaches.
func printInfo(stdout io.Writer, ds unix.SysvShmDesc) {
	fmt.Fprintf(stdout, "=== Shared Memory Information ===\n")
	fmt.Fprintf(stdout, "Segment size: %d bytes\n", ds.Segsz)
	fmt.Fprintf(stdout, "Last attach time: %s\n", ctime(ds.Atime))
	fmt.Fprintf(stdout, "Last detach time: %s\n", ctime(ds.Dtime))
	fmt.Fprintf(stdout, "Number of attached processes: %d\n", ds.Nattch)
	fmt.Fprintf(stdout, "Creator PID: %d\n", ds.Cpid)
	fmt.Fprintf(stdout, "Last operation PID: %d\n", ds.Lpid)
	fmt.Fprintf(stdout, "Permission mode: %o\n", ds.Perm.Mode)
}

// ctime formats a time as ctime(3) does. The kernel's 0 is not the first of
// January 1970: it has not happened yet.
func ctime(seconds int64) string {
	if seconds == 0 {
		return "never"
	}
	return time.Unix(seconds, 0).Format("Mon Jan _2 15:04:05 2006")
}
