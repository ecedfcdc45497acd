//go:build linux

// Reader writes to standard output, byte for byte, what the writer next door
// reads from its standard input. See ../writer for how they take turns.
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
	"io"
	"os"

	"example.com/shm-by-example/03-producer-consumer/ipc"
	"example.com/shm-by-example/03-producer-consumer/transfer"
)

var (
	key     = transfer.DefaultKey
	semKey  = transfer.DefaultSemKey
	timeout = flag.Duration("timeout", 0,
		"longest `time` to wait for a writer; 0 is no limit")
)

func main() {
	flag.Var(&key, "key", "`key` of the segment")
	flag.Var(&semKey, "semkey", "`key` of the semaphore set")
	ipc.Main(run)
}

func run(ctx context.Context, stdout io.Writer) error {
	// Wait for the writer, then attach its segment and find its semaphores.
	shared, err := transfer.Open(ctx, key, semKey, *timeout)
	if err != nil {
		return err
	}
	defer shared.Detach()

	transfers, bytes := 0, 0
	for {
		// Wait for data. cnt is the writer's word: check it.
		if err := shared.Take(ctx, transfer.Read); err != nil {
			return err
		}
		cnt := shared.Cnt.Load()
		if cnt == 0 {
			break // the end
		} else if cnt == -1 {
			return errors.New("the writer stopped before the end (cnt is -1)")
		} else if cnt < -1 || cnt > transfer.BufSize {
			return fmt.Errorf("cnt is %d, not 0 to %d", cnt, transfer.BufSize)
		}
		if _, err := stdout.Write(shared.Buf[:cnt]); err != nil {
			return err
		}
		transfers++
		bytes += int(cnt)

		// Give the writer the next turn.
		if err := shared.Give(transfer.Write); err != nil {
			return err
		}
	}

	// Let the writer clean up.
	if err := shared.Give(transfer.Write); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "Reader: %d transfers, %d bytes\n",
		transfers, bytes)
	return nil
}
