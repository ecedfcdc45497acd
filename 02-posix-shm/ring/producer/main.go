//go:build linux && (amd64 || arm64 || riscv64)

// Producer puts numbers into a ring buffer in shared memory, 0, 1, 2 and so
// on, as fast as the consumer takes them out.
//
//	terminal 1$ go run ./02-posix-shm/ring/producer
//	terminal 2$ go run ./02-posix-shm/ring/consumer
//
// See mmap(2), mlock(2) and futex(2).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"example.com/shm-by-example/02-posix-shm/object"
	"example.com/shm-by-example/02-posix-shm/ring"
)

var (
	name  = flag.String("name", ring.Name, "`name` of the object")
	items = flag.Uint64("n", 10_000_000, "`number` of items to put")
	huge  = flag.Bool("huge", false, "try to have it in a huge page")
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

func run(ctx context.Context) (err error) {
	path, err := object.Path(*name)
	if err != nil {
		return err
	}
	debug.SetPanicOnFault(true)
	defer object.Fault(*name, &err)

	// Create the object, give it memory, and remove it at the end. The main.go
	// of this lesson does the same, and explains each step.
	const flags = unix.O_CREAT | unix.O_EXCL | unix.O_RDWR | object.Careful
	fd, err := unix.Open(path, flags, 0o600)
	for err == unix.EEXIST || err == unix.EINTR {
		if err := object.RemoveLeftover(ctx, *name, ring.Size); err != nil {
			return err
		}
		fd, err = unix.Open(path, flags, 0o600)
	}
	if err != nil {
		return fmt.Errorf("shm_open %s: %w"+object.Cure, *name, err)
	}
	defer func() {
		if e := unix.Unlink(path); e != nil && object.HasName(fd) {
			err = errors.Join(err, fmt.Errorf("shm_unlink %s: %w", *name, e))
		}
		unix.Close(fd)
	}()
	err = unix.Fallocate(fd, 0, 0, ring.Size)
	for err == unix.EINTR {
		err = unix.Fallocate(fd, 0, 0, ring.Size)
	}
	if err != nil {
		return fmt.Errorf("fallocate %s, %d bytes: %w"+object.Cure, *name,
			ring.Size, err)
	}
	if err := ring.Lock(fd, ring.ProducerLine); err != nil {
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

	// Put the items in.
	shared := ring.View(mem)
	return produce(ctx, ring.NewProducer(shared,
		shared.NewPeer(fd, *name, ring.ProducerLine)))
}

// produce puts the items in, and waits until they have all been taken.
func produce(ctx context.Context, producer *ring.Producer) error {
	var batch [ring.Batch]int32
	for k := uint64(0); k < *items; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n := min(*items-k, ring.Batch)
		for i := range batch[:n] {
			batch[i] = int32(k)
			k++
		}
		if err := producer.Push(ctx, batch[:n]); err != nil {
			return err
		}
	}
	if err := producer.Drain(ctx); err != nil {
		return err
	}
	ring.Report(*items, producer.Start)
	return nil
}
