//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// removeLeftover removes the segment of key if a killed parent left it: its
// creator has ended, and nobody is attached. It returns nil once the key is
// free. If the segment must stay, the error says why.
func removeLeftover(ctx context.Context, key int) error {
	const cure = "\nchoose another key with -key; ipcrm -M %#x removes it"
	for start := time.Now(); ; {
		var ds unix.SysvShmDesc
		shmid, err := unix.SysvShmGet(key, 0, 0)
		if err == nil {
			_, err = unix.SysvShmCtl(shmid, unix.IPC_STAT, &ds)
		}
		owned := int(ds.Perm.Uid) == os.Geteuid()
		creatorRuns := err == nil && runs(ds.Cpid)
		waited := time.Since(start)
		switch {
		case err == unix.ENOENT || removed(err):
			return nil
		case err == unix.EACCES || err == nil && !owned:
			return fmt.Errorf("%v: it is another user's\n"+
				"choose another key with -key", unix.EEXIST)
		case err != nil:
			return err
		case int(ds.Segsz) != size:
			return fmt.Errorf("%v: it has %d bytes, not %d"+cure,
				unix.EEXIST, ds.Segsz, size, key)
		case ds.Atime == 0 && waited < 2*time.Second:
			// Nobody has ever attached it: it is being created. Look again.
		case ds.Nattch > 0 && !creatorRuns && waited < 3*time.Second:
			// The children of a killed parent are leaving. Look again.
		case ds.Nattch > 0 || creatorRuns:
			return fmt.Errorf("%v: in use: pid %d made it, %d attached"+cure,
				unix.EEXIST, ds.Cpid, ds.Nattch, key)
		default:
			log.Printf("removing segment %d, left by a killed parent, pid %d",
				shmid, ds.Cpid)
			_, err := unix.SysvShmCtl(shmid, unix.IPC_RMID, nil)
			if err != nil && !removed(err) { // another process was faster
				return err
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// removed tells whether a call failed because its segment has been removed.
func removed(err error) bool { return err == unix.EINVAL || err == unix.EIDRM }

// runs tells whether a process runs. A zombie does not run, though kill(2)
// finds it. If the kernel does not tell, the answer is yes. See pidfd_open(2).
func runs(pid int32) bool {
	fd, err := unix.PidfdOpen(int(pid), 0)
	if err == unix.EINVAL || err == unix.ENOENT {
		return false // pid 0, or a number that only a thread has
	} else if err != nil { // no such process, or it is forbidden: ask kill
		return pid > 0 && unix.Kill(int(pid), 0) != unix.ESRCH
	}
	defer unix.Close(fd)
	ended := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, _ := unix.Poll(ended, 0)
	return n <= 0 // -1: a signal of the Go runtime interrupted poll
}
