//go:build linux

// Producer puts five numbered messages into shared memory, one every two
// seconds, and sets a flag when each is ready to be read.
//
//	terminal 1$ go run ./03-producer-consumer/producer
//	terminal 2$ go run ./03-producer-consumer/consumer
//
// A flag is not enough: it does not wait for the consumer. The writer next
// door has two semaphores instead. See shmget(2) and shmop(2).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"example.com/shm-by-example/03-producer-consumer/ipc"
	"example.com/shm-by-example/03-producer-consumer/message"
)

var (
	key      = message.DefaultKey
	mode     = ipc.Mode(0o600)
	messages = flag.Uint("n", 5, "`number` of messages to send")
	interval = flag.Duration("interval", 2*time.Second,
		"`time` from one message to the next")
)

func main() {
	flag.Var(&key, "key", "`key` of the segment")
	flag.Var(&mode, "mode", "permission `bits` of the segment, octal")
	ipc.Main(run)
}

func run(ctx context.Context, stdout io.Writer) error {
	// Create and attach the segment, and put something into it.
	shmid, mem, err := ipc.Create(ctx, key, message.Size, mode, nil)
	if err != nil {
		return err
	}
	shared := message.View(mem)
	shared.Put(0, "Initial message")
	fmt.Fprintln(stdout, "Producer: Shared memory initialized")
	fmt.Fprintf(stdout, "Shared memory ID: %d\n", shmid)

	err = produce(ctx, stdout, shmid, shared)

	// The consumer removes the segment; the producer does if there is no
	// consumer attached, or if the messages are not complete.
	err = errors.Join(err, ipc.Detach(mem))
	ds, removed := ipc.Stat(shmid)
	if err != nil || removed == nil && ds.Nattch == 0 {
		err = errors.Join(err, ipc.Remove(shmid))
	}
	if err == nil {
		fmt.Fprintln(stdout, "Producer: Finished")
	}
	return err
}

// produce sends the messages. Only after the last may the segment be gone.
func produce(ctx context.Context, stdout io.Writer, shmid int,
	shared *message.Shared) error {
	for i := range *messages {
		if _, err := ipc.Stat(shmid); err != nil {
			return err
		}
		shared.Put(int32(i+1),
			fmt.Sprintf("Message number %d from producer", i+1))
		shared.Ready.Store(1)
		fmt.Fprintf(stdout, "Producer: Sent message %d\n", i+1)
		if err := ipc.Pause(ctx, *interval); err != nil {
			return err
		}
		shared.Ready.Store(0) // for the next message
	}
	return nil
}
