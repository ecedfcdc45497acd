//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"example.com/shm-by-example/02-posix-shm/ipc"
)

const size = 1048576 // bytes of the object

// shared is the layout of the object.
type shared struct {
	Size  atomic.Uint64   // offset 0
	Count atomic.Int32    // offset 8: process_count
	Data  [size - 12]byte // offset 12: text, ends with NUL
}

// attachment is the object as this process has it.
type attachment struct {
	*shared
	members
	mem []byte
}

// attach opens the object or creates it, maps it, and becomes a member. The
// first one initialises it. On return this process is still at the gate.
func attach(ctx context.Context, stdout io.Writer) (*attachment, error) {
	for {
		object, err := ipc.OpenOrCreate(name, size, mode)
		if err != nil {
			return nil, err
		}
		a := &attachment{members: members{object}}
		if err = a.lock(gate); err == nil {
			err = ipc.Guard(func() error { return a.enterAsMember(stdout) })
			if err == nil {
				return a, nil
			} else if err != unix.ENOENT {
				_, closed := a.close()
				return nil, errors.Join(err, closed)
			}
		} else if err != unix.EAGAIN {
			return nil, errors.Join(err, object.Close())
		}
		// While it waits it has the object not open: see firstOfAll.
		object.Close()
		if err := ipc.Pause(ctx, rand.N(2*ipc.Tick)); err != nil {
			return nil, err
		}
	}
}

// enterAsMember does what is left to do at the gate. ENOENT means that the
// last member has removed the object since it was opened.
func (a *attachment) enterAsMember(stdout io.Writer) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(a.object.Fd()), &st); err != nil {
		return err
	} else if st.Nlink == 0 {
		return unix.ENOENT
	}
	if st.Size == 0 || st.Blocks*512 < size {
		if err := ipc.Reserve(a.object, name, size); err != nil {
			return err
		}
	}
	// MAP_POPULATE: all the pages now, instead of one at each first touch.
	mem, err := unix.Mmap(int(a.object.Fd()), 0, size,
		unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return fmt.Errorf("mmap %s: %w", name, err)
	}
	a.mem = mem
	a.shared = (*shared)(unsafe.Pointer((*[size]byte)(mem)))
	others, err := a.others()
	if err == nil && a.firstOfAll(others) {
		clear(a.Data[:])
		a.Size.Store(size)
		fmt.Fprintln(stdout, "Initialized shared memory segment")
	}
	if err == nil {
		err = a.join()
	}
	a.Count.Store(others + 1)
	return err
}

// firstOfAll tells whether nobody has the object. A count above 0 is then
// what a crash left, unless a C program is there, which locks no byte.
func (a *attachment) firstOfAll(others int32) bool {
	if others > 0 || a.Count.Load() == 0 {
		return others == 0
	}
	if !ipc.Abandoned(a.object) {
		return false
	}
	ipc.Note("%d processes ended without detaching", a.Count.Load())
	return true
}

// correct makes the count in the object that of the kernel.
func (a *attachment) correct(ctx context.Context) error {
	if err := a.enter(ctx); err != nil {
		return err
	}
	defer a.leave()
	others, err := a.others()
	if n := a.Count.Swap(others + 1); err == nil && n != others+1 {
		ipc.Note("process_count was %d, and is %d", n, others+1)
	}
	return err
}

// detach unmaps the object, and removes it if nobody else has it. If the gate
// stays closed for a second, who is in there will put the count right.
func (a *attachment) detach(stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := a.enter(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return a.object.Close()
	} else if err != nil {
		_, closed := a.close()
		return errors.Join(err, closed)
	}
	others, err := a.others()
	a.Count.Store(others)
	err = errors.Join(err, unix.Munmap(a.mem))
	last, closed := a.close()
	if last && closed == nil {
		fmt.Fprintln(stdout, "Cleaned up shared memory")
	}
	return errors.Join(err, closed)
}

// abandon does for detach after a fault: it does not touch the memory. The
// locks belong to the mapping, too: unmapped, it lets go of them at once.
func (a *attachment) abandon() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	unix.Munmap(a.mem)
	if err := a.enter(ctx); err != nil {
		return errors.Join(err, a.object.Close())
	}
	_, err := a.close()
	return err
}

// close removes the object if this was the last who had it, and closes it,
// which opens the gate and unlocks this member's byte. It is for a process
// that is at the gate: of two that looked at once, each would leave it to the
// other.
func (a *attachment) close() (last bool, err error) {
	others, err := a.others()
	last = err == nil && others == 0 && ipc.Abandoned(a.object)
	if last {
		err = ipc.RemoveObject(name)
	}
	return last, errors.Join(err, a.object.Close())
}
