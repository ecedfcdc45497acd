//go:build linux

package shm_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A job is one script, README or test, done in a process of its own: the test
// binary, started again. So it can be given namespaces of its own, and keys
// that no other job on the machine has, derived from its pid.
type job struct {
	Script string   // the file, or
	README string   // the file, or
	Test   string   // a test of this suite, or
	Peer   []string // what another process does; see peer_test.go
	Fault  string   // one of faults
	Path   []string // directories that come first on PATH
	Tree   string   // for a README: a copy of the sources, to run it in
	Room   room
	Update bool
	Long   bool   // the long form of a fault
	Until  bool   // at more points than in the short form, until one fails
	Shm    string // the size of /dev/shm in its room, if not empty

	Contract bool // it uses the keys and names that the contract gives
	Root     bool // in a user room it is root, who may change its limits
	UID      int  // run as this user, if not 0
}

// here is the job that this process does, if it does one.
var here job

const (
	jobVariable = "SHM_BY_EXAMPLE_JOB"
	jobTime     = 5 * time.Minute // then it hangs, and is killed
	longTime    = 8 * time.Minute // with -long

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

// command is the job's process, a process group of its own.
func (j job) command() (*exec.Cmd, error) {
	text, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), jobVariable+"="+string(text))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if j.Room != shared {
		cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWIPC | unix.CLONE_NEWNS
	}
	if j.Room == userRoom {
		// The same ids inside as outside, and the right to mount.
		uid, gid := os.Geteuid(), os.Getegid()
		inUID, inGID := uid, gid
		if j.Root {
			inUID, inGID = 0, 0
		}
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: inUID, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: inGID, HostID: gid, Size: 1}}
		cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN}
	}
	if j.UID != 0 {
		id := uint32(j.UID)
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: id, Gid: id}
	}
	return cmd, nil
}

// forking is held by tests that count attaches in this process. Go starts
// programs by vfork, without a copy of this process, except those that are
// to have a user namespace of their own.
var forking sync.RWMutex

func (j job) start(cmd *exec.Cmd) error {
	if j.Room == userRoom {
		forking.Lock()
		defer forking.Unlock()
	}
	return cmd.Start()
}

// crowd has room for so many jobs at once, so that two CPUs do for them and
// none waits for seconds until it is its turn. Those that use the contract's
// keys take the longest and mostly wait: they do not stand in this queue.
var crowd = sync.OnceValue(func() chan bool {
	if raceEnabled() { // each program takes a second longer, and memory
		return make(chan bool, 10)
	}
	return make(chan bool, 28)
})

// door lets one job in at a time, when few threads wait for a CPU. It is only
// patient as long as that helps: others may load the machine, too.
var door struct {
	sync.Mutex
	inVain int // how often in a row it waited
}

func waitAtDoor() {
	door.Lock()
	defer door.Unlock()
	for range max(1, 20>>door.inVain) {
		if runnable() <= 3*runtime.NumCPU() {
			door.inVain = 0
			return
		}
		time.Sleep(tick)
	}
	door.inVain = min(door.inVain+1, 5)
}

// runnable is how many threads run or could, on the whole machine.
func runnable() (n int) {
	text, _ := os.ReadFile("/proc/loadavg") // See proc_loadavg(5).
	if field := strings.Fields(string(text)); len(field) > 3 {
		fmt.Sscanf(field[3], "%d/", &n)
	}
	return n
}

// run does the job and returns its status and what it printed.
func (j job) run() (status int, printed string) {
	if !j.Contract {
		crowd() <- true
		defer func() { <-crowd() }()
	}
	waitAtDoor()
	cmd, err := j.command()
	out := new(bytes.Buffer)
	if err == nil {
		cmd.Stdout, cmd.Stderr = out, out
		err = j.start(cmd)
	}
	if err != nil {
		return failed, err.Error()
	}
	noteJob(cmd.Process.Pid)
	limit := jobTime
	if j.Long {
		limit = longTime
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
	})
	err = cmd.Wait()
	if !stop() {
		return failed, fmt.Sprintf("%s\nkilled after %v", out, limit)
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
	here = j
	if j.Peer != nil {
		return j.doPeer() // what it leaves is the test's to judge
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
	case j.Test != "":
		return j.doTest()
	case j.Fault != "":
		return j.doFault()
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
	if err := unix.Mount("shm", "/dev/shm", "tmpfs", 0, "mode=1777,size="+cmp.Or(j.Shm, "50%")); err != nil {
		return fmt.Errorf("mount /dev/shm: %w", err)
	}
	if j.Tree != "" { // at the same path, go build knows what it has built
		root, err := os.Getwd()
		if err == nil {
			err = unix.Mount(j.Tree, root, "", unix.MS_BIND, "")
		}
		if err != nil {
			return fmt.Errorf("mount %s: %w", j.Tree, err)
		}
		j.Tree = root // no longer what is the working directory
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

// ownName has all digits that a pid can have: none is the beginning of another.
func ownName(pid int) string { return fmt.Sprintf("shm-by-example-%07d", pid) }

// The objects of the contract, for machines on which there is no room.
var (
	contractKeys = []uint32{0x1234, 0x5678, 12345, 54321, 56789, 54322, 54323, 54324,
		tmpKey('M'), tmpKey('Z'), tmpKey('L')}
	contractNames = []string{"my_shared_memory", "large_shared_memory", "optimized_buffer",
		"sem.semaphore_counter"}
)

// tmpKey is the key that ftok(3) makes of /tmp and a letter.
func tmpKey(id int) uint32 {
	key, _ := ftok("/tmp", id)
	return uint32(key)
}

// jobs are those that ran, to see at the end that they left nothing.
var jobs struct {
	sync.Mutex
	pids []int
}

func noteJob(pid int) {
	jobs.Lock()
	defer jobs.Unlock()
	jobs.pids = append(jobs.pids, pid)
}

// began is when this process did: what is older is not its own.
var began = time.Now().Unix()

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
			// A segment is also known by its creator, the fifth column, and
			// by its age, the fourteenth: pids are used again.
			column := strings.Fields(line)
			own := table == "shm" && column[4] == strconv.Itoa(pid) &&
				column[13] >= strconv.FormatInt(began, 10)
			if own || j.Room == inTheRoom || uint32(key)>>8 == ownKey(pid, 0)>>8 ||
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
