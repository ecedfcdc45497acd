//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"example.com/shm-by-example/05-pthread-style-mutex/ipc"
)

const (
	size     = unsafe.Sizeof(shared{}) // 304 bytes; on arm64 312
	maxNotes = 31                      // that there is room for
)

// shared is the layout of the segment; on arm64, add 8 to the offsets.
type shared struct {
	mutex   mutex // offset 0
	_       [padding]byte
	counter int32     // offset 40: for the owner of the mutex only
	message [256]byte // offset 44: with a robust mutex, the notes
}

// A note is what a process writes down of its work, for those who come after
// it if it dies: how many rounds it has done, in the upper half; and while it
// does one, in the lower, what the counter will then be.
type note struct{ atomic.Uint64 }

func (n *note) rounds() int   { return int(n.Load() >> 32) }
func (n *note) begun() int32  { return int32(n.Load()) }
func (n *note) done(more int) { n.Store(uint64(n.rounds()+more) << 32) }
func (n *note) begin(to int32) {
	n.Store(uint64(n.rounds())<<32 | uint64(uint32(to)))
}

// view lays shared over an attached segment.
func view(mem []byte) (*shared, error) {
	if len(mem) != int(size) {
		return nil, fmt.Errorf("a segment of %d bytes, %d wanted", len(mem),
			size)
	}
	return (*shared)(unsafe.Pointer(&mem[0])), nil
}

// note returns that of a process; the parent is number 0.
func (s *shared) note(number int) *note {
	return (*note)(unsafe.Pointer(&s.message[4+8*number])) // offset 48
}

// repair completes what an owner that died has begun, or finds it completed,
// or has nothing to repair: the counter can only be one short.
func (s *shared) repair() (completed bool) {
	for number := range maxNotes {
		n := s.note(number)
		switch n.begun() {
		case 0:
		case s.counter + 1:
			atomic.StoreInt32(&s.counter, s.counter+1)
			n.done(1)
			return true
		case s.counter:
			n.done(1)
		}
	}
	return false
}

// process is one of those who count: the parent, or a child.
type process struct {
	*shared
	number int
	die    bool         // half way, in the critical section
	stuck  func() error // why it need not wait for the mutex any longer
}

// syncFlag is the value of -sync.
type syncFlag string

const normal syncFlag = "normal"

func (s syncFlag) String() string { return string(s) }

func (s *syncFlag) Set(text string) error {
	if text != "normal" && text != "robust" {
		return errors.New("want normal or robust")
	}
	*s = syncFlag(text)
	return nil
}

func (s syncFlag) mutexKind() uint32 {
	if s == normal {
		return processShared
	}
	return processShared | robustKind
}

// count does n rounds: each locks the mutex, increments the counter, and
// unlocks the mutex.
func (p process) count(ctx context.Context, n int) error {
	if chosen == normal {
		return p.countNormal(ctx, n)
	}
	if err := registerRobust(); err != nil {
		return err
	}
	return p.countRobust(ctx, n)
}

func (p process) countNormal(ctx context.Context, n int) error {
	for round := range n {
		if round%1024 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := p.mutex.lock(p.stuck); err != nil {
			return err
		}
		if p.die && round == n/2 {
			unix.Kill(int(self), unix.SIGKILL)
		}
		p.counter++
		p.mutex.unlock()
	}
	return nil
}

// countRobust takes notes besides. They say how many rounds are done already,
// and need not be the process's own.
func (p process) countRobust(ctx context.Context, n int) error {
	note := p.note(p.number)
	for note.rounds() < n {
		if note.rounds()%1024 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := p.lockAndRepair(); err != nil {
			return err
		}
		next := p.counter + 1
		note.begin(next)
		if p.die && note.rounds() == n/2 {
			unix.Kill(int(self), unix.SIGKILL)
		}
		atomic.StoreInt32(&p.counter, next) // in this order: see repair
		note.done(1)
		robust{&p.mutex}.unlock()
	}
	return nil
}

// lockAndRepair locks the mutex. If its last owner has died in the critical
// section, it first makes good what that has left half done.
func (p process) lockAndRepair() error {
	m := robust{&p.mutex}
	died, err := m.lock(p.stuck)
	if err != nil || !died {
		return err
	}
	found, state := p.counter, "as it should be"
	if p.repair() {
		state = fmt.Sprintf("and should be %d: repaired", p.counter)
	}
	ipc.Note("process %d: the owner of the mutex died: the counter was %d, %s",
		p.number, found, state)
	m.consistent()
	return nil
}
