//go:build linux && (amd64 || arm64 || riscv64)

// Writer creates a shared memory segment and writes five blocks of letters
// into it, A to E, one every 3 seconds. The reader next door prints them.
//
//	terminal 1$ go run ./01-shm-write-read/writer
//	terminal 2$ go run ./01-shm-write-read/reader
//
// The two share nothing but the key. See shmget(2), shmop(2) and shmctl(2).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"

	"example.com/shm-by-example/01-shm-write-read/segment"
)

var (
	key = flag.Int("key", segment.Key,
		"`key` of the segment, hex 0x1234")
	blocks   = flag.Uint("n", 5, "`number` of blocks to write")
	interval = flag.Duration("interval", 3*time.Second,
		"`time` from one block to the next")
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("writer: ")
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
	} else if *interval < 0 {
		return fmt.Errorf("-interval %v is negative", *interval)
	}

	// Create the segment, for this user only. With IPC_EXCL it is sure to be
	// a new one. Without it, shmget would open any segment that has the key.
	const create = unix.IPC_CREAT | unix.IPC_EXCL | 0o600
	shmid, err := unix.SysvShmGet(*key, segment.Size, create)
	created := true
	for err == unix.EEXIST {
		// There is one already. If a killed writer left it, remove it, and
		// create a new one. Any other error ends this loop.
		err = segment.RemoveLeftover(ctx, *key)
		if err == nil {
			shmid, err = unix.SysvShmGet(*key, segment.Size, create)
		} else if err == segment.ErrAttached {
			// Open it: perhaps it is empty, and a C reader created it.
			shmid, err = unix.SysvShmGet(*key, segment.Size, 0)
			created = false
		}
	}
	if err != nil {
		return fmt.Errorf("shmget key %#x: %w", *key, err)
	}

	// Attach it, at an address that the kernel chooses. In another process
	// the same bytes have another address.
	mem, err := unix.SysvShmAttach(shmid, 0, 0)
	if err != nil {
		if created {
			unix.SysvShmCtl(shmid, unix.IPC_RMID, nil)
		}
		return fmt.Errorf("shmat segment %d: %w", shmid, err)
	}

	// From now on it is memory like any other. If a C reader created it, two
	// writers may have opened it. Claim lets only one of them go on.
	shared := segment.View(mem)
	if !shared.Claim(ctx, created) {
		unix.SysvShmDetach(mem)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("shmget key %#x: %w", *key, segment.InUse(*key))
	}

	// Transfer blocks of data into it. No system call is needed for that.
	err = write(ctx, shared)

	// Detach it. The kernel also detaches it when a program exits. A program
	// that uses mem after this crashes: nothing is at that address any more.
	if e := unix.SysvShmDetach(mem); e != nil {
		err = errors.Join(err, fmt.Errorf("shmdt segment %d: %w", shmid, e))
	}

	// Remove it. A reader that is attached keeps it until the reader detaches.
	// Without this call the segment would stay until the machine restarts.
	_, e := unix.SysvShmCtl(shmid, unix.IPC_RMID, nil)
	if e != nil && !segment.Removed(e) { // somebody else may remove it first
		err = errors.Join(err,
			fmt.Errorf("shmctl IPC_RMID segment %d: %w", shmid, e))
	}
	if err == nil {
		fmt.Println("Writing Process: Complete")
	}
	return err
}

// write writes the blocks, until a signal ends ctx.
func write(ctx context.Context, shared *segment.Shared) error {
	for i := range *blocks {
		n := shared.Fill(i)
		fmt.Printf("Writing Process: Shared Memory Write: Wrote %d bytes\n", n)
		select {
		case <-ctx.Done():
			shared.Cnt.Store(-1) // tells the readers
			return context.Cause(ctx)
		case <-time.After(*interval):
		}
	}
	fmt.Printf("Writing Process: Wrote %d times\n", *blocks)
	shared.Complete.Store(1)
	return nil
}
