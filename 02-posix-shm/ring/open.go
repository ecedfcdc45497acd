//go:build linux

package ring

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"example.com/shm-by-example/02-posix-shm/ipc"
)

const DefaultName = ipc.Name("/optimized_buffer")

// Each process has locked the line of its own index, from this offset on: so
// there is one of each, and the other learns when it ends.
const producerLine, consumerLine = 0, 64

// Object is the mapped object, as one of the two processes has it. It is that
// process's Peer, too: the kernel knows whether anybody else has it open.
type Object struct {
	Mem     []byte
	file    *os.File
	name    ipc.Name
	peer    string        // what the other is called
	line    int64         // that it has locked
	met     bool          // it has been seen
	start   time.Time     // of the wait for it
	notes   int           // how often that has been said
	timeout time.Duration // longest wait for it; 0 is no limit
}

// Create makes the object, for the producer.
func Create(ctx context.Context, name ipc.Name, mode ipc.Mode,
	timeout time.Duration, huge bool) (*Object, error) {
	file, err := ipc.CreateObject(ctx, name, Size, mode)
	if err != nil {
		return nil, err
	}
	o := &Object{file: file, name: name, peer: "consumer", line: consumerLine,
		timeout: timeout}
	err = o.lock(producerLine)
	if err == nil {
		err = o.mmap(huge)
	}
	if err != nil {
		return nil, errors.Join(err, ipc.RemoveObject(name), file.Close())
	}
	return o, nil
}

// Open waits for the producer's object, for the consumer.
func Open(ctx context.Context, name ipc.Name, timeout time.Duration,
	huge bool) (*Object, error) {
	file, err := ipc.OpenObject(ctx, name, Size, unix.O_RDWR, timeout)
	if err != nil {
		return nil, err
	}
	o := &Object{file: file, name: name, peer: "producer", line: producerLine,
		met: true}
	err = o.lock(consumerLine)
	if errors.Is(err, unix.EAGAIN) {
		err = fmt.Errorf("%s has a consumer already", name)
	}
	if err == nil {
		err = o.mmap(huge)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return o, nil
}

func (o *Object) lock(line int64) error {
	lock := unix.Flock_t{Type: unix.F_WRLCK, Start: line, Len: 64}
	err := ipc.Lock(o.file, unix.F_OFD_SETLK, &lock)
	if err != nil {
		return fmt.Errorf("fcntl F_OFD_SETLK %s: %w", o.name, err)
	}
	// The flag that it is, producerLocks or consumerLocks.
	_, err = o.file.WriteAt([]byte{1, 0, 0, 0}, line+8)
	return err
}

// unlocked tells whether the peer had its line locked, and has no longer.
func (o *Object) unlocked() bool {
	s := View(o.Mem)
	flag := &s.producerLocks
	if o.line == consumerLine {
		flag = &s.consumerLocks
	}
	if flag.Load() == 0 {
		return false // not yet; or it is in C, and locks nothing
	}
	lock := unix.Flock_t{Type: unix.F_WRLCK, Start: o.line, Len: 64}
	err := ipc.Lock(o.file, unix.F_OFD_GETLK, &lock)
	return err == nil && lock.Type == unix.F_UNLCK
}

func (o *Object) mmap(huge bool) (err error) {
	if huge {
		o.Mem, err = mapHuge(o.file)
		if err == nil {
			ipc.Note("the object is in a huge page")
		} else {
			ipc.Note("no huge page: %v", err)
		}
	}
	if o.Mem == nil {
		o.Mem, err = unix.Mmap(int(o.file.Fd()), 0, Size,
			unix.PROT_READ|unix.PROT_WRITE,
			unix.MAP_SHARED|unix.MAP_POPULATE)
	}
	if err != nil {
		return fmt.Errorf("mmap %s: %w", o.name, err)
	}
	if err := unix.Mlock(o.Mem[:Size]); err != nil {
		ipc.Note("mlock %s: %v: see ulimit -l", o.name, err)
	}
	return nil
}

// Describe prints the tutorial's two lines.
func (o *Object) Describe(stdout io.Writer) {
	fmt.Fprintf(stdout, "Optimized shared memory created at %p\n", &o.Mem[0])
	fmt.Fprintf(stdout, "Cache line size: %d bytes\n", cacheLine(
		"/sys/devices/system/cpu/cpu0/cache/index0/coherency_line_size"))
}

// cacheLine is the kernel's figure, from a file that virtual machines and
// containers may lack. Without a plausible one it is 64, by which the layout
// keeps the indices apart.
func cacheLine(file string) int {
	text, err := os.ReadFile(file)
	n, bad := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || bad != nil || n < 16 || n > 1024 || n&(n-1) != 0 {
		return 64
	}
	return n
}

// Check implements Peer.
func (o *Object) Check() error {
	// In this order: who has done something had it open before that.
	s := View(o.Mem)
	o.met = o.met || s.ConsumerIndex.Load() > 0 || s.consumerLocks.Load() > 0
	gone := ipc.Unused(o.file) || o.unlocked()
	if o.start.IsZero() {
		o.start = time.Now()
	}
	waited := time.Since(o.start)
	switch {
	case o.met && gone:
		return fmt.Errorf("%s: the %s ended before it was done", o.name, o.peer)
	case o.met:
	case o.timeout > 0 && waited > o.timeout:
		return fmt.Errorf("no %s came within %v", o.peer, o.timeout)
	case !gone: // one in C that has taken nothing; or somebody who only looks
	case o.notes == 0:
		ipc.Note("waiting for a %s on %s", o.peer, o.name)
		o.notes++
	case o.notes == 1 && waited > 5*time.Second:
		ipc.Note("still waiting: other -name, other user, other container?")
		o.notes++
	}
	return nil
}

// Close closes the object. The mapping ends with the process.
func (o *Object) Close() error { return o.file.Close() }
