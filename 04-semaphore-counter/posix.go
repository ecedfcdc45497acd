//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// semT is glibc's sem_t on 64-bit little-endian machines, 32 bytes. One uint64
// holds two numbers, so that one instruction can read or change both:
//
//	offset      0                4
//	state     | value: 0 or 1  | how many wait |
//	bits        0 to 31          32 to 63
//
// Adding 1 to state adds 1 to the value. Adding 1<<32 adds one waiter.
type semT struct {
	state   atomic.Uint64
	private uint32 // offset 8: 128 if processes share it
	_       [20]byte
}

const (
	semSize = 32
	waiter  = 1 << 32 // in state, one process that waits
)

// posix is a POSIX named semaphore: a file in /dev/shm that every process maps.
// See sem_overview(7).
type posix struct {
	*table
	*semT
	file *os.File
}

// openPOSIX opens the semaphore, or creates it, as sem_open(3) does.
func openPOSIX(ctx context.Context, t *table) (mechanism, error) {
	f, err := openSemaphore()
	for errors.Is(err, unix.ENOENT) && ctx.Err() == nil {
		f, err = createSemaphore()
		if errors.Is(err, unix.EEXIST) { // another process was faster
			f, err = openSemaphore()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("sem_open %s: %w", *name, err)
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, semSize,
		unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mmap %s: %w", *name, err)
	}
	debug.SetPanicOnFault(true) // for truncated
	return &posix{t, (*semT)(unsafe.Pointer(&mem[0])), f}, nil
}

func semFile() string { return "/dev/shm/sem." + (*name)[1:] }

// openSemaphore opens the file. It refuses a file that is no semaphore, or
// that belongs to another user.
func openSemaphore() (*os.File, error) {
	var st unix.Stat_t
	err := unix.Lstat(semFile(), &st)
	switch {
	case err != nil:
		return nil, err
	case int(st.Uid) != os.Geteuid():
		return nil, fmt.Errorf("%v: it is another user's\n"+
			"choose another name with -name", unix.EPERM)
	case st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size != semSize:
		return nil, fmt.Errorf("%s is no semaphore\nremove it, or choose "+
			"another name with -name", semFile())
	case st.Mode&0o600 != 0o600: // it was created under umask 777, say
		unix.Chmod(semFile(), 0o600)
	}
	return os.OpenFile(semFile(), os.O_RDWR|unix.O_NOFOLLOW, 0)
}

// createSemaphore creates the file without a name. The file gets its name when
// it is complete, so no process ever sees half a semaphore. See O_TMPFILE in
// open(2).
func createSemaphore() (*os.File, error) {
	f, err := os.OpenFile("/dev/shm", os.O_RDWR|unix.O_TMPFILE, 0o600)
	if err != nil {
		return nil, err
	}
	sem := semT{private: 128}
	sem.state.Store(1) // unlocked
	_, err = f.Write((*[semSize]byte)(unsafe.Pointer(&sem))[:])
	if err == nil {
		err = os.NewSyscallError("linkat", unix.Linkat(unix.AT_FDCWD,
			fmt.Sprintf("/proc/self/fd/%d", f.Fd()),
			unix.AT_FDCWD, semFile(), unix.AT_SYMLINK_FOLLOW))
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// lock is sem_wait(3): it takes the 1, or waits for it. A semaphore does not
// say which process has taken it.
func (p *posix) lock(ctx context.Context) (err error) {
	defer truncated(&err)
	return inSlices(ctx, p.tryLock, func() string {
		return *name + "\nif its holder was killed, nobody will unlock it: " +
			"remove it with the same flags and -rm"
	})
}

func (p *posix) tryLock() error {
	var st unix.Stat_t
	if err := unix.Fstat(int(p.file.Fd()), &st); err != nil {
		return fmt.Errorf("fstat %s: %w", *name, err)
	} else if st.Nlink == 0 {
		return fmt.Errorf("sem_wait %s: %w: somebody removed it", *name,
			unix.EIDRM)
	}
	state := p.state.Load()
	switch value := uint32(state); {
	case value > 1:
		return fmt.Errorf("%s lets %d processes in at once"+cure, *name, value)
	case value == 1:
		if p.state.CompareAndSwap(state, state-1) {
			return nil
		}
	default:
		// unlock wakes a process only if it sees a waiter. The kernel looks at
		// the value once more before it lets this process sleep.
		p.state.Add(waiter)
		p.futex(0, 0)                    // FUTEX_WAIT, as long as it is 0
		p.state.Add(^uint64(waiter - 1)) // subtracts waiter: see Uint64.Add
	}
	return unix.EAGAIN
}

// unlock is sem_post(3): it adds 1, and wakes one process that waits.
func (p *posix) unlock() (err error) {
	defer truncated(&err)
	if p.state.Add(1) >= waiter {
		p.futex(1, 1) // FUTEX_WAKE, one
	}
	return nil
}

// futex sleeps on the value of the semaphore, which is the first half of state,
// or wakes processes that sleep there. Several processes share the semaphore,
// so the operation has no FUTEX_PRIVATE_FLAG. See futex(2).
func (p *posix) futex(operation, value int) {
	limit := unix.NsecToTimespec(int64(slice))
	unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&p.state)),
		uintptr(operation), uintptr(value), uintptr(unsafe.Pointer(&limit)),
		0, 0)
}

// truncated turns a fault into an error. If somebody has truncated the file,
// the next access to the mapped memory is a fault. A C program dies of SIGBUS.
func truncated(err *error) {
	fault := recover()
	if _, ok := fault.(interface{ Addr() uintptr }); ok {
		*err = fmt.Errorf("somebody has truncated %s", semFile())
	} else if fault != nil {
		panic(fault)
	}
}

func removePOSIX() error {
	_, err := openSemaphore()
	if err == nil {
		err = unix.Unlink(semFile())
	}
	return removal("semaphore "+*name, err)
}
