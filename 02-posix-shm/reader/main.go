//go:build linux

// Reader prints the greeting that the program in the directory above has put
// into a shared memory object.
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
	"io"

	"golang.org/x/sys/unix"

	"example.com/shm-by-example/02-posix-shm/ipc"
)

const size = 4096 // bytes of the object

var (
	name    = ipc.Name("/my_shared_memory")
	timeout = flag.Duration("timeout", 0,
		"longest `time` to wait for the object; 0 is no limit")
)

func main() {
	flag.Var(&name, "name", "`name` of the object")
	ipc.Main(run)
}

func run(ctx context.Context, stdout io.Writer) error {
	// Open the object by its name, and map it. Once mapped it stays, even if
	// the descriptor is closed and the name removed.
	object, err := ipc.OpenObject(ctx, name, size, unix.O_RDONLY, *timeout)
	if err != nil {
		return err
	}
	defer object.Close()
	mem, err := unix.Mmap(int(object.Fd()), 0, size, unix.PROT_READ,
		unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("mmap %s: %w", name, err)
	}

	// The object is full of zeros until the text is written to it.
	text := ""
	for text == "" {
		alone := ipc.Unused(object)
		err := ipc.Guard(func() error {
			line, _, _ := bytes.Cut(bytes.Clone(mem), []byte{0})
			text = string(line)
			return nil
		})
		if err == nil && text == "" && alone {
			err = fmt.Errorf("%s: who made it ended without a word", name)
		}
		if err == nil && text == "" {
			err = ipc.Pause(ctx, ipc.Tick)
		}
		if err != nil {
			return err
		}
	}
	fmt.Fprintf(stdout, "Data read from shared memory: %s\n", text)
	return unix.Munmap(mem)
}
