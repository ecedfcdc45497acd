//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"fmt"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	slots = 8       // blocks sent and not yet released, at most
	most  = 1 << 20 // bytes of the largest block
)

// shared is the layout of the memory: a ring for each direction. Blocks of
// size bytes are at multiples of size. Before blocks of another size come, all
// blocks of this size have been taken.
type shared struct {
	control [2]control
	_       [4096 - 2*unsafe.Sizeof(control{})]byte
	data    [2][slots * most]byte
}

// control has the indices. Each index is in a cache line of its own, because
// one process writes put, and the other writes taken.
type control struct {
	put           atomic.Uint32 // blocks sent so far
	receiverWaits atomic.Uint32 // 1 = wake it
	_             [56]byte
	taken         atomic.Uint32 // blocks released so far
	senderWaits   atomic.Uint32 // 1 = wake it
	_             [56]byte
}

// createMemory creates an object without a name. Both processes inherit its
// descriptor. The kernel frees it when the last of them has ended.
func createMemory() (objects, error) {
	fd, err := unix.MemfdCreate("compare", unix.MFD_CLOEXEC)
	if err != nil {
		return objects{}, fmt.Errorf("memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), "memfd")
	size := int64(unsafe.Sizeof(shared{}))
	err = unix.Fallocate(fd, 0, 0, size)
	for err == unix.EINTR { // a signal has interrupted the call: call again
		err = unix.Fallocate(fd, 0, 0, size)
	}
	if err != nil {
		f.Close()
		return objects{}, fmt.Errorf("fallocate: %w", err)
	}
	return objects{files: [2][]*os.File{{f}, {f}}}, nil
}

func mapMemory() (*shared, error) {
	mem, err := unix.Mmap(3, 0, int(unsafe.Sizeof(shared{})),
		unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mmap: %w", err)
	}
	return (*shared)(unsafe.Pointer(&mem[0])), nil
}

// ring is an endpoint of shared memory whose processes wait for one another by
// looking at an index.
type ring struct {
	out, in         *control
	outData, inData []byte
	put, taken      uint32
	wait            func(index *atomic.Uint32, old uint32, waits *atomic.Uint32)
	wake            func(index, waits *atomic.Uint32)
}

func joinRing(me int) (*ring, error) {
	s, err := mapMemory()
	if err != nil {
		return nil, err
	}
	return &ring{out: &s.control[me], in: &s.control[1-me],
		outData: s.data[me][:], inData: s.data[1-me][:]}, nil
}

func (r *ring) room(size int) ([]byte, error) {
	for {
		taken := r.out.taken.Load()
		if r.put-taken < slots {
			return slot(r.outData, r.put, size), nil
		}
		r.wait(&r.out.taken, taken, &r.out.senderWaits)
	}
}

func (r *ring) send(int) error {
	r.put++
	r.out.put.Store(r.put)
	r.wake(&r.out.put, &r.out.receiverWaits)
	return nil
}

func (r *ring) receive(size int) ([]byte, error) {
	for r.in.put.Load() == r.taken {
		r.wait(&r.in.put, r.taken, &r.in.receiverWaits)
	}
	return slot(r.inData, r.taken, size), nil
}

func (r *ring) release() error {
	r.taken++
	r.in.taken.Store(r.taken)
	r.wake(&r.in.taken, &r.in.senderWaits)
	return nil
}

func slot(data []byte, number uint32, size int) []byte {
	from := int(number%slots) * size
	return data[from : from+size]
}

// joinSpin returns an endpoint that looks until the index has moved. If the
// other process needs the same CPU, this one would look in vain for its whole
// time slice, some milliseconds. So after 1000 looks it gives the CPU away.
func joinSpin(me, _ int) (endpoint, error) {
	r, err := joinRing(me)
	if err != nil {
		return nil, err
	}
	r.wait = func(index *atomic.Uint32, old uint32, _ *atomic.Uint32) {
		for range 1000 {
			if index.Load() != old {
				return
			}
		}
		calls++
		unix.Syscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
	}
	r.wake = func(_, _ *atomic.Uint32) {}
	return r, nil
}

// joinFutex returns an endpoint that sleeps at once if it has to wait. The
// other process wakes it only if it sleeps.
func joinFutex(me, _ int) (endpoint, error) {
	r, err := joinRing(me)
	if err != nil {
		return nil, err
	}
	r.wait = func(index *atomic.Uint32, old uint32, waits *atomic.Uint32) {
		waits.Store(1) // before the look: see ring/wait.go
		if index.Load() == old {
			limit := unix.NsecToTimespec(int64(time.Second))
			futex(index, futexWait, old, &limit)
		}
		waits.Store(0)
	}
	r.wake = func(index, waits *atomic.Uint32) {
		if waits.Load() == 1 && waits.CompareAndSwap(1, 0) {
			futex(index, futexWake, 1, nil)
		}
	}
	return r, nil
}

const futexWait, futexWake = 0, 1 // not private: two processes share it

func futex(word *atomic.Uint32, operation uintptr, value uint32,
	limit *unix.Timespec) {
	calls++
	unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), operation,
		uintptr(value), uintptr(unsafe.Pointer(limit)), 0, 0)
}
