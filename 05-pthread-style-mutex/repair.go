//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"context"
	"log"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxNotes is how many notes have room in message.
const maxNotes = 31

// A note is what a process writes down about its work. If the process dies, the
// others read its note. The upper half counts the rounds that are done. During
// a round, the lower half is what the counter will be. Otherwise it is 0.
type note struct{ atomic.Uint64 }

func (n *note) rounds() int   { return int(n.Load() >> 32) }
func (n *note) begun() int32  { return int32(n.Load()) }
func (n *note) done(more int) { n.Store(uint64(n.rounds()+more) << 32) }
func (n *note) begin(to int32) {
	n.Store(uint64(n.rounds())<<32 | uint64(uint32(to)))
}

// note returns the note of a process. The parent is number 0.
func (s *shared) note(number int) *note {
	return (*note)(unsafe.Pointer(&s.message[4+8*number])) // offset 48
}

// countAsRobust does the rounds of this process with a robust mutex.
func countAsRobust(ctx context.Context, s *shared, stuck func() error) error {
	if err := registerRobust(); err != nil {
		return err
	}
	return s.countFor(ctx, *child, stuck)
}

// countFor does the rounds that are left of process number: this process, or
// one that died. It writes the note before and after each change. The process
// may be killed between two stores. So all of them are atomic: the compiler
// keeps their order.
func (s *shared) countFor(ctx context.Context, number int,
	stuck func() error) error {
	note := s.note(number)
	for note.rounds() < *rounds {
		if note.rounds()%1024 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := s.lockAndRepair(stuck); err != nil {
			return err
		}
		next := s.counter + 1
		note.begin(next)
		if *die && *child > 0 && note.rounds() == *rounds/2 {
			unix.Kill(int(self), unix.SIGKILL)
		}
		atomic.StoreInt32(&s.counter, next)
		note.done(1)
		robust{&s.mutex}.unlock()
	}
	return nil
}

// lockAndRepair locks the mutex. If the last owner has died in the critical
// section, it completes what that owner left half done.
func (s *shared) lockAndRepair(stuck func() error) error {
	m := robust{&s.mutex}
	died, err := m.lock(stuck)
	if err != nil || !died {
		return err
	}
	found := s.counter
	if s.repair() {
		log.Printf("process %d: the owner of the mutex died: the counter was "+
			"%d, and should be %d: repaired", *child, found, s.counter)
	} else {
		log.Printf("process %d: the owner of the mutex died: the counter was "+
			"%d, as it should be", *child, found)
	}
	m.consistent()
	return nil
}

// repair completes the round that a dead owner has begun, and tells whether it
// had to. A round increments the counter by 1, so the counter is at most 1 too
// low. Perhaps the owner had begun no round, or only had to clear its note.
func (s *shared) repair() (completed bool) {
	for number := range maxNotes {
		n := s.note(number)
		switch n.begun() {
		case 0:
		case s.counter + 1: // it died before it stored the counter
			atomic.StoreInt32(&s.counter, s.counter+1)
			n.done(1)
			return true
		case s.counter: // it died before it cleared the note
			n.done(1)
		}
	}
	return false
}

// inherit does the rounds that a killed child has not done.
func (f *family) inherit(e ended) error {
	if err := f.lockAndRepair(f.stuck); err != nil {
		return err
	}
	note := f.note(e.number)
	note.done(0) // clear it: what was begun has not changed the counter
	done := note.rounds()
	robust{&f.mutex}.unlock()
	log.Printf("%v, was killed after %d of %d rounds: process 0 does the "+
		"others", e, done, *rounds)
	return f.countFor(f.ctx, e.number, f.stuck)
}
