//go:build linux

// Writer creates a shared memory segment and writes blocks of letters into
// it, A to E, one every 3 seconds, for the reader next door to print.
//
//	terminal 1$ go run ./01-shm-write-read/writer
//	terminal 2$ go run ./01-shm-write-read/reader
//
// The two processes share nothing but the key. See shmget(2), shmop(2) and
// shmctl(2).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"example.com/shm-by-example/01-shm-write-read/ipc"
	"example.com/shm-by-example/01-shm-write-read/segment"
)

var (
	key      = segment.DefaultKey
	mode     = ipc.Mode(0o600) // for the owner only; no umask applies
	blocks   = flag.Uint("n", 5, "`number` of blocks to write")
	interval = flag.Duration("interval", 3*time.Second,
		"`time` from one block to the next")
)

func main() {
	flag.Var(&key, "key", "`key` of the segment")
	flag.Var(&mode, "mode", "permission `bits` of the segment, octal")
	ipc.Main(run)
}

func run(ctx context.Context, stdout io.Writer) error {
	// Create the segment (shmget) and attach it wherever the kernel likes
	// (shmat). From now on it is memory like any other.
	shmid, mem, err := segment.CreateOrAdopt(ctx, key, mode)
	if err != nil {
		return err
	}
	shared := segment.View(mem)

	// Transfer blocks of data into shared memory.
	err = write(ctx, stdout, shmid, shared)
	if err == nil {
		fmt.Fprintf(stdout, "Writing Process: Wrote %d times\n", *blocks)
		shared.Complete.Store(1)
	} else {
		shared.Cnt.Store(-1) // tells the readers
	}

	// Detach the segment (shmdt) and remove it (shmctl). The readers keep it
	// until they detach too; then the kernel frees it.
	err = errors.Join(err, ipc.Detach(mem), ipc.Remove(shmid))
	if err == nil {
		fmt.Fprintln(stdout, "Writing Process: Complete")
	}
	return err
}

// write writes the blocks. It returns early when a signal or a closed
// standard output has ended ctx, or somebody has removed the segment.
func write(ctx context.Context, stdout io.Writer, shmid int,
	shared *segment.Shared) error {
	for i := range *blocks {
		n := shared.Fill(segment.Letter(i))
		fmt.Fprintf(stdout, "Writing Process: Shared Memory Write: "+
			"Wrote %d bytes\n", n)
		if err := ipc.Pause(ctx, *interval); err != nil {
			return err
		}
		if _, err := ipc.Stat(shmid); err != nil {
			return err
		}
	}
	return nil
}
