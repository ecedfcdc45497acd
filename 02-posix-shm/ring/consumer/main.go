//go:build linux

// Consumer takes numbers out of a ring buffer in shared memory and checks
// that they are 0, 1, 2 and so on.
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
	"fmt"
	"io"
	"time"

	"example.com/shm-by-example/02-posix-shm/ipc"
	"example.com/shm-by-example/02-posix-shm/ring"
)

var (
	name    = ring.DefaultName
	items   = flag.Uint64("n", 10_000_000, "`number` of items to take")
	huge    = flag.Bool("huge", false, "try to have it in a huge page")
	timeout = flag.Duration("timeout", 0,
		"longest `time` to wait for a producer; 0 is no limit")
)

func main() {
	flag.Var(&name, "name", "`name` of the object")
	ipc.Main(run)
}

func run(ctx context.Context, stdout io.Writer) error {
	// Wait for the object, map it, and lock it in memory.
	object, err := ring.Open(ctx, name, *timeout, *huge)
	if err != nil {
		return err
	}
	object.Describe(stdout)
	err = ipc.Guard(func() error { return consume(ctx, object) })
	return errors.Join(err, object.Close())
}

// consume takes the items out and checks each of them.
func consume(ctx context.Context, object *ring.Object) error {
	shared := ring.View(object.Mem)
	first := uint64(shared.ConsumerIndex.Load())
	consumer := ring.NewConsumer(shared, object)
	meter := ring.Meter{Total: *items, Start: time.Now()}
	var batch [ring.Batch]int32
	for k := uint64(0); k < *items; meter.Count(k) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := consumer.PopSome(ctx, batch[:min(*items-k, ring.Batch)])
		if err != nil {
			return err
		}
		for _, item := range batch[:n] {
			if want := int32(first + k); item != want {
				return fmt.Errorf("item %d is %d, not %d", first+k, item, want)
			}
			k++
		}
	}
	meter.Report()
	return nil
}
