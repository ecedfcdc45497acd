//go:build linux

// Consumer prints the messages that the producer next door puts into shared
// memory, and removes the segment after the last.
//
//	terminal 1$ go run ./03-producer-consumer/producer
//	terminal 2$ go run ./03-producer-consumer/consumer
//
// It may start first. If it misses a message it fails, and says which.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"example.com/shm-by-example/03-producer-consumer/ipc"
	"example.com/shm-by-example/03-producer-consumer/message"
)

var (
	key      = message.DefaultKey
	messages = flag.Uint("n", 5, "`number` of messages to receive")
	timeout  = flag.Duration("timeout", 0,
		"longest `time` to wait for a producer; 0 is no limit")
)

func main() {
	flag.Var(&key, "key", "`key` of the segment")
	ipc.Main(run)
}

func run(ctx context.Context, stdout io.Writer) error {
	// Wait for the producer, and attach its segment.
	producer, err := ipc.Join(ctx, key, message.Size, unix.SHM_RDONLY,
		"producer", *timeout, nil)
	if err != nil {
		return err
	}
	shared := message.View(producer.Mem)
	fmt.Fprintln(stdout, "Consumer: Connected to shared memory")
	fmt.Fprintf(stdout, "Shared memory ID: %d\n", producer.Shmid)

	err = consume(ctx, stdout, producer, shared)

	// Detach the segment, and remove it; or leave it to the producer, if that
	// is still at it.
	err = errors.Join(err, ipc.Detach(producer.Mem))
	ds, removed := ipc.Stat(producer.Shmid)
	if err == nil || removed == nil && ds.Nattch == 0 {
		err = errors.Join(err, ipc.Remove(producer.Shmid))
	}
	if err == nil {
		fmt.Fprintln(stdout, "Consumer: Finished and cleaned up")
	}
	return err
}

// consume reads the messages, in order and each of them once.
func consume(ctx context.Context, stdout io.Writer, producer *ipc.Peer,
	shared *message.Shared) error {
	for last := uint(0); last < *messages; {
		lost := producer.Watch(ctx)
		number, text, ok := shared.Get()
		switch n := int64(number); {
		case !ok || n == int64(last): // nothing new
		case n != int64(last)+1:
			return fmt.Errorf("message %d came after message %d: those "+
				"between are missed", n, last)
		default:
			fmt.Fprintf(stdout, "Consumer: Received - Counter: %d, "+
				"Message: %s\n", number, text)
			producer.News()
			last++
		}
		if lost != nil && last < *messages {
			return lost
		}
	}
	return nil
}
