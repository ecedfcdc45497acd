//go:build linux

package shm_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A job is one script or README, done in a process of its own: the test
// binary, started again. So it can be given namespaces of its own, and keys
// that no other job on the machine has, derived from its pid.
type job struct {
	Script string   // the file, or
	README string   // the file
	Path   []string // directories that come first on PATH
	Tree   string   // for a README: the directory to run it in
	Room   room
	Update bool

	Contract bool // it uses the keys and names that the contract gives
}

const (
	jobVariable = "SHM_BY_EXAMPLE_JOB"
	jobTime     = 2 * time.Minute // then it is killed

	passed, failed, skipped = 0, 1, 3 // exit statuses of a job
)

// A room is how a job gets IPC objects that nobody else sees: namespaces for
// System V IPC and for mounts, with a /dev/shm of its own.
type room string

const (
	shared    room = ""     // no room: everybody's IPC objects
	rootRoom  room = "root" // the namespaces; needs CAP_SYS_ADMIN
	userRoom  room = "user" // the same inside of a user namespace
	inTheRoom room = "in"   // it is ready: what a job sees
)

// start starts the job, as a process group of its own.
func (j job) start() (*exec.Cmd, *bytes.Buffer, error) {
	text, err := json.Marshal(j)
	if err != nil {
		return nil, nil, err
	}
	out := new(bytes.Buffer)
	cmd := exec.Command("/proc/self/exe")
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), jobVariable+"="+string(text))
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if j.Room != shared {
		cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWIPC | unix.CLONE_NEWNS
	}
	if j.Room == userRoom {
		// The same ids inside as outside, and the right to mount.
		uid, gid := os.Geteuid(), os.Getegid()
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
		cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN}
	}
	return cmd, out, cmd.Start()
}

// run does the job and returns its status and what it printed.
func (j job) run() (status int, printed string) {
	cmd, out, err := j.start()
	if err != nil {
		return failed, err.Error()
	}
	jobs.Lock()
	jobs.pids = append(jobs.pids, cmd.Process.Pid)
	jobs.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), jobTime)
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
	})
	err = cmd.Wait()
	if !stop() {
		return failed, fmt.Sprintf("%s\nkilled after %v", out, jobTime)
	}
	exit := new(exec.ExitError)
	if err != nil && !errors.As(err, &exit) {
		return failed, err.Error()
	}
	return cmd.ProcessState.ExitCode(), out.String()
}

// test makes the job's outcome the test's.
func (j job) test(t *testing.T) {
	t.Helper()
	switch status, printed := j.run(); status {
	case passed:
		t.Log(printed)
	case skipped:
		t.Skip(printed)
	default:
		t.Errorf("exit status %d\n%s", status, printed)
	}
}

// do is the job, in its own process.
func (j job) do() (status int) {
	if err := j.enter(); err != nil {
		fmt.Println("entering the room:", err)
		return failed
	}
	defer func() {
		if left := j.left(os.Getpid()); len(left) > 0 {
			fmt.Println("FAIL: left behind:", strings.Join(left, ", "))
			status = failed
		}
	}()
	switch {
	case j.Script != "":
		return j.doScript()
	case j.README != "":
		return j.doREADME()
	}
	return passed // it was only to find out whether there are rooms
}

// enter makes the room ready and then starts the program once more in it,
// without the right to mount that an ordinary user has only for this.
func (j *job) enter() error {
	if j.Room == shared || j.Room == inTheRoom {
		return nil
	}
	const private = unix.MS_REC | unix.MS_PRIVATE
	if err := unix.Mount("", "/", "", private, ""); err != nil {
		return fmt.Errorf("mount / private: %w", err)
	}
	if err := unix.Mount("shm", "/dev/shm", "tmpfs", 0, "mode=1777"); err != nil {
		return fmt.Errorf("mount /dev/shm: %w", err)
	}
	if j.Room == userRoom {
		err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
		if err != nil {
			return fmt.Errorf("prctl: %w", err)
		}
	}
	j.Room = inTheRoom
	text, err := json.Marshal(j)
	if err != nil {
		return err
	}
	os.Setenv(jobVariable, string(text))
	return syscall.Exec("/proc/self/exe", os.Args, os.Environ())
}

func init() {
	// enter drops a right of this thread and then calls exec on the same.
	if os.Getenv(jobVariable) != "" {
		runtime.LockOSThread()
	}
}

// privateRoom finds out, once, which kind of room this process can make.
var privateRoom = sync.OnceValue(func() room {
	for _, kind := range []room{rootRoom, userRoom} {
		if status, _ := (job{Room: kind}).run(); status == passed {
			return kind
		}
	}
	return shared
})

// Keys and names of a job's own begin with what its pid gives.

func ownKey(pid, n int) uint32 { return 1<<31 | uint32(pid)<<8 | uint32(n) }

func ownName(pid int) string { return fmt.Sprintf("shm-by-example-%d", pid) }

// The objects of the contract, for machines on which there is no room.
var (
	contractKeys  = []uint32{0x1234, 0x5678, 12345}
	contractNames = []string{"my_shared_memory", "large_shared_memory", "optimized_buffer"}
)

// jobs are those that ran, to see at the end that they left nothing.
var jobs struct {
	sync.Mutex
	pids []int
}

func jobsLeft() (all []string) {
	for _, pid := range jobs.pids {
		all = append(all, job{}.left(pid)...)
	}
	return all
}

// left lists the IPC objects that the job with this pid has left: in a room
// all that there are, elsewhere those with the keys and names that it uses.
// It removes them, so that they trouble nobody else.
func (j job) left(pid int) (all []string) {
	for _, table := range []string{"shm", "sem", "msg"} {
		text, err := os.ReadFile("/proc/sysvipc/" + table)
		if err != nil {
			continue // a kernel without them
		}
		for line := range strings.Lines(string(text)) {
			var key int32
			var id int
			if n, _ := fmt.Sscan(line, &key, &id); n < 2 {
				continue // the heading
			}
			if j.Room == inTheRoom || uint32(key)>>8 == ownKey(pid, 0)>>8 ||
				j.Contract && slices.Contains(contractKeys, uint32(key)) {
				all = append(all, fmt.Sprintf("%s key %#x id %d", table, uint32(key), id))
				remove(table, id)
			}
		}
	}
	files, _ := os.ReadDir("/dev/shm")
	for _, f := range files {
		if j.Room == inTheRoom || strings.Contains(f.Name(), ownName(pid)) ||
			j.Contract && slices.Contains(contractNames, f.Name()) {
			all = append(all, "/dev/shm/"+f.Name())
			os.Remove("/dev/shm/" + f.Name())
		}
	}
	return all
}

func remove(table string, id int) {
	switch table {
	case "shm":
		unix.SysvShmCtl(id, unix.IPC_RMID, nil)
	case "sem":
		unix.Syscall6(unix.SYS_SEMCTL, uintptr(id), 0, unix.IPC_RMID, 0, 0, 0)
	case "msg":
		unix.Syscall(unix.SYS_MSGCTL, uintptr(id), unix.IPC_RMID, 0)
	}
}
