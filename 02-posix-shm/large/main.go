//go:build linux

// Large shares a megabyte with as many processes as are started: the first
// initialises it, each says how many there are, the last removes it.
//
//	terminal 1$ go run ./02-posix-shm/large
//	terminal 2$ go run ./02-posix-shm/large
//
// Some of them may be killed in between. See mmap(2) and fcntl(2).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"
	"unsafe"

	"example.com/shm-by-example/02-posix-shm/ipc"
)

var (
	name = ipc.Name("/large_shared_memory")
	mode = ipc.Mode(0o600)
)

func main() {
	flag.Var(&name, "name", "`name` of the object")
	flag.Var(&mode, "mode", "permission `bits` of the object, octal")
	ipc.Main(run)
}

func run(ctx context.Context, stdout io.Writer) error {
	// Create or open the object, and map it. Nobody comes or goes between
	// this and leave.
	object, err := attach(ctx, stdout)
	if err != nil {
		return err
	}
	err = ipc.Guard(func() error {
		fmt.Fprintf(stdout, "Process %d attached. Total processes: %d\n",
			os.Getpid(), object.Count.Load())

		// Write some data.
		address := unsafe.Pointer(object.shared)
		data := fmt.Sprintf("Data from process %d at address %p",
			os.Getpid(), address)
		copy(object.Data[:], data+"\x00")
		fmt.Fprintf(stdout, "Memory segment size: %d bytes\n",
			object.Size.Load())
		fmt.Fprintf(stdout, "Virtual address: %p\n", address)
		fmt.Fprintf(stdout, "Data: %s\n", data)
		object.leave()

		// Keep it mapped until Enter, and the count right meanwhile.
		fmt.Fprintln(stdout, "Press Enter to detach...")
		err := waitForEnter(ctx, object)
		return errors.Join(err, object.detach(stdout))
	})
	if errors.Is(err, ipc.ErrTruncated) {
		err = errors.Join(err, object.abandon())
	}
	return err
}

// waitForEnter waits for Enter, or the end of input, or the end of ctx.
func waitForEnter(ctx context.Context, object *attachment) error {
	enter := make(chan error, 1)
	go func() {
		_, err := io.ReadFull(ipc.Stdin{Ctx: ctx}, make([]byte, 1))
		enter <- err
	}()
	for {
		select {
		case err := <-enter:
			if err == io.EOF {
				err = nil
			}
			return err
		case <-time.After(200 * time.Millisecond):
			if err := object.correct(ctx); err != nil {
				return err
			}
		}
	}
}
