//go:build linux

// Package transfer is what the writer and the reader of lesson 03 agree on:
// a buffer in shared memory, and two semaphores that pass the right to use it
// to and fro like a token. The C programs of the tutorial use the same keys,
// bytes and semaphores.
package transfer

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"example.com/shm-by-example/03-producer-consumer/ipc"
)

const (
	DefaultKey    = ipc.Key(0x1234)
	DefaultSemKey = ipc.Key(0x5678)
	Size          = 1028 // bytes of the segment
	BufSize       = 1024 // bytes of the buffer in it

	Write = 0 // this semaphore is 1 while the writer may fill the buffer
	Read  = 1 // this semaphore is 1 while the reader may empty it
)

// Buffer is the layout of the segment, Size bytes.
type Buffer struct {
	Cnt atomic.Int32  // offset 0: bytes in Buf; 0 is the end, -1 an error
	Buf [BufSize]byte // offset 4
}

// Pair is the segment and the semaphores, as one of the two has them.
type Pair struct {
	*Buffer
	Key  ipc.Key
	Sems ipc.Semaphores

	peer    string // what the other is called
	pid     int32  // its pid, if known
	met     bool   // it is there, or has been
	shmid   int
	mem     []byte
	timeout time.Duration // longest wait until it comes; 0 is no limit
}

func (p *Pair) attached(shmid int, mem []byte) {
	p.shmid, p.mem = shmid, mem
	p.Buffer = (*Buffer)(unsafe.Pointer((*[Size]byte)(mem)))
}

// Take waits for the token: P on semaphore num. It returns an error if the
// other process dies meanwhile, or somebody removes what they share.
func (p *Pair) Take(ctx context.Context, num int16) error {
	for start, notes := time.Now(), 0; ; {
		err := p.Sems.Add(num, -1, 0, 200*time.Millisecond)
		if err == nil {
			return nil
		} else if err != unix.EAGAIN {
			return p.removed(err)
		}
		// No token for a while: is there a reason? If it is with neither
		// of the semaphores, the other process has taken it.
		ds, err := ipc.Stat(p.shmid)
		given, _ := p.Sems.Value(Read)
		p.met = p.met || ds.Nattch > 1 || given == 0
		waited := time.Since(start)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return err
		case p.met && (ds.Nattch == 1 || ipc.Exited(p.pid)):
			return fmt.Errorf("segment %d: the %s ended before it was done",
				p.shmid, p.peer)
		case p.met:
		case p.timeout > 0 && waited > p.timeout:
			return fmt.Errorf("no %s came within %v", p.peer, p.timeout)
		case notes == 0:
			ipc.Note("waiting for a %s on key %v", p.peer, p.Key)
			notes++
		case notes == 1 && waited > 5*time.Second:
			ipc.Note("still waiting: other -key, other user, other container?")
			notes++
		}
	}
}

// Give passes the token on: V on semaphore num.
func (p *Pair) Give(num int16) error {
	if err := p.Sems.Add(num, 1, 0, 0); err != nil {
		return p.removed(err)
	}
	return nil
}

func (p *Pair) removed(err error) error {
	return fmt.Errorf("semop set %d: %w: the %s stopped, or somebody else "+
		"removed it", p.Sems, err, p.peer)
}

// Detach detaches the segment. See shmdt(2).
func (p *Pair) Detach() error { return ipc.Detach(p.mem) }
