//go:build linux

// Producer puts numbers into a ring buffer in shared memory, 0, 1, 2 and so
// on, as fast as the consumer takes them out.
//
//	terminal 1$ go run ./02-posix-shm/ring/producer
//	terminal 2$ go run ./02-posix-shm/ring/consumer
//
// See mmap(2) and futex(2).
package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"time"

	"example.com/shm-by-example/02-posix-shm/ipc"
	"example.com/shm-by-example/02-posix-shm/ring"
)

var (
	name    = ring.DefaultName
	mode    = ipc.Mode(0o600)
	items   = flag.Uint64("n", 10_000_000, "`number` of items to put")
	huge    = flag.Bool("huge", false, "try to have it in a huge page")
	timeout = flag.Duration("timeout", 0,
		"longest `time` to wait for a consumer; 0 is no limit")
)

func main() {
	flag.Var(&name, "name", "`name` of the object")
	flag.Var(&mode, "mode", "permission `bits` of the object, octal")
	ipc.Main(run)
}

func run(ctx context.Context, stdout io.Writer) error {
	// Create the object, map it, and lock it in memory.
	object, err := ring.Create(ctx, name, mode, *timeout, *huge)
	if err != nil {
		return err
	}
	object.Describe(stdout)

	err = ipc.Guard(func() error { return produce(ctx, object) })
	return errors.Join(err, ipc.RemoveObject(name), object.Close())
}

// produce puts the items in, and waits until they have all been taken.
func produce(ctx context.Context, object *ring.Object) error {
	producer := ring.NewProducer(ring.View(object.Mem), object)
	meter := ring.Meter{Total: *items, Start: time.Now()}
	var batch [ring.Batch]int32
	for k := uint64(0); k < *items; meter.Count(k) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n := min(*items-k, ring.Batch)
		for i := range batch[:n] {
			batch[i] = int32(k)
			k++
		}
		if err := producer.PushAll(ctx, batch[:n]); err != nil {
			return err
		}
	}
	if err := producer.Drain(ctx); err != nil {
		return err
	}
	meter.Report()
	return nil
}
