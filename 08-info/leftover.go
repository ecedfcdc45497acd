//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// The objects of lesson 04, which stay on purpose.
var (
	lesson04Keys = []uint32{54321, 54322, 54323, 54324}
	lesson04Name = "/sem.semaphore_counter"
)

// keep says why an object is no leftover. If it is one, keep returns "". A file
// of /dev/shm has neither a creator nor a count of attaches, and its age proves
// nothing. So it is a leftover only if a flag names it, and the kernel says
// that no process has it open or mapped.
func (o *object) keep(uid uint32) string {
	switch {
	case *o.UID != uid:
		return "it belongs to " + userName(*o.UID)
	case slices.Contains(o.Status, "dest"):
		return "it is marked already, and goes with the last detach"
	case o.Kind == kindSegment && *o.Attaches > 0:
		return fmt.Sprintf("%d attached", *o.Attaches)
	case !named() && (o.Key != nil && slices.Contains(lesson04Keys, *o.Key) ||
		o.title() == lesson04Name):
		return "lesson 04 means it to stay: 04-semaphore-counter -rm " +
			"removes it, or name it here"
	case !named() && o.Kind != kindSegment:
		return "a POSIX object is taken only if it is named: -name " + o.title()
	}
	if why := tooYoung(o.used()); why != "" {
		return why
	} else if o.Kind != kindSegment {
		return o.open()
	}
	users := []int{int(*o.Creator)}
	if o.Attached != nil { // nil: never attached, so there is no last user
		users = append(users, int(*o.LastPid))
	}
	if why := running(users...); why != "" {
		return why
	}
	// Both have ended. Perhaps a child of theirs has just used it.
	ds, err := look(*o.ID)
	if gone(err) {
		return hasGone
	} else if err != nil || ds.Nattch > 0 || ds.Lpid != *o.LastPid {
		return justUsed
	}
	return ""
}

const (
	justUsed = "somebody has just used it"
	hasGone  = "it has gone, or is another one by now"
)

// tooYoung says that something was used only a short time ago. If not, it
// returns "".
func tooYoung(used *time.Time) string {
	if used == nil || time.Since(*used) >= older {
		return ""
	}
	return fmt.Sprintf("used %v ago, not %v", max(0,
		time.Since(*used).Truncate(time.Second)), older)
}

// running says which of these processes runs. If none runs, it returns "". A
// program may use an object without being attached all the time, as Perl and
// PHP programs do. A process of another PID namespace has number 0, and may
// run.
func running(pids ...int) string {
	for _, pid := range pids {
		if force {
			break
		} else if pid == 0 {
			return "a process of another PID namespace has used it, and may " +
				"run; -force removes it all the same"
		} else if runs(pid) {
			return fmt.Sprintf("%d %s has used it, and runs; -force removes "+
				"it all the same", pid, commandOf(pid))
		}
	}
	return ""
}

// runs tells whether a process runs. A zombie does not run, though kill(2)
// finds it. If the kernel does not tell, the answer is yes. See pidfd_open(2).
func runs(pid int) bool {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil { // no such process, or the call is forbidden: ask kill
		return pid > 0 && unix.Kill(pid, 0) != unix.ESRCH
	}
	defer unix.Close(fd)
	ended := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, _ := unix.Poll(ended, 0)
	return n <= 0 // -1: a signal of the Go runtime interrupted poll
}

// hold opens a file that no other process has open or mapped, in any namespace:
// only then does the kernel grant a lease for writing. If hold fails, why says
// why. It also locks the file: if several programs want to remove it, only one
// does, and none of them removes a new file of the same name. Lesson 02 does
// the same. See F_SETLEASE in fcntl(2), and flock(2).
func (o *object) hold() (f *os.File, why string) {
	f, err := os.OpenFile(o.path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK,
		0)
	if errors.Is(err, unix.ENOENT) {
		return nil, hasGone
	} else if err != nil {
		return nil, "it cannot be opened, to see if another has it open"
	}
	var st unix.Stat_t
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK)
	}
	switch {
	case err != nil:
		why = "another process has it open"
	case unix.Fstat(int(f.Fd()), &st) != nil || st.Ino != o.backing.inode ||
		st.Nlink == 0:
		why = hasGone
	default:
		return f, ""
	}
	f.Close()
	return nil, why
}

// open says why a file cannot be removed. If it can, open returns "".
func (o *object) open() string {
	f, why := o.hold()
	if why == "" {
		f.Close()
	}
	return why
}

// again looks at the object once more. It returns nil if the object has gone.
func (o *object) again() (leftover, error) {
	var now *object
	if o.Kind == kindSegment {
		ds, err := look(*o.ID)
		if gone(err) {
			return nil, nil
		} else if err != nil {
			return nil, explain("shmctl IPC_STAT", *o.ID, err)
		}
		return segment{*o.ID, ds}.object(), nil
	}
	now, err := posixObject(o.path[len(shmDir):], o.backing.dev)
	if err != nil || now.backing != o.backing {
		return nil, nil // gone, or another one by now
	}
	return now, nil
}

// remove removes the object. If somebody has just attached a segment, only its
// key goes now.
func (o *object) remove() error {
	if o.Kind != kindSegment {
		f, why := o.hold()
		if why == hasGone {
			return nil
		} else if why != "" {
			return fmt.Errorf("%v: not removed: %s", o, why)
		}
		defer f.Close()
		err := unix.Unlink(o.path)
		if err != nil && err != unix.ENOENT {
			return fmt.Errorf("unlink %v: %w", o, err)
		}
		return nil
	}
	_, err := unix.SysvShmCtl(*o.ID, unix.IPC_RMID, nil)
	if err != nil && !gone(err) {
		return explain("shmctl IPC_RMID", *o.ID, err)
	}
	return nil
}

// keep says why a set is no leftover. If it is one, keep returns "".
func (s *semSet) keep(uid uint32) string {
	switch {
	case s.UID != uid:
		return "it belongs to " + userName(s.UID)
	case s.Values == nil:
		return "its values are not for us to read"
	case s.waiting() > 0:
		return fmt.Sprintf("%d wait for it", s.waiting())
	}
	var pids []int
	for _, v := range s.Values {
		if v.LastPid != 0 {
			pids = append(pids, v.LastPid)
		}
	}
	why := cmp.Or(tooYoung(latest(s.Operated, s.Changed)), running(pids...))
	if len(pids) == 0 && !force { // the kernel knows no creator of a set
		why = cmp.Or(why, "nobody has used it yet, so its creator may run; "+
			"-force removes it all the same")
	}
	now := semSet{ID: s.ID, Count: s.Count}
	if err := now.read(); why != "" {
		return why
	} else if err != nil {
		return hasGone
	} else if !slices.Equal(now.Values, s.Values) {
		return justUsed
	}
	return ""
}

// again looks at the set once more. It returns nil if the set has gone.
func (s *semSet) again() (leftover, error) {
	all, err := semaphoreSets()
	for _, now := range all {
		if now.ID == s.ID {
			return now, nil
		}
	}
	return nil, err
}

// remove removes the set. A process that waits for it gets EIDRM.
func (s *semSet) remove() error {
	_, _, errno := unix.Syscall6(unix.SYS_SEMCTL, uintptr(s.ID), 0,
		unix.IPC_RMID, 0, 0, 0)
	if errno != 0 && !gone(errno) {
		return fmt.Errorf("semctl IPC_RMID %v: %w", s, errno)
	}
	return nil
}
