//go:build linux

// Reader attaches the shared memory segment of the writer next door and
// prints every block that appears in it, until the writer says that it has
// completed.
//
//	terminal 1$ go run ./01-shm-write-read/writer
//	terminal 2$ go run ./01-shm-write-read/reader
//
// It may start first, or late, or several times. See shmget(2), shmop(2).
package main

import (
	"context"
	"flag"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"example.com/shm-by-example/01-shm-write-read/ipc"
	"example.com/shm-by-example/01-shm-write-read/segment"
)

var (
	key     = segment.DefaultKey
	timeout = flag.Duration("timeout", 0,
		"longest `time` to wait for a writer; 0 is no limit")
)

func main() {
	flag.Var(&key, "key", "`key` of the segment")
	ipc.Main(run)
}

func run(ctx context.Context, stdout io.Writer) error {
	// Find the segment of the writer (shmget) and attach it (shmat). The
	// writer creates it; a reader that did so would leave one behind.
	writer, err := ipc.Join(ctx, key, segment.Size, unix.SHM_RDONLY,
		"writer", *timeout, nil)
	if err != nil {
		return err
	}
	shared := segment.View(writer.Mem)

	// Transfer blocks of data from shared memory to standard output. Looking
	// at complete before the block makes sure that the last one is seen.
	last := ""
	for done := false; !done; {
		lost := writer.Watch(ctx)
		done = shared.Complete.Load() == 1
		block, err := shared.Block()
		if err != nil {
			return err
		}
		if block != "" && block != last {
			if n := segment.Missed(last, block); n > 0 {
				ipc.Note("missed %d block(s) before this one", n)
			}
			fmt.Fprintf(stdout, "segment contains : \n\"%s\"\n", block)
			fmt.Fprintf(stdout, "Reading Process: Shared Memory: "+
				"Read %d bytes\n", len(block))
			last = block
			writer.News()
		}
		if lost != nil && !done {
			return lost
		}
	}
	fmt.Fprintln(stdout, "Reading Process: Reading Done, "+
		"Detaching Shared Memory")

	// Detach the segment (shmdt). It lives on until everybody has.
	if err := ipc.Detach(writer.Mem); err != nil {
		return err
	}
	fmt.Fprintln(stdout, "Reading Process: Complete")
	return nil
}
