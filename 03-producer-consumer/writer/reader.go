//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"context"
	"fmt"
	"log"

	"example.com/shm-by-example/03-producer-consumer/segment"
	"example.com/shm-by-example/03-producer-consumer/transfer"
)

// A reader is the other process, as the writer sees it.
type reader struct {
	ctx          context.Context // ends by a signal
	shmid, semid int
	met          bool  // it has taken a block
	pid          int32 // if met; 0: it is in another PID namespace
	said         bool  // the writer has said that it waits
}

// look is called every 200 ms while the writer waits for its turn. It returns
// an error if a signal came, or if the reader has ended.
func (r *reader) look() error {
	sum := 0 // of the two semaphores
	for _, num := range []int{transfer.Write, transfer.Read} {
		value, err := transfer.Semctl(r.semid, num, transfer.GETVAL, 0)
		if err != nil {
			return fmt.Errorf("semctl GETVAL set %d: %w", r.semid, err)
		}
		sum += value
	}
	if sum == 0 && !r.met { // so a reader has taken the 1
		if err := r.meet(); err != nil {
			return err
		}
	} else if !r.met && !r.said {
		log.Printf("waiting for a reader on key %#x", uint32(*key))
		r.said = true
	}
	return r.check()
}

// check returns an error if a signal came, or if the reader has ended.
func (r *reader) check() error {
	if r.met && segment.Gone(r.shmid, r.pid) {
		return fmt.Errorf("segment %d: the reader, pid %d, ended before it "+
			"was done", r.shmid, r.pid)
	}
	return context.Cause(r.ctx)
}

// meet asks which process has taken the last block. It must always be the same
// process. If a second reader took the place of a dead one, each would have
// only a part of the input.
func (r *reader) meet() error {
	n, err := transfer.Semctl(r.semid, transfer.Read, transfer.GETPID, 0)
	pid := int32(n)
	if err != nil {
		return fmt.Errorf("semctl GETPID set %d: %w", r.semid, err)
	} else if r.met && pid != r.pid {
		return fmt.Errorf("segment %d: the reader, pid %d, ended before it "+
			"was done, and pid %d came in its place", r.shmid, r.pid, pid)
	}
	r.met, r.pid = true, pid
	return nil
}
