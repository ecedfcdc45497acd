//go:build linux && (amd64 || arm64 || riscv64)

// Large shares a megabyte among all processes that run it. The first process
// initialises it, each prints how many there are, and the last removes it.
//
//	terminal 1$ go run ./02-posix-shm/large
//	terminal 2$ go run ./02-posix-shm/large
//
// Some of them may be killed. See mmap(2), flock(2) and fcntl(2).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"runtime/debug"
	"unsafe"

	"golang.org/x/sys/unix"

	"example.com/shm-by-example/02-posix-shm/object"
)

var name = flag.String("name", "/large_shared_memory", "`name` of the object")

func main() {
	log.SetFlags(0)
	log.SetPrefix("large: ")
	flag.Parse()
	if flag.NArg() > 0 { // a stray argument
		flag.Usage()
		os.Exit(2)
	}
	// A signal does not kill the program. It ends ctx, and run returns.
	ctx, stop := signal.NotifyContext(context.Background(),
		unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGPIPE)
	defer stop()
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) (err error) {
	path, err := object.Path(*name)
	if err != nil {
		return err
	}
	debug.SetPanicOnFault(true)
	defer object.Fault(*name, &err)

	// Create the object, or open it if there is one. Then lock it: as long as
	// one process has the lock, no other comes or goes.
	const flags = unix.O_CREAT | unix.O_RDWR | object.Careful
	fd := -1
	for err = unix.EAGAIN; err == unix.EAGAIN; { // not now: open it again
		fd, err = unix.Open(path, flags, 0o600)
		if err = object.Check(fd, err, *name, size); err == nil {
			err = lock(fd)
		}
		err = pause(ctx, err)
	}
	if err == unix.ENOENT { // there is no /dev/shm
		return fmt.Errorf("shm_open %s: %w"+object.Cure, *name, err)
	} else if err != nil {
		return err
	}

	// At the end, even after an error, remove it if no other process has it.
	// Ask the kernel: process_count is too high once a process was killed.
	defer func() {
		last, e := isLast(fd)
		if last {
			if e = unix.Unlink(path); e == nil {
				fmt.Println("Cleaned up shared memory")
			} else {
				e = fmt.Errorf("shm_unlink %s: %w", *name, e)
			}
		}
		err = errors.Join(err, e)
		unix.Close(fd) // unlocks it, too
	}()

	// Give it a size, and memory. It may have the size, but no memory yet. Then
	// in a full /dev/shm the first access would kill the program.
	err = unix.Fallocate(fd, 0, 0, size)
	for err == unix.EINTR { // a signal has interrupted the call: call again
		err = unix.Fallocate(fd, 0, 0, size)
	}
	if err != nil {
		return fmt.Errorf("fallocate %s, %d bytes: %w"+object.Cure, *name,
			size, err)
	}

	// Map it. MAP_POPULATE: all the pages now, not one at each first access.
	mem, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return fmt.Errorf("mmap %s: %w", *name, err)
	}

	// Unmap it after an error or a fault, too. As long as it is mapped here, no
	// process is the last. Deferred calls run last to first, so this runs
	// before the removal. After the Munmap below it does nothing.
	defer unix.Munmap(mem)

	// Initialise it if this is the first process.
	shared := (*layout)(unsafe.Pointer((*[size]byte)(mem)))
	first, err := isFirst(shared, fd)
	if err != nil {
		return err
	} else if first {
		shared.Size.Store(size)
		shared.Count.Store(0)
		clear(shared.Data[:])
		fmt.Println("Initialized shared memory segment")
	}
	fmt.Printf("Process %d attached. Total processes: %d\n", os.Getpid(),
		shared.Count.Add(1))

	// Write some data. After that others may come and go.
	data := fmt.Sprintf("Data from process %d at address %p", os.Getpid(),
		shared)
	copy(shared.Data[:], data+"\x00")
	fmt.Printf("Memory segment size: %d bytes\n", shared.Size.Load())
	fmt.Printf("Virtual address: %p\n", shared)
	fmt.Printf("Data: %s\n", data)
	unix.Flock(fd, unix.LOCK_UN)

	// Keep it mapped until Enter.
	fmt.Println("Press Enter to detach...")
	err = object.WaitForEnter(ctx)

	// Unmap it. The tutorial looks at the count after that, and crashes.
	shared.Count.Add(-1)
	if e := unix.Munmap(mem); e != nil {
		err = errors.Join(err, fmt.Errorf("munmap %s: %w", *name, e))
	}
	return err
}
