//go:build linux

// Package transfer is what the writer and the reader of lesson 03 agree on:
// a buffer in shared memory, and two semaphores that pass the right to use it
// to and fro like a token. The C programs of the tutorial use the same keys,
// bytes and semaphores.
package transfer

import (
	"context"
	"fmt"
	"runtime"
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

	slice = 200 * time.Millisecond // of a wait, and then it looks around
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
	known   bool   // it has been there
	pid     int32  // its pid; 0 if that cannot be seen from here
	turns   int    // how often it had the token
	shmid   int
	mem     []byte
	timeout time.Duration // longest wait until it comes; 0 is no limit
}

func (p *Pair) attached(shmid int, mem []byte) {
	p.shmid, p.mem = shmid, mem
	p.Buffer = (*Buffer)(unsafe.Pointer((*[Size]byte)(mem)))
	twoProcessors()
}

// twoProcessors is for a process that may use only one CPU: a thread that
// waits in a system call would have the Go runtime's only processor taken
// away, and would have to get it back, each time.
func twoProcessors() { runtime.GOMAXPROCS(max(2, runtime.GOMAXPROCS(0))) }

// Take waits for the token: P on semaphore num. It returns an error if the
// other process dies meanwhile, or somebody removes what they share.
func (p *Pair) Take(ctx context.Context, num int16) error {
	if p.turns++; p.turns%64 == 0 {
		// If a goroutine has not been through the scheduler for 10 ms, the
		// Go runtime looks after it every 20 µs, which on one CPU is dear.
		runtime.Gosched()
	}
	for start, notes := (time.Time{}), 0; ; {
		err := p.Sems.Add(num, -1, 0, slice)
		if start.IsZero() && err != nil {
			start = time.Now().Add(-slice)
		}
		if err == nil {
			return p.met(num)
		} else if err != unix.EAGAIN {
			return p.removed(err)
		}
		// No token for a while. If it is with neither of the semaphores, the
		// reader has it.
		if num == Write && p.Sems.Value(Read) == 0 {
			p.pid = p.Sems.LastPid(Read)
			p.known = true
		}
		if err = p.Check(); err == nil {
			err = context.Cause(ctx)
		}
		waited := time.Since(start)
		switch {
		case err != nil && p.Sems.Add(num, -1, ipc.NoWait, 0) == nil:
			return nil // it was the other's last act
		case err != nil:
			return err
		case p.known:
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

// met tells the writer by whom it got the token back: it must always be the
// same reader, lest two readers get a part each. It asks now and then, and at
// the end: a reader that is gone does not come back.
func (p *Pair) met(num int16) error {
	if num == Read || p.turns == 1 ||
		p.known && p.turns%64 != 0 && p.Cnt.Load() != 0 {
		return nil
	}
	pid := p.Sems.LastPid(Read)
	if p.known && pid != p.pid {
		return fmt.Errorf("segment %d: the reader, pid %d, ended before it "+
			"was done, and pid %d came in its place", p.shmid, p.pid, pid)
	}
	p.pid, p.known = pid, true
	return nil
}

// Check returns an error if the other process has ended, or the segment has
// been removed.
func (p *Pair) Check() error {
	ds, err := ipc.Stat(p.shmid)
	if err == nil && p.known && (ds.Nattch == 1 || ipc.Exited(p.pid)) {
		err = fmt.Errorf("segment %d: the %s ended before it was done",
			p.shmid, p.peer)
	}
	return err
}

// Give passes the token on: V on semaphore num.
func (p *Pair) Give(num int16) error {
	if err := p.Sems.Add(num, 1, 0, 0); err != nil {
		return p.removed(err)
	}
	return nil
}

func (p *Pair) removed(err error) error {
	if err == unix.EIDRM {
		return fmt.Errorf("semop set %d: %w: the %s stopped, or somebody else "+
			"removed it", p.Sems, err, p.peer)
	}
	return fmt.Errorf("semop set %d: %w", p.Sems, err)
}

// Detach detaches the segment. See shmdt(2).
func (p *Pair) Detach() error { return ipc.Detach(p.mem) }
