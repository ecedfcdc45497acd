//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"reflect"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// keep says why an object is no leftover; it says nothing if it is one. A file
// of /dev/shm has neither a creator nor a count of attaches, and its age
// proves nothing. So the kernel is asked whether any process has it open or
// mapped.
func (o *object) keep(uid uint32) string {
	switch {
	case *o.UID != uid:
		return belongsTo(*o.UID)
	case slices.Contains(o.Status, "dest"):
		return "it is removed already, and goes with the last detach"
	case o.Kind == kindSegment && *o.Attaches > 0:
		return fmt.Sprintf("%d attached", *o.Attaches)
	}
	if why := tooYoung(o.used()); why != "" {
		return why
	} else if o.Kind != kindSegment {
		f, why := o.hold()
		f.Close() // it may be nil
		return why
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
	hasGone  = "has gone"
	cure     = "; -force removes it all the same, if it is named"
	outside  = "a process of another PID namespace has used it, and may run" +
		cure
)

func belongsTo(uid uint32) string {
	text := "it belongs to " + userName(uid)
	if os.Geteuid() == 0 {
		text += ": add -user " + userName(uid)
	}
	return text
}

// tooYoung says that something was used lately.
func tooYoung(used *time.Time) string {
	if used == nil || time.Since(*used) >= older {
		return ""
	}
	return fmt.Sprintf("made, used or changed %v ago, and -older is %v",
		max(0, time.Since(*used).Truncate(time.Second)), older)
}

// running says which of these processes, which used an object, runs. If none
// runs, it returns "". A program may use an object without being attached all
// the time, as Perl and PHP programs do.
func running(pids ...int) string {
	for _, pid := range pids {
		does := runs(pid)
		switch {
		case force:
			return ""
		case does == nil:
			return outside
		case *does:
			return fmt.Sprintf("%d %s runs, and has used it, or only has the "+
				"pid of the process that did%s", pid, commandOf(pid), cure)
		}
	}
	return ""
}

// runs tells whether a process runs. A process of another PID namespace has
// number 0, and it is not known whether it runs: nil. A zombie does not run,
// though kill(2) finds it. Where the kernel does not tell, the answer is yes.
// See pidfd_open(2).
func runs(pid int) *bool {
	if pid == 0 {
		return nil
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.EINVAL || err == unix.ENOENT { // only a thread has it
		return new(false)
	} else if err != nil { // nobody has it, or the call is forbidden: ask kill
		return new(unix.Kill(pid, 0) != unix.ESRCH)
	}
	defer unix.Close(fd)
	ended := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, _ := unix.Poll(ended, 0) // -1: a signal of the Go runtime interrupted it
	return new(n <= 0)
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
	case err == unix.EAGAIN:
		why = "another process has it open"
	case err != nil:
		why = fmt.Sprintf("it is not known if another process has it open: "+
			"F_SETLEASE: %v; root needs CAP_LEASE", err)
	case unix.Fstat(int(f.Fd()), &st) != nil || st.Ino != o.backing.inode ||
		st.Nlink == 0:
		why = hasGone
	default:
		return f, ""
	}
	f.Close()
	return nil, why
}

// remove looks at an object again, since it was listed some time ago, and
// removes it.
func (o *object) remove(stdout io.Writer, uid uint32) error {
	if o.Kind == kindSegment {
		return o.removeSegment(stdout, uid)
	}
	f, why := o.hold()
	if why != "" {
		return kept(o, why)
	}
	defer f.Close()
	err := unix.Unlink(o.path)
	if err != nil && err != unix.ENOENT {
		return fmt.Errorf("unlink %v: %w", o, err)
	}
	fmt.Fprintf(stdout, "%v: removed\n", o)
	return nil
}

func (o *object) removeSegment(stdout io.Writer, uid uint32) error {
	ds, err := look(*o.ID)
	if err == nil {
		if why := (segment{*o.ID, ds}).object().keep(uid); why != "" {
			return kept(o, why)
		}
		_, err = unix.SysvShmCtl(*o.ID, unix.IPC_RMID, nil)
	}
	if gone(err) {
		return kept(o, hasGone)
	} else if err != nil {
		return explain("shmctl IPC_RMID", *o.ID, err)
	}
	if _, err := look(*o.ID); err == nil {
		// Somebody came in between. Nothing is lost: whoever is attached
		// keeps the segment until the last detach.
		log.Printf("%v: somebody has just attached it: it is marked", o)
		return nil
	}
	fmt.Fprintf(stdout, "%v: removed\n", o)
	return nil
}

// keep says why a set is no leftover; it says nothing if it is one.
func (s *semSet) keep(uid uint32) string {
	switch {
	case s.UID != uid:
		return belongsTo(s.UID)
	case s.Values == nil:
		return "this process may not read its values"
	case s.waiting() > 0:
		return fmt.Sprintf("processes that wait for it: %d", s.waiting())
	}
	var pids []int
	for _, v := range s.Values {
		if v.LastPid != 0 {
			pids = append(pids, v.LastPid)
		}
	}
	why := cmp.Or(tooYoung(s.used()), running(pids...))
	if len(pids) == 0 && !force { // the kernel knows no creator of a set
		why = cmp.Or(why, "nobody has used it yet, so its creator may run; "+
			"-force removes it all the same")
	}
	now := *s
	if err := now.read(); why != "" {
		return why
	} else if err != nil {
		return hasGone
	} else if !reflect.DeepEqual(now.Values, s.Values) {
		return justUsed
	}
	return ""
}

// remove removes the set. A process that waits for it gets EIDRM.
func (s *semSet) remove() error {
	_, err := semctl(s.ID, 0, unix.IPC_RMID, nil)
	if err != nil && !gone(err) {
		return fmt.Errorf("semctl IPC_RMID %v: %w", s, err)
	}
	return nil
}
