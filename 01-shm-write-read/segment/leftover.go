//go:build linux && (amd64 || arm64 || riscv64)

package segment

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// ErrAttached says that a segment is no leftover: somebody has attached it.
var ErrAttached = errors.New("somebody has attached it")

// RemoveLeftover removes the segment of key if a killed writer left it: its
// creator has ended, and nobody is attached. It returns nil once the key is
// free. After ErrAttached, either another writer uses the segment, or a C
// reader waits at it. Claim finds out which.
func RemoveLeftover(ctx context.Context, key int) error {
	for start := time.Now(); ; {
		shmid, ds, err := find(key)
		if err == unix.ENOENT {
			return nil
		} else if err != nil {
			return err
		}
		runs, waited := Runs(ds.Cpid), time.Since(start)
		// Nobody has ever attached it: is it just being created?
		young := ds.Atime == 0 && waited < 2*time.Second
		// Was its writer killed? Then the readers notice it, and detach within
		// 2 s.
		leaving := ds.Nattch > 0 && !runs && waited < 3*time.Second
		switch {
		case young || leaving:
			// Wait, and look again.
		case ds.Nattch > 0:
			return ErrAttached
		case runs: // a Perl program, say, which attaches for each access
			return InUse(key)
		default:
			log.Printf("removing segment %d, left by a killed writer, pid %d",
				shmid, ds.Cpid)
			_, err := unix.SysvShmCtl(shmid, unix.IPC_RMID, nil)
			if err != nil && !Removed(err) { // another writer was faster
				return err
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(PollInterval):
		}
	}
}

// InUse is the error for a segment that must stay.
func InUse(key int) error {
	_, ds, err := find(key)
	if err == nil {
		err = fmt.Errorf("%v: in use: pid %d made it, %d attached"+cure,
			unix.EEXIST, ds.Cpid, ds.Nattch, key)
	}
	return err
}

const cure = "\nchoose another key with -key; ipcrm -M %#x removes the segment"

// WaitForWriter waits until a segment of key has a writer, and says once that
// it waits. It returns the writer's pid. If the creator runs, it is the writer.
// If not, a C writer may have taken the segment over. Most likely that is the
// process that attached or detached last. Pid 0 means that the writer is in
// another PID namespace.
func WaitForWriter(ctx context.Context, key int) (pid int32, err error) {
	said := false
	for {
		_, ds, err := find(key)
		switch {
		case err != nil && err != unix.ENOENT:
			return 0, err
		case Runs(ds.Cpid): // attached or not; pid 0 never runs
			return ds.Cpid, nil
		case ds.Nattch > 0 && ds.Cpid != 0 && Runs(ds.Lpid):
			return ds.Lpid, nil
		case ds.Nattch > 0:
			return 0, nil
		case !said:
			log.Printf("waiting for a writer on key %#x", key)
			said = true
		}
		select {
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-time.After(PollInterval):
		}
	}
}

// Gone tells a reader whether the writer with this pid has ended. A writer with
// pid 0 has ended if nobody but the reader is attached.
func Gone(shmid int, pid int32) bool {
	var ds unix.SysvShmDesc
	_, err := unix.SysvShmCtl(shmid, unix.IPC_STAT, &ds)
	return err != nil || (!Runs(pid) && (pid != 0 || ds.Nattch == 1))
}

// find returns the id of the segment of key, and what the kernel knows about
// the segment. A segment of another user, or of another size, is an error.
func find(key int) (shmid int, ds unix.SysvShmDesc, err error) {
	shmid, err = unix.SysvShmGet(key, 0, 0)
	if err == nil {
		_, err = unix.SysvShmCtl(shmid, unix.IPC_STAT, &ds)
	}
	switch {
	case Removed(err):
		err = unix.ENOENT
	case err == unix.EACCES || err == nil && int(ds.Perm.Uid) != os.Geteuid():
		err = fmt.Errorf("%v: it is another user's\n"+
			"give both programs another key with -key", unix.EEXIST)
	case err == nil && ds.Segsz != Size:
		err = fmt.Errorf("%v: it has %d bytes, not %d"+cure,
			unix.EEXIST, ds.Segsz, Size, key)
	}
	return shmid, ds, err
}

// Removed tells whether a call failed because its segment has been removed.
func Removed(err error) bool { return err == unix.EINVAL || err == unix.EIDRM }

// Runs tells whether a process runs. A zombie does not run, though kill(2)
// finds it. If the kernel does not tell, the answer is yes. See pidfd_open(2).
func Runs(pid int32) bool {
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
