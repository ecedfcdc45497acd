//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync/atomic"
	"time"

	"example.com/shm-by-example/05-pthread-style-mutex/ipc"
)

// family is the children, as their parent knows them.
type family struct {
	*shared
	running int
	ended   chan exit
	bad     []exit // those that did not end well

	shmid  int
	seen   int32     // the counter, at the last look
	since  time.Time // ... when it was first so
	hinted bool      // that it has been so for long
}

// exit is how a child ended.
type exit struct {
	number, pid int
	err         error
}

func (e exit) String() string {
	return fmt.Sprintf("process %d, pid %d", e.number, e.pid)
}

func (e exit) killed() bool {
	exit := new(exec.ExitError)
	return errors.As(e.err, &exit) && exit.ExitCode() == -1
}

// start starts the children, which all live until the end of ctx or longer.
func (f *family) start(ctx context.Context) error {
	for number := 1; number < *procs; number++ {
		args := []string{"-child", strconv.Itoa(number),
			"-join", strconv.Itoa(f.shmid), "-n", strconv.Itoa(*rounds),
			"-procs", strconv.Itoa(*procs), "-sync", string(chosen)}
		if *die && number == 1 {
			args = append(args, "-die")
		}
		cmd, err := ipc.StartChild(ctx, os.Stderr, args...)
		if err != nil {
			return err
		}
		f.running++
		go func() {
			err := cmd.Wait()
			f.ended <- exit{number, cmd.Process.Pid, err}
		}()
	}
	return nil
}

// reap notes the end of a child.
func (f *family) reap(e exit) {
	f.running--
	if e.err != nil {
		f.bad = append(f.bad, e)
	}
}

// look returns an error if there is no use in waiting for an ordinary mutex
// any more, because whoever has it has ended. With a robust one, or if its
// owner is only slow, or stopped, one waits.
func (f *family) look(ctx context.Context) error {
	for len(f.ended) > 0 {
		f.reap(<-f.ended)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	owner := atomic.LoadInt32(&f.mutex.owner)
	now := atomic.LoadInt32(&f.counter)
	if now != f.seen || f.since.IsZero() || f.mutex.word.Load() == 0 {
		f.seen, f.since = now, time.Now()
	}
	stands := time.Since(f.since)
	for _, e := range f.bad {
		// With no owner it was killed between two instructions of lock or
		// unlock: then nothing moves any more.
		had := owner == int32(e.pid) && f.mutex.word.Load() != 0 ||
			owner == 0 && stands > time.Second
		if had && chosen == normal && e.killed() {
			return fmt.Errorf("%v, was killed while it had the mutex: nobody "+
				"will unlock it\n-sync robust survives that", e)
		}
	}
	if stands < time.Second || owner == 0 {
		return nil
	}

	// A stranger, a program in C say, may have it: has it ended?
	ds, err := ipc.Stat(f.shmid)
	strangers := ds.Nattch > uint64(1+f.running)
	switch {
	case err != nil:
		return err
	case chosen == normal && !strangers && ipc.Exited(owner):
		return fmt.Errorf("pid %d ended while it had the mutex: nobody will "+
			"unlock it\n-sync robust survives that", owner)
	case stands > 5*time.Second && !f.hinted:
		ipc.Note("still waiting: pid %d has the mutex", owner)
		f.hinted = true
	}
	return nil
}

// wait waits for all children. What the dead have left to do of their rounds
// is then for the parent to do, if the mutex is robust.
func (f *family) wait(ctx context.Context, parent process) error {
	for f.running > 0 {
		select {
		case e := <-f.ended:
			f.reap(e)
		case <-ctx.Done():
		case <-time.After(slice):
		}
		if err := f.look(ctx); err != nil {
			return err
		}
	}
	if chosen == normal {
		return nil
	}
	var others []exit
	for _, e := range f.bad {
		if !e.killed() {
			others = append(others, e)
			continue
		}
		if err := parent.lockAndRepair(); err != nil {
			return err
		}
		heir := parent
		heir.number = e.number
		note := heir.note(heir.number)
		note.done(0) // if it has still begun one, nobody completed it
		done := note.rounds()
		robust{&f.mutex}.unlock()
		ipc.Note("%v, was killed after %d of %d rounds: process 0 does the "+
			"others", e, done, *rounds)
		if err := heir.countRobust(ctx, *rounds); err != nil {
			return err
		}
	}
	f.bad = others
	return nil
}

// failed returns the error of a child that was not made good.
func (f *family) failed() error {
	if len(f.bad) == 0 {
		return nil
	}
	return fmt.Errorf("%v: %w", f.bad[0], f.bad[0].err)
}

// runChild is the main function of a child.
func runChild(ctx context.Context) error {
	mem, err := ipc.Attach(*join, 0)
	if err != nil {
		return err
	}
	s, err := view(mem)
	if err == nil && s.mutex.kind.Load() != chosen.mutexKind() {
		err = fmt.Errorf("segment %d: no mutex of that kind", *join)
	}
	if err != nil {
		return err
	}
	p := process{shared: s, number: *child, die: *die}
	p.stuck = func() error { return context.Cause(ctx) }
	if err := p.count(ctx, *rounds); err != nil {
		return err
	}
	return ipc.Detach(mem)
}
