//go:build linux && (amd64 || arm64 || riscv64)

// Consumer prints the messages that the producer next door puts into shared
// memory, and removes the segment after the last.
//
//	terminal 1$ go run ./03-producer-consumer/producer
//	terminal 2$ go run ./03-producer-consumer/consumer
//
// The consumer may start first. If it misses a message, it fails and says
// which. See shmget(2), shmop(2) and shmctl(2).
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

	"example.com/shm-by-example/03-producer-consumer/message"
	"example.com/shm-by-example/03-producer-consumer/segment"
)

var (
	key = flag.Int("key", message.Key,
		"`key` of the segment, hex 0x3039")
	messages = flag.Uint("n", 5,
		"`number` of messages to receive, as many as are sent")
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("consumer: ")
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
	if err := segment.CheckKey("-key", *key); err != nil {
		return err
	} else if *messages > message.Most {
		return fmt.Errorf("-n %d is out of range: 0 to %d", *messages,
			message.Most)
	}

	// Wait until a producer has created the segment.
	producer, err := segment.WaitForPeer(ctx, *key, message.Size, "producer")
	if err != nil {
		return fmt.Errorf("shmget key %#x: %w", *key, err)
	}

	// Find it.
	shmid, err := unix.SysvShmGet(*key, message.Size, 0)
	if err == unix.ENOENT {
		return run(ctx) // the producer has just ended: wait for the next
	} else if err != nil {
		return fmt.Errorf("shmget key %#x: %w", *key, err)
	}

	// Attach it, for reading only.
	mem, err := unix.SysvShmAttach(shmid, 0, unix.SHM_RDONLY)
	if segment.Removed(err) {
		return run(ctx) // the producer has removed it: wait for the next
	} else if err != nil {
		return fmt.Errorf("shmat segment %d: %w", shmid, err)
	}
	if !segment.OnlyTwo(shmid) {
		// Another consumer came at the same moment. Both step back.
		unix.SysvShmDetach(mem)
		time.Sleep(rand.N(5 * segment.PollInterval))
		return run(ctx)
	}
	fmt.Println("Consumer: Connected to shared memory")
	fmt.Printf("Shared memory ID: %d\n", shmid)

	err = consume(ctx, message.View(mem), shmid, producer)

	// Detach it.
	gone := segment.Gone(shmid, producer)
	if e := unix.SysvShmDetach(mem); e != nil {
		err = errors.Join(err, fmt.Errorf("shmdt segment %d: %w", shmid, e))
	}

	// Remove it. After an error the producer does that, if it still runs.
	if err == nil || gone {
		_, e := unix.SysvShmCtl(shmid, unix.IPC_RMID, nil)
		if e != nil && !segment.Removed(e) { // the producer may be faster
			e = fmt.Errorf("shmctl IPC_RMID segment %d: %w", shmid, e)
			err = errors.Join(err, e)
		}
	}
	if err == nil {
		fmt.Println("Consumer: Finished and cleaned up")
	}
	return err
}

// consume reads the messages, in order and each of them once.
func consume(ctx context.Context, shared *message.Shared, shmid int,
	producer int32) error {
	for last := int64(0); last < int64(*messages); {
		// The order counts. The message is read last, so the consumer misses
		// none that was sent before the producer ended.
		gone := segment.Gone(shmid, producer)
		number, text, ok := shared.Get()
		switch n := int64(number); {
		case ok && n == last+1:
			fmt.Printf("Consumer: Received - Counter: %d, Message: %s\n",
				number, text)
			last++
		case ok && (n != last || n == 0): // the first message is 1
			return fmt.Errorf("message %d came after message %d: those "+
				"between are missed", n, last)
		case gone:
			return fmt.Errorf("segment %d: the producer, pid %d, ended before "+
				"it was done", shmid, producer)
		default:
			if err := segment.Pause(ctx, segment.PollInterval); err != nil {
				return err
			}
		}
	}
	return nil
}
