//go:build linux && (amd64 || arm64 || riscv64)

// Reader writes to standard output, byte for byte, what the writer next door
// reads from its standard input. Two semaphores tell them whose turn it is.
//
//	terminal 1$ go run ./03-producer-consumer/writer < /etc/passwd
//	terminal 2$ go run ./03-producer-consumer/reader > /tmp/out.txt
//	terminal 2$ diff /etc/passwd /tmp/out.txt
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"

	"example.com/shm-by-example/03-producer-consumer/segment"
	"example.com/shm-by-example/03-producer-consumer/transfer"
)

var (
	key    = flag.Int("key", transfer.Key, "`key` of the segment, hex 0x1234")
	semKey = flag.Int("semkey", transfer.SemKey, "`key` of the set, hex 0x5678")
)

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
	if err := transfer.CheckKeys(*key, *semKey); err != nil {
		return err
	}
	// Wait until a writer has created the segment.
	writer, err := segment.WaitForPeer(ctx, *key, transfer.Size, "writer")
	if err != nil {
		return fmt.Errorf("shmget key %#x: %w", *key, err)
	}

	// Find it.
	shmid, err := unix.SysvShmGet(*key, transfer.Size, 0)
	if err == unix.ENOENT {
		return run(ctx) // the writer has just ended: wait for the next
	} else if err != nil {
		return fmt.Errorf("shmget key %#x: %w", *key, err)
	}

	// Attach it.
	mem, err := unix.SysvShmAttach(shmid, 0, 0)
	if segment.Removed(err) {
		return run(ctx) // the writer has removed it: wait for the next
	} else if err != nil {
		return fmt.Errorf("shmat segment %d: %w", shmid, err)
	}

	// Find the semaphores. A C writer creates them after it has attached.
	semid, err := transfer.Semget(*semKey, 2, 0)
	for n := 0; n < 200 && err == unix.ENOENT && ctx.Err() == nil; n++ {
		time.Sleep(segment.PollInterval)
		semid, err = transfer.Semget(*semKey, 2, 0)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	} else if segment.Gone(shmid, writer) || !segment.OnlyTwo(shmid) {
		// The writer has ended, perhaps before semget. Or another reader came.
		unix.SysvShmDetach(mem)
		time.Sleep(rand.N(5 * segment.PollInterval))
		return run(ctx)
	} else if err != nil {
		return fmt.Errorf("semget key %#x: %w\n"+
			"give both programs the same -semkey", *semKey, err)
	}

	err = receive(transfer.View(mem), semid, func() error {
		if segment.Gone(shmid, writer) {
			return fmt.Errorf("segment %d: the writer, pid %d, ended before "+
				"it was done", shmid, writer)
		}
		return context.Cause(ctx)
	})

	// Detach it. The writer removes it.
	if e := unix.SysvShmDetach(mem); e != nil {
		err = errors.Join(err, fmt.Errorf("shmdt segment %d: %w", shmid, e))
	}
	return err
}

// receive transfers blocks to standard output, up to the end. While it waits,
// it calls look. An error of look ends the transfer.
func receive(shared *transfer.Shared, semid int, look func() error) error {
	transfer.TwoProcessors() // for speed only: see speed.go
	transfers, bytes := 0, 0
	for {
		// P: wait until we may read.
		err := transfer.Semop(semid, transfer.Read, -1, look)
		if err == nil && transfer.NowAndThen(transfers) { // speed.go
			err = look()
		}
		if err != nil {
			return err
		}

		// Empty the buffer.
		block, err := shared.Block()
		if err == nil {
			_, err = os.Stdout.Write(block)
		}
		if err != nil {
			return err
		}

		// V: the writer may write, or clean up.
		if err := transfer.Semop(semid, transfer.Write, +1, look); err != nil {
			return err
		}
		if len(block) == 0 { // the end
			fmt.Fprintf(os.Stderr, "Reader: %d transfers, %d bytes\n",
				transfers, bytes)
			return nil
		}
		transfers++
		bytes += len(block)
	}
}
