//go:build linux && (amd64 || arm64 || riscv64)

// Reader attaches the shared memory segment of the writer next door. It
// prints each block that it finds there, until the writer has stored the last.
//
//	terminal 1$ go run ./01-shm-write-read/writer
//	terminal 2$ go run ./01-shm-write-read/reader
//
// The reader may start before the writer or after it, and several readers may
// run. See shmget(2) and shmop(2).
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"

	"example.com/shm-by-example/01-shm-write-read/segment"
)

var key = flag.Int("key", segment.Key, "`key` of the segment, hex 0x1234")

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

func run(ctx context.Context) error {
	if *key < 1 || *key > 0xffffffff {
		return fmt.Errorf("-key %d is out of range: 1 to 0xffffffff", *key)
	}

	// Wait until a writer has created the segment. A reader that created one
	// itself would leave it behind if no writer came.
	writer, err := segment.WaitForWriter(ctx, *key)
	if err != nil {
		return fmt.Errorf("shmget key %#x: %w", *key, err)
	}

	// Find it.
	shmid, err := unix.SysvShmGet(*key, segment.Size, 0)
	if err == unix.ENOENT {
		return run(ctx) // the writer has just ended: begin again
	} else if err != nil {
		return fmt.Errorf("shmget key %#x: %w", *key, err)
	}

	// Attach it, for reading only, at an address that the kernel chooses.
	mem, err := unix.SysvShmAttach(shmid, 0, unix.SHM_RDONLY)
	if segment.Removed(err) {
		return run(ctx) // the writer has just removed it: begin again
	} else if err != nil {
		return fmt.Errorf("shmat segment %d: %w", shmid, err)
	}

	// Transfer blocks of data from shared memory to standard output, as long
	// as the writer runs.
	err = transfer(ctx, segment.View(mem), shmid, writer)
	if err != nil {
		return err
	}
	fmt.Println("Reading Process: Reading Done, Detaching Shared Memory")

	// Detach it. The kernel frees it after the last detach, if the writer has
	// removed it.
	if err := unix.SysvShmDetach(mem); err != nil {
		return fmt.Errorf("shmdt segment %d: %w", shmid, err)
	}
	fmt.Println("Reading Process: Complete")
	return nil
}

// transfer prints each block, until complete is 1. It fails if the writer ends
// before that.
func transfer(ctx context.Context, shared *segment.Shared, shmid int,
	writer int32) error {
	last := byte(0) // the letter of the last block
	mixed := 0      // looks in a row that found no whole block
	for {
		// The order counts. The block is read last, so the reader misses none
		// that the writer wrote before it ended, or before it set complete.
		gone := segment.Gone(shmid, writer)
		complete := shared.Complete.Load() == 1
		text, whole, err := shared.Block()
		switch {
		case err != nil:
			return err
		case text == "":
		case !whole: // after a second of that, or at the end, say it once
			mixed++
			if mixed == 100 || (complete && mixed < 100) {
				log.Printf("no block of one character: the segment holds "+
					"%.20q", text)
			}
		case text[0] != last:
			if n := segment.Missed(last, text[0]); n > 0 {
				log.Printf("missed %d block(s) before this one", n)
			}
			fmt.Printf("segment contains : \n\"%s\"\n", text)
			fmt.Printf("Reading Process: Shared Memory: Read %d bytes\n",
				len(text))
			last, mixed = text[0], 0
		}
		if complete {
			return nil
		} else if gone {
			return fmt.Errorf("segment %d: the writer, pid %d, ended before "+
				"it was done", shmid, writer)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(segment.PollInterval):
		}
	}
}
