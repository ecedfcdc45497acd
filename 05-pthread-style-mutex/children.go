//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"cmp"
	"context"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The owner of a mutex is a thread. A goroutine can move from one thread to
// another, so init keeps main on the main thread. The number of the main thread
// equals the pid. There is one more reason: with Pdeathsig, the thread that
// starts the children must live as long as the process.
func init() { runtime.LockOSThread() }

// family is what the parent knows of its children.
type family struct {
	*shared
	shmid    int
	ctx      context.Context // ends by a signal, or when a child has failed
	cancel   context.CancelCauseFunc
	children []*exec.Cmd // those that still run
	ended    chan ended
	killed   []ended // their rounds are not all done yet

	// For stuck: what it saw at its last look, and since when that stands.
	seenWord    uint32
	seenCounter int32
	since       time.Time
	hopeless    bool // at the last look, nobody could unlock the mutex
	told        bool // it has said that it waits
}

// ended is a child that has ended.
type ended struct {
	cmd    *exec.Cmd
	number int
	err    error
}

func (e ended) String() string {
	return fmt.Sprintf("process %d, pid %d", e.number, e.cmd.Process.Pid)
}

func newFamily(ctx context.Context, s *shared, shmid int) *family {
	f := &family{shared: s, shmid: shmid, ended: make(chan ended, *procs)}
	f.ctx, f.cancel = context.WithCancelCause(ctx)
	return f
}

// start starts this program once more for each child, since a Go program
// cannot fork(2). A child gets SIGTERM when ctx ends. With Pdeathsig the
// kernel also sends it SIGTERM when the thread that started it ends, even if
// this process is killed. With SIGKILL in place of SIGTERM, a child could end
// while it has the mutex. With Setpgid, Ctrl-C at the terminal is for the
// parent alone. See PR_SET_PDEATHSIG in prctl(2).
func (f *family) start() error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	for number := 1; number < *procs; number++ {
		cmd := exec.CommandContext(f.ctx, program, "-sync", *kind,
			"-child", strconv.Itoa(number), "-join", strconv.Itoa(f.shmid),
			"-n", strconv.Itoa(*rounds), "-procs", strconv.Itoa(*procs),
			fmt.Sprintf("-die=%t", *die && number == 1))
		cmd.Stderr = os.Stderr
		cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
		cmd.WaitDelay = time.Second // after that it is killed
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Setpgid: true, Pdeathsig: unix.SIGTERM}
		if err := cmd.Start(); err != nil {
			return cmp.Or(context.Cause(f.ctx), err)
		}
		f.children = append(f.children, cmd)
		go func() {
			e := ended{cmd, number, cmd.Wait()}
			if e.err != nil && !(*kind == "robust" && e.killed()) {
				// End, because the child's rounds can no longer be done.
				f.cancel(f.lost(e))
			}
			f.ended <- e
		}()
	}
	return nil
}

func (e ended) killed() bool { return e.cmd.ProcessState.ExitCode() == -1 }

// lost returns the error for the end of a child.
func (f *family) lost(e ended) error {
	const cure = "\n-sync robust survives that"
	switch pid := int32(e.cmd.Process.Pid); {
	case !e.killed():
		return fmt.Errorf("%v: %w", e, e.err)
	case atomic.LoadInt32(&f.mutex.owner) == pid && f.mutex.word.Load() != 0:
		return fmt.Errorf("%v, was killed while it had the mutex: nobody "+
			"will unlock it"+cure, e)
	}
	return fmt.Errorf("%v, was killed: its rounds are missing"+cure, e)
}

// end ends the children that still run.
func (f *family) end() {
	f.cancel(nil)
	for len(f.children) > 0 {
		f.reap(<-f.ended)
	}
}

// reap records that a child has ended. Perhaps an unlock has just woken this
// child, and no other process. If the child was killed, reap wakes another.
func (f *family) reap(e ended) {
	for i, cmd := range f.children {
		if cmd == e.cmd {
			f.children = append(f.children[:i], f.children[i+1:]...)
			break
		}
	}
	if e.err != nil && e.killed() {
		f.killed = append(f.killed, e)
		futexWake(&f.mutex.word, 1)
	}
}

