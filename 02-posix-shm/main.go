//go:build linux

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
	"io"

	"golang.org/x/sys/unix"

	"example.com/shm-by-example/02-posix-shm/ipc"
)

const (
	size     = 4096 // bytes of the object: one page
	greeting = "Hello from shared memory!"
)

var (
	name = ipc.Name("/my_shared_memory")
	mode = ipc.Mode(0o600)
)

func main() {
	flag.Var(&name, "name", "`name` of the object")
	flag.Var(&mode, "mode", "permission `bits` of the object, octal")
	ipc.Main(run)
}

func run(ctx context.Context, stdout io.Writer) (err error) {
	// Create the object, and give it its size.
	object, err := ipc.CreateObject(ctx, name, size, mode)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, ipc.RemoveObject(name), object.Close())
	}()

	// Map it into this process: from now on it is memory like any other.
	mem, err := unix.Mmap(int(object.Fd()), 0, size,
		unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("mmap %s: %w", name, err)
	}

	// Write to it, with the NUL that ends a string in C.
	err = ipc.Guard(func() error {
		copy(mem, greeting+"\x00")
		return nil
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "Data written to shared memory: %s\n", greeting)

	// Give others the time to look. The end of input counts as Enter.
	fmt.Fprintln(stdout, "Press Enter to continue...")
	_, err = io.ReadFull(ipc.Stdin{Ctx: ctx}, make([]byte, 1))
	if err != nil && err != io.EOF {
		return err
	}
	return unix.Munmap(mem)
}
