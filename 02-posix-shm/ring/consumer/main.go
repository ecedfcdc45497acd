//go:build linux && (amd64 || arm64 || riscv64)

// Consumer takes numbers out of a ring buffer in shared memory and checks
// that they are 0, 1, 2 and so on.
//
//	terminal 1$ go run ./02-posix-shm/ring/producer
//	terminal 2$ go run ./02-posix-shm/ring/consumer
//
// See mmap(2), mlock(2) and futex(2).
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"example.com/shm-by-example/02-posix-shm/object"
	"example.com/shm-by-example/02-posix-shm/ring"
)

var (
	name  = flag.String("name", ring.Name, "`name` of the object")
	items = flag.Uint64("n", 10_000_000, "`number` of items to take")
	huge  = flag.Bool("huge", false, "try to have it in a huge page")
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

func run(ctx context.Context) (err error) {
	path, err := object.Path(*name)
	if err != nil {
		return err
	}
	debug.SetPanicOnFault(true)
	defer object.Fault(*name, &err)

	// Wait for the producer's object, and open it.
	if err := object.Wait(ctx, *name, ring.Size); err != nil {
		return err
	}
	fd, err := unix.Open(path, unix.O_RDWR|object.Careful, 0)
	err = object.Check(fd, err, *name, ring.Size)
	if err == unix.ENOENT || err == unix.EAGAIN {
		return run(ctx) // the producer has just ended: wait for the next
	} else if err != nil {
		return err
	}
	defer unix.Close(fd)
	err = ring.Lock(fd, ring.ConsumerLine)
	if err == unix.EAGAIN {
		return fmt.Errorf("%s has a consumer already", *name)
	} else if err != nil {
		return fmt.Errorf("fcntl F_OFD_SETLK %s: %w", *name, err)
	}

	// Map it with all its pages, in a huge page if that is wanted and works,
	// and keep them in memory.
	var mem []byte
	if *huge {
		mem = ring.MapHuge(fd)
	}
	if mem == nil {
		mem, err = unix.Mmap(fd, 0, ring.Size, unix.PROT_READ|unix.PROT_WRITE,
			unix.MAP_SHARED|unix.MAP_POPULATE)
	}
	if err != nil {
		return fmt.Errorf("mmap %s: %w", *name, err)
	}
	if err := unix.Mlock(mem[:ring.Size]); err != nil {
		log.Printf("mlock %s: %v: see ulimit -l", *name, err)
	}
	fmt.Printf("Optimized shared memory created at %p\n", &mem[0])
	fmt.Printf("Cache line size: %d bytes\n", ring.CacheLine())

	// Take the items out.
	shared := ring.View(mem)
	first := shared.ConsumerIndex.Load()
	return consume(ctx, uint64(first), ring.NewConsumer(shared,
		shared.NewPeer(fd, *name, ring.ConsumerLine)))
}

// consume takes the items out and checks each. It begins with item first.
func consume(ctx context.Context, first uint64, consumer *ring.Consumer) error {
	var start time.Time // when the first items were there
	var batch [ring.Batch]int32
	for k := uint64(0); k < *items; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := consumer.Pop(ctx, batch[:min(*items-k, ring.Batch)])
		if err != nil {
			return err
		}
		if k == 0 {
			start = time.Now()
		}
		for _, item := range batch[:n] {
			if want := int32(first + k); item != want {
				return fmt.Errorf("item %d is %d, not %d", first+k, item, want)
			}
			k++
		}
	}
	consumer.Release()
	ring.Report(*items, start)
	return nil
}
