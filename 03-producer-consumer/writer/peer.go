//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"context"
	"fmt"
	"log"

	"example.com/shm-by-example/03-producer-consumer/segment"
	"example.com/shm-by-example/03-producer-consumer/transfer"
)

// A peer is the other process, the reader, as the writer sees it.
type peer struct {
	ctx          context.Context // ends by a signal
	shmid, semid int
	met          bool  // it has taken a block
	pid          int32 // if met; 0: it is in another PID namespace
	said         bool  // the writer has said that it waits
}

// look is called every 200 ms while the writer waits for its turn. It returns
// an error if a signal came, or if the reader has ended.
func (p *peer) look() error {
	sum := 0 // of the two semaphores
	for _, num := range []int{transfer.Write, transfer.Read} {
		value, err := transfer.Semctl(p.semid, num, transfer.GETVAL, 0)
		if err != nil {
			return fmt.Errorf("semctl GETVAL set %d: %w", p.semid, err)
		}
		sum += value
	}
	if sum == 0 && !p.met { // so a reader has taken the 1
		if err := p.meet(); err != nil {
			return err
		}
	} else if !p.met && !p.said {
		log.Printf("waiting for a reader on key %#x", *key)
		p.said = true
	}
	return p.check()
}

// check returns an error if a signal came, or if the reader has ended.
func (p *peer) check() error {
	if p.met && segment.Gone(p.shmid, p.pid) {
		return fmt.Errorf("segment %d: the reader, pid %d, ended before it "+
			"was done", p.shmid, p.pid)
	}
	return context.Cause(p.ctx)
}

// meet asks which process has taken the last block. It must always be the same
// process. If a second reader took the place of a dead one, each would have
// only a part of the input.
func (p *peer) meet() error {
	n, err := transfer.Semctl(p.semid, transfer.Read, transfer.GETPID, 0)
	pid := int32(n)
	if err != nil {
		return fmt.Errorf("semctl GETPID set %d: %w", p.semid, err)
	} else if p.met && pid != p.pid {
		return fmt.Errorf("segment %d: the reader, pid %d, ended before it "+
			"was done, and pid %d came in its place", p.shmid, p.pid, pid)
	}
	p.met, p.pid = true, pid
	return nil
}
