//go:build linux && (amd64 || arm64 || riscv64)

package ring

import (
	"fmt"
	"log"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"example.com/shm-by-example/02-posix-shm/object"
)

// A Line is the offset of a cache line, that of one of the two indices. A
// process locks the line of its own index in the file. So there is only one
// producer and one consumer, and each learns when the other has ended.
type Line int64

// The lines of the producer's index and of the consumer's.
const ProducerLine, ConsumerLine Line = 0, 64

// Lock locks a line of the object, until this process ends. EAGAIN: another
// process has locked it. See F_OFD_SETLK in fcntl(2).
func Lock(fd int, line Line) error {
	_, err := fcntlLock(fd, unix.F_OFD_SETLK, line)
	return err
}

// fcntlLock returns the type of the lock that F_OFD_GETLK finds.
func fcntlLock(fd, command int, line Line) (found int16, err error) {
	lock := unix.Flock_t{Type: unix.F_WRLCK, Start: int64(line), Len: 64}
	err = unix.FcntlFlock(uintptr(fd), command, &lock)
	for err == unix.EINTR { // a signal has interrupted the call: call again
		err = unix.FcntlFlock(uintptr(fd), command, &lock)
	}
	return lock.Type, err
}

// A Checker tells whether the other process may still do something. If not,
// Check returns an error that says why. A Peer is a Checker.
type Checker interface{ Check() error }

// A Peer is the other process. Its lock and the lease tell whether it runs.
type Peer struct {
	who, name string
	fd        int
	line      Line           // the line that it locks
	locks     *atomic.Uint32 // 1: it has locked the line
	index     *atomic.Uint32 // items that it has put or taken, modulo 2³²
	met, said bool
}

// NewPeer returns the other process. This process has locked the line own.
// NewPeer notes in the object that it has: a C program may use no locks, and
// the other process must not take it for dead.
func (s *Shared) NewPeer(fd int, name string, own Line) *Peer {
	if own == ProducerLine {
		s.producerLocks.Store(1)
		return &Peer{who: "consumer", name: name, fd: fd, line: ConsumerLine,
			locks: &s.consumerLocks, index: &s.ConsumerIndex}
	}
	s.consumerLocks.Store(1)
	return &Peer{who: "producer", name: name, fd: fd, line: ProducerLine,
		locks: &s.producerLocks, index: &s.ProducerIndex, met: true}
}

// Check implements Checker. If no peer has come yet, it says so once.
func (p *Peer) Check() error {
	// First look at what the peer has written, then ask for the lease. A peer
	// that has written something had the object open. If the lease is granted
	// after that, the peer has ended. In the other order, a peer that comes
	// between the two steps would be taken for dead.
	locks := p.locks.Load() == 1
	p.met = p.met || locks || p.index.Load() > 0
	err := object.Lease(p.fd, p.name)
	gone := err == nil
	object.GiveBack(p.fd)
	if err == unix.EAGAIN && locks {
		// Some process has the object open, but perhaps not the peer. The peer
		// keeps its lock until it ends.
		found, e := fcntlLock(p.fd, unix.F_OFD_GETLK, p.line)
		gone = e == nil && found == unix.F_UNLCK
	}
	switch {
	case err != nil && err != unix.EAGAIN:
		return err
	case gone && p.met:
		return fmt.Errorf("%s: the %s ended after %d items", p.name, p.who,
			p.index.Load())
	case gone && !p.said:
		log.Printf("waiting for a %s on %s", p.who, p.name)
		p.said = true
	}
	return nil
}
