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
// another, so main stays on the main thread. The number of the main thread
// equals the pid. For Pdeathsig, too, the thread that starts the children must
// live as long as the process.
func init() { runtime.LockOSThread() }

// family is what the parent knows of its children.
type family struct {
	*shared
	shmid    int
	ctx      context.Context // ends when a child has failed, too
	cancel   context.CancelCauseFunc
	children []*exec.Cmd // those that run
	ended    chan ended
	killed   []ended // their rounds are still to be done

	// For stuck: what it saw at its last looks, and since when.
	seenWord    uint32
	seenCounter int32
	since       time.Time
	hopeless    bool // at the last look, nobody could unlock the mutex
	told        bool
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
// this process is killed. It is not SIGKILL, because a child should not end
// while it has the mutex. With Setpgid, Ctrl-C at the terminal is for
// this process alone. See PR_SET_PDEATHSIG in prctl(2).
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
		cmd.WaitDelay = time.Second // and then it is killed
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

// lost says what the end of a child means.
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

// reap notes the end of a child. If the child was killed, perhaps unlock had
// just woken it, and no other. So reap wakes another.
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

// stuck returns an error if there is no use in waiting any more: because ctx
// has ended, or because nobody can unlock the mutex. That is so if nothing has
// moved for a second, no stranger is attached, and no child may unlock it. It
// must be so at two looks in a row, since an owner may unlock and leave while
// this process looks.
func (f *family) stuck() error {
	for len(f.ended) > 0 {
		f.reap(<-f.ended)
	}
	if f.ctx.Err() != nil {
		return context.Cause(f.ctx)
	}
	word, counter := f.mutex.word.Load(), atomic.LoadInt32(&f.counter)
	// A robust mutex whose owner has died is as good as free. It stays so
	// until somebody locks it, and perhaps all have done their rounds.
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
		return fmt.Errorf("shmctl segment %d: %w", f.shmid, err)
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
// mutex names its owner. A normal one does not: whoever dies between two
// instructions of lock or unlock leaves 0 in the owner field. But a child that
// sleeps does not have it. It waits for it.
func mayUnlock(pid int, word uint32) bool {
	if *kind == "robust" {
		return word&^waiters == uint32(pid)
	}
	return !sleeps(pid)
}

// sleeps tells whether all threads of a process wait for something. A thread
// that is stopped, or only slow, does not. The state of the main thread is not
// enough. The Go runtime may have taken the CPU from main, while it has the
// mutex: then the main thread sleeps until another thread lets it go on, and
// under load that one is slow. See proc_pid_stat(5).
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
		os.Exit(1) // the parent knows, and says why
	} else if err != nil {
		return err
	}
	if err := unix.SysvShmDetach(mem); err != nil {
		return fmt.Errorf("shmdt segment %d: %w", *join, err)
	}
	return nil
}
