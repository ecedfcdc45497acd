//go:build linux && (amd64 || arm64 || riscv64)

// 02-posix-shm creates a shared memory object by name, writes a greeting into
// it, waits for Enter, and removes it. In the meantime any process can read
// the greeting: by the same name, or as a file.
//
//	terminal 1$ go run ./02-posix-shm
//	terminal 2$ go run ./02-posix-shm/reader
//	terminal 2$ cat /dev/shm/my_shared_memory
//
// See shm_overview(7), shm_open(3) and mmap(2).
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

	"golang.org/x/sys/unix"

	"example.com/shm-by-example/02-posix-shm/object"
)

const (
	size     = 4096 // bytes of the object: one page
	greeting = "Hello from shared memory!"
)

var name = flag.String("name", "/my_shared_memory", "`name` of the object")

func main() {
	log.SetFlags(0)
	log.SetPrefix("02-posix-shm: ")
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

	// If somebody truncates the object, an access to the mapped memory would
	// kill the program. SetPanicOnFault turns this fault into a panic, and
	// Fault turns the panic into an error. So the deferred calls clean up.
	debug.SetPanicOnFault(true)
	defer object.Fault(*name, &err)

	// Create the object, for this user only. With O_EXCL it is sure to be a
	// new one. Without it, the call would open any object that has the name.
	const flags = unix.O_CREAT | unix.O_EXCL | unix.O_RDWR | object.Careful
	fd, err := unix.Open(path, flags, 0o600)
	for err == unix.EEXIST || err == unix.EINTR {
		// EEXIST: there is one already. If a killed program left it, remove it
		// and try again. EINTR: a signal has interrupted the call. Then there
		// may be nothing to remove, and that is no error.
		if err := object.RemoveLeftover(ctx, *name, size); err != nil {
			return err
		}
		fd, err = unix.Open(path, flags, 0o600)
	}
	if err != nil {
		return fmt.Errorf("shm_open %s: %w"+object.Cure, *name, err)
	}

	// Remove it at the end, and only then close it. As long as it is open
	// here, no other program takes it for a leftover and replaces it.
	defer func() {
		// If somebody else has removed it, another object may have the name by
		// now. That object must stay.
		if !object.HasName(fd) {
			log.Printf("%s: somebody else has removed it", *name)
		} else if e := unix.Unlink(path); e != nil {
			err = errors.Join(err, fmt.Errorf("shm_unlink %s: %w", *name, e))
		}
		unix.Close(fd)
	}()

	// Give it a size, and memory. ftruncate would give it only the size: in a
	// full /dev/shm the first touch would kill the program.
	err = unix.Fallocate(fd, 0, 0, size)
	for err == unix.EINTR { // a signal has interrupted the call: call again
		err = unix.Fallocate(fd, 0, 0, size)
	}
	if err != nil {
		return fmt.Errorf("fallocate %s, %d bytes: %w"+object.Cure, *name,
			size, err)
	}

	// Map it into this process: from now on it is memory like any other.
	mem, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("mmap %s: %w", *name, err)
	}

	// Write to it, with the NUL that ends a string in C.
	copy(mem, greeting+"\x00")
	fmt.Printf("Data written to shared memory: %s\n", greeting)

	// Give others the time to look.
	fmt.Println("Press Enter to continue...")
	if err := object.WaitForEnter(ctx); err != nil {
		return err
	}

	// Unmap it. Then the deferred function removes and closes it.
	if err := unix.Munmap(mem); err != nil {
		return fmt.Errorf("munmap %s: %w", *name, err)
	}
	return nil
}
