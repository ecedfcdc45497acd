//go:build linux && (amd64 || arm64 || riscv64)

// Producer puts five numbered messages into shared memory, one every two
// seconds, and sets a flag when each is ready to be read.
//
//	terminal 1$ go run ./03-producer-consumer/producer
//	terminal 2$ go run ./03-producer-consumer/consumer
//
// A flag is not enough: the producer does not wait for the consumer. The
// writer next door uses two semaphores. See shmget(2), shmop(2) and shmctl(2).
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

	"example.com/shm-by-example/03-producer-consumer/message"
	"example.com/shm-by-example/03-producer-consumer/segment"
)

var (
	key = flag.Int("key", message.Key,
		"`key` of the segment, hex 0x3039")
	messages = flag.Uint("n", 5, "`number` of messages to send")
	interval = flag.Duration("interval", 2*time.Second,
		"`time` from one message to the next")
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("producer: ")
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
	} else if *interval < 0 {
		return fmt.Errorf("-interval %v is negative", *interval)
	}

	// Create the segment, for this user only. With IPC_EXCL it is sure to be
	// a new one.
	const create = unix.IPC_CREAT | unix.IPC_EXCL | 0o600
	shmid, err := unix.SysvShmGet(*key, message.Size, create)
	for err == unix.EEXIST {
		// There is one already. If a killed producer left it, remove it.
		err = segment.RemoveLeftover(ctx, *key, message.Size)
		if err == nil {
			shmid, err = unix.SysvShmGet(*key, message.Size, create)
		}
	}
	if err != nil {
		return fmt.Errorf("shmget key %#x: %w", *key, err)
	}

	// Attach it, at an address that the kernel chooses.
	mem, err := unix.SysvShmAttach(shmid, 0, 0)
	if err != nil {
		unix.SysvShmCtl(shmid, unix.IPC_RMID, nil)
		return fmt.Errorf("shmat segment %d: %w", shmid, err)
	}
	shared := message.View(mem)
	shared.Put(0, "Initial message")
	fmt.Println("Producer: Shared memory initialized")
	fmt.Printf("Shared memory ID: %d\n", shmid)

	err = produce(ctx, shared)

	// Detach it.
	if e := unix.SysvShmDetach(mem); e != nil {
		err = errors.Join(err, fmt.Errorf("shmdt segment %d: %w", shmid, e))
	}

	// Remove it: perhaps no consumer came. A consumer that is attached can
	// still use it. Or the consumer has removed it already.
	_, e := unix.SysvShmCtl(shmid, unix.IPC_RMID, nil)
	if e != nil && !segment.Removed(e) {
		err = errors.Join(err,
			fmt.Errorf("shmctl IPC_RMID segment %d: %w", shmid, e))
	}
	if err == nil {
		fmt.Println("Producer: Finished")
	}
	return err
}

// produce sends the messages. It does not know whether anybody reads them.
func produce(ctx context.Context, shared *message.Shared) error {
	for i := uint(1); i <= *messages; i++ {
		shared.Put(int32(i), fmt.Sprintf("Message number %d from producer", i))
		shared.Ready.Store(1)
		fmt.Printf("Producer: Sent message %d\n", i)
		if err := segment.Pause(ctx, *interval); err != nil {
			return err
		}
		shared.Ready.Store(0) // for the next message
	}
	return nil
}
