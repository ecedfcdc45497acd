//go:build linux && (amd64 || arm64 || riscv64)

// Package segment asks the kernel about the segment of either pair of
// programs. Did a killed process leave it? Does its creator run? How many
// processes are attached?
package segment

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// PollInterval is the time from one look to the next, where the kernel cannot
// wake the process that waits.
const PollInterval = 10 * time.Millisecond

const cure = "\nchoose another key with -key; ipcrm -M %#x removes the segment"

// CheckKey checks a flag. Key 0 is IPC_PRIVATE: no other process could find
// the object.
func CheckKey(name string, key int) error {
	if key < 1 || key > 0xffffffff {
		return fmt.Errorf("%s %d is out of range: 1 to 0xffffffff", name, key)
	}
	return nil
}

// RemoveLeftover removes the segment of key if a killed process left it: its
// creator has ended, and nobody is attached. It returns nil once the key is
// free. See shmctl(2).
func RemoveLeftover(ctx context.Context, key, size int) error {
	for start := time.Now(); ; {
		shmid, ds, err := find(key, size)
		if err == unix.ENOENT {
			return nil
		} else if err != nil {
			return err
		}
		runs, waited := Runs(ds.Cpid), time.Since(start)
		young := ds.Atime == 0 && waited < 2*time.Second // being created
		leaving := ds.Nattch > 0 && !runs && waited < 3*time.Second
		switch {
		case young || leaving:
			// Wait, and look again.
		case runs || ds.Nattch > 0:
			// It may be in use even if nobody is attached: a Perl program,
			// say, attaches only for each access.
			return fmt.Errorf("%v: in use: pid %d made it, %d attached"+cure,
				unix.EEXIST, ds.Cpid, ds.Nattch, key)
		default:
			log.Printf("removing segment %d, left by a killed process, pid %d",
				shmid, ds.Cpid)
			_, err := unix.SysvShmCtl(shmid, unix.IPC_RMID, nil)
			if err != nil && !Removed(err) { // another process was faster
				return err
			}
		}
		if err := Pause(ctx, PollInterval); err != nil {
			return err
		}
	}
}

// WaitForPeer waits until there is a segment of key and its creator uses it.
// It says once that it waits. It returns the creator's pid, or 0 if the creator
// is in another PID namespace. It fails if another process has joined the
// creator already.
func WaitForPeer(ctx context.Context, key, size int, name string) (pid int32,
	err error) {
	said, looks := false, 0
	for {
		_, ds, err := find(key, size)
		runs := Runs(ds.Cpid) || ds.Cpid == 0 && ds.Nattch > 0
		switch {
		case err != nil && err != unix.ENOENT:
			return 0, err
		case err != nil || !runs || ds.Atime == 0: // no segment, or not ready
			looks = 0
			if !said {
				log.Printf("waiting for a %s on key %#x", name, key)
				said = true
			}
		case ds.Nattch < 2:
			return ds.Cpid, nil
		default:
			// Two are attached. Or the creator is just attaching: the kernel
			// counts it twice while shmat runs. So look ten times.
			if looks++; looks == 10 {
				return 0, fmt.Errorf("in use: %d attached, the last was pid %d",
					ds.Nattch, ds.Lpid)
			}
		}
		if err := Pause(ctx, PollInterval); err != nil {
			return 0, err
		}
	}
}

// OnlyTwo tells whether only two processes are attached: this one and the
// creator. If not, another process came at the same moment.
func OnlyTwo(shmid int) bool {
	var ds unix.SysvShmDesc
	_, err := unix.SysvShmCtl(shmid, unix.IPC_STAT, &ds)
	return err == nil && ds.Nattch <= 2
}

// Gone tells whether the process that shares a segment with this one has
// ended. A process with pid 0 has ended if nobody else is attached.
func Gone(shmid int, pid int32) bool {
	if pid != 0 {
		return !Runs(pid)
	}
	var ds unix.SysvShmDesc
	_, err := unix.SysvShmCtl(shmid, unix.IPC_STAT, &ds)
	return err != nil || ds.Nattch <= 1
}

// find returns the id of the segment of key, and what the kernel knows about
// the segment. A segment of another user, or of another size, is an error.
func find(key, size int) (shmid int, ds unix.SysvShmDesc, err error) {
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
	case err == nil && ds.Segsz != uint64(size):
		err = fmt.Errorf("%v: it has %d bytes, not %d"+cure,
			unix.EEXIST, ds.Segsz, size, key)
	}
	return shmid, ds, err
}

// Removed tells whether a call failed because its object has been removed.
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

// Pause waits for d. If a signal ends ctx first, the error says which signal.
func Pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
