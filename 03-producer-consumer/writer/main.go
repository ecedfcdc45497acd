//go:build linux

// Writer copies its standard input, byte for byte, to the reader next door,
// through a buffer of 1 KiB in shared memory. Two semaphores see to it that
// the one fills the buffer only when the other has emptied it.
//
//	terminal 1$ go run ./03-producer-consumer/writer < /etc/passwd
//	terminal 2$ go run ./03-producer-consumer/reader > /tmp/out.txt
//	terminal 2$ diff /etc/passwd /tmp/out.txt
//
// See shmop(2) and semop(2).
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"

	"example.com/shm-by-example/03-producer-consumer/ipc"
	"example.com/shm-by-example/03-producer-consumer/transfer"
)

var (
	key     = transfer.DefaultKey
	semKey  = transfer.DefaultSemKey
	mode    = ipc.Mode(0o600)
	timeout = flag.Duration("timeout", 0,
		"longest `time` to wait for a reader; 0 is no limit")
)

func main() {
	flag.Var(&key, "key", "`key` of the segment")
	flag.Var(&semKey, "semkey", "`key` of the semaphore set")
	flag.Var(&mode, "mode", "permission `bits` of both, octal")
	ipc.Main(run)
}

func run(ctx context.Context, stdout io.Writer) error {
	// Create the segment and the semaphores, and attach.
	shared, err := transfer.Create(ctx, key, semKey, mode, *timeout)
	if err != nil {
		return err
	}

	// Transfer standard input, then detach and remove everything.
	err = send(ctx, shared)
	if err != nil {
		// The reader learns it from the missing semaphores. The tutorial's
		// does not look; a cnt of 0 ends it.
		shared.Sems.Remove()
		shared.Cnt.Store(0)
	}
	err = errors.Join(err, shared.Detach(), shared.Remove())
	if err == nil {
		fmt.Fprintln(stdout, "Writer: done")
	}
	return err
}

// send passes standard input on, in blocks as large as they come, and then
// waits until the reader has seen the end of it.
func send(ctx context.Context, shared *transfer.Pair) error {
	stdin := bufio.NewReaderSize(
		ipc.Stdin{Ctx: ctx, Idle: shared.Check}, 64<<10)
	for {
		if err := shared.Take(ctx, transfer.Write); err != nil {
			return err
		}
		n, err := stdin.Read(shared.Buf[:])
		failed := err != nil && err != io.EOF
		if failed {
			n = -1
		}
		shared.Cnt.Store(int32(n)) // 0 is the end
		if err := shared.Give(transfer.Read); err != nil {
			return err
		}
		if failed {
			return fmt.Errorf("read: %w", err)
		} else if n == 0 {
			return shared.Take(ctx, transfer.Write)
		}
	}
}
