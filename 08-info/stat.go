//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"
)

// stat shows what the kernel knows about one segment: its struct shmid_ds.
func stat(_ context.Context, stdout io.Writer) error {
	if given.name != "" {
		return statPOSIX(stdout) // no segment, but a file
	}

	// Find the segment: shmget turns the key into the id. See which.go.
	shmid, err := find()
	if err != nil {
		return err
	}

	// Ask the kernel. IPC_STAT needs the permission to read the segment.
	// SHM_STAT_ANY tells everybody the same.
	var ds unix.SysvShmDesc
	_, err = unix.SysvShmCtl(shmid, unix.IPC_STAT, &ds)
	if err == unix.EACCES {
		ds, err = lookAny(shmid)
	}
	if err != nil {
		return explain("shmctl IPC_STAT", shmid, err)
	}
	printInfo(stdout, ds)

	// The tutorial ends here. The processes that have it attached go to
	// standard error. So standard output is still the same as in C.
	return attached(segment{shmid, ds}.object())
}

// lookAny asks with SHM_STAT_ANY, which takes an index of the kernel's table.
// The lower bits of an id are the index. The call returns the id that it finds
// there. If that is another id, the segment has gone.
func lookAny(shmid int) (ds unix.SysvShmDesc, err error) {
	found, err := unix.SysvShmCtl(shmid, shmStatAny, &ds)
	if err == nil && found != shmid {
		err = unix.EIDRM
	}
	return ds, err
}

// printInfo is the tutorial's print_shared_memory_info, letter for letter,
// except that it can print never. What it calls the number of processes is the
// number of attaches.
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

// ctime formats a time as ctime(3) does. The kernel's 0 does not mean 1 January
// 1970. It means that it has not happened yet.
func ctime(seconds int64) string {
	if seconds == 0 {
		return "never"
	}
	return time.Unix(seconds, 0).Format("Mon Jan _2 15:04:05 2006")
}