// wait waits for all children. If the mutex is robust, it then does the rounds
// that killed children have not done.
func (f *family) wait() error {
	for len(f.children) > 0 {
		select {
		case e := <-f.ended:
			f.reap(e)
		case <-f.ctx.Done():
		case <-time.After(slice):
		}
		if err := f.stuck(); err != nil {
			return err
		}
	}
	for _, e := range f.killed {
		if err := f.inherit(e); err != nil { // in repair.go
			return err
		}
	}
	return nil
}

// stuck returns an error if it is useless to wait any longer: ctx has ended, or
// nobody can unlock the mutex. Nobody can unlock it if all this is true:
//   - word and counter have not changed for a second,
//   - only the parent and its children are attached,
//   - it is certain that no child has the mutex: see mayUnlock.
//
// It must be true at two looks in a row, because an owner may unlock and detach
// during one look.
func (f *family) stuck() error {
	for len(f.ended) > 0 {
		f.reap(<-f.ended)
	}
	if f.ctx.Err() != nil {
		return context.Cause(f.ctx)
	}
	word, counter := f.mutex.word.Load(), atomic.LoadInt32(&f.counter)
	// A robust mutex whose owner has died counts as unlocked. The word stays
	// as it is until somebody locks the mutex, and perhaps nobody needs to.
	if word == 0 || word&ownerDied != 0 ||
		word != f.seenWord || counter != f.seenCounter {
		f.seenWord, f.seenCounter, f.since = word, counter, time.Now()
		f.hopeless = false
	}
	stands, owner := time.Since(f.since), atomic.LoadInt32(&f.mutex.owner)
	if stands < time.Second {
		return nil
	}
	var ds unix.SysvShmDesc
	_, err := unix.SysvShmCtl(f.shmid, unix.IPC_STAT, &ds)
	if err != nil && !removed(err) {
		return fmt.Errorf("shmctl IPC_STAT segment %d: %w", f.shmid, err)
	}
	hopeless := err == nil && int(ds.Nattch) == 1+len(f.children)
	for _, cmd := range f.children {
		hopeless = hopeless && !mayUnlock(cmd.Process.Pid, word)
	}
	if hopeless && f.hopeless {
		return fmt.Errorf("nobody who is attached can unlock the mutex: its "+
			"owner field is %d", owner)
	}
	f.hopeless = hopeless
	if stands > 2*time.Second && !f.told {
		log.Printf("still waiting: the owner of the mutex is %d", owner)
		f.told = true
	}
	return nil
}

// mayUnlock tells whether a child may have the mutex. The word of a robust
// mutex names its owner. The word of a normal mutex does not, and the field
// owner may be wrong: a process can die between two instructions of lock or
// unlock. But a child that sleeps does not have the mutex: it waits for it.
func mayUnlock(pid int, word uint32) bool {
	if *kind == "robust" {
		return word&^waiters == uint32(pid)
	}
	return !sleeps(pid)
}

// sleeps tells whether all threads of a process sleep. A thread that is
// stopped, or only slow, does not sleep. The main thread alone does not tell:
// the Go runtime may halt it while it has the mutex. Then it sleeps until
// another thread lets it go on, which takes time on a busy machine. See
// proc_pid_stat(5).
func sleeps(pid int) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, thread := range threads {
		text, _ := os.ReadFile(thread)
		_, state, _ := strings.Cut(string(text), ") ")
		if !strings.HasPrefix(state, "S") {
			return false
		}
	}
	return len(threads) > 0
}

// runChild is the main function of a child.
func runChild(ctx context.Context) error {
	mem, err := unix.SysvShmAttach(*join, 0, 0)
	if err != nil {
		return fmt.Errorf("shmat segment %d: %w", *join, err)
	}
	if len(mem) != size {
		return fmt.Errorf("segment %d has %d bytes, not %d", *join, len(mem),
			size)
	}
	s := view(mem)
	if s.mutex.kind.Load() != kindBits() {
		return fmt.Errorf("segment %d: no %s mutex", *join, *kind)
	}
	err = count(ctx, s, func() error { return context.Cause(ctx) })
	if ctx.Err() != nil {
		os.Exit(1) // the parent says why
	} else if err != nil {
		return err
	}
	if err := unix.SysvShmDetach(mem); err != nil {
		return fmt.Errorf("shmdt segment %d: %w", *join, err)
	}
	return nil
}
