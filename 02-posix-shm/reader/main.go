//go:build linux && (amd64 || arm64 || riscv64)

// Reader prints the greeting that the program in the directory above has
// written into a shared memory object.
//
//	terminal 1$ go run ./02-posix-shm
//	terminal 2$ go run ./02-posix-shm/reader
//
// It maps the object for reading only: the kernel would not let it write.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"example.com/shm-by-example/02-posix-shm/object"
)

const size = 4096 // bytes of the object

var name = flag.String("name", "/my_shared_memory", "`name` of the object")

func main() {
	log.SetFlags(0)
	log.SetPrefix("reader: ")
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

	// Wait until there is an object, and the program that created it runs.
	if err := object.Wait(ctx, *name, size); err != nil {
		return err
	}

	// Open it by its name.
	fd, err := unix.Open(path, unix.O_RDONLY|object.Careful, 0)
	err = object.Check(fd, err, *name, size)
	if err == unix.ENOENT || err == unix.EAGAIN {
		return run(ctx) // that program has just ended: wait for the next
	} else if err != nil {
		return err
	}
	defer unix.Close(fd)

	// Map it, for reading only. Once mapped it stays, even if it is closed
	// and its name removed.
	mem, err := unix.Mmap(fd, 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("mmap %s: %w", *name, err)
	}

	// It is full of zeros until the text is written. The order counts: first
	// ask whether another process has it, then look. So no text is missed.
	text := ""
	for {
		alone := object.Lease(fd, *name) == nil
		object.GiveBack(fd) // does nothing if there is no lease
		line, _, _ := bytes.Cut(bytes.Clone(mem), []byte{0})
		if text = string(line); text != "" {
			break
		} else if alone {
			return fmt.Errorf("%s: its creator ended without a word", *name)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
		}
	}
	fmt.Printf("Data read from shared memory: %s\n", text)

	// Unmap it.
	if err := unix.Munmap(mem); err != nil {
		return fmt.Errorf("munmap %s: %w", *name, err)
	}
	return nil
}
