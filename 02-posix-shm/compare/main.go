//go:build linux && (amd64 || arm64 || riscv64)

// Compare measures shared memory against the other ways from one process to
// another, first with both processes on one CPU, then on two.
//
//	terminal 1$ go run ./02-posix-shm/compare
//	terminal 1$ go run ./02-posix-shm/compare -quick
//	terminal 1$ go run ./02-posix-shm/compare -json
//
// For each way it starts two processes. One sends a block, and the other sends
// one back: that is a round trip. Then one sends many blocks of one size, and
// the other takes them. The sender writes each word of a block, and the
// receiver adds all words up, in place if the memory is shared. table.go and
// result.go say what the figures of the table and of the JSON mean.
//
// See pipe(7), unix(7), tcp(7), svipc(7), mq_overview(7) and futex(2).
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"log"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

var (
	quick  = flag.Bool("quick", false, "measure fewer messages, in 2 s")
	asJSON = flag.Bool("json", false, "print JSON and no table")
	child  string // the task, in JSON, if this process is a child
)

func init() {
	flag.Func("child", "for its children: the `task`, in JSON",
		func(text string) error {
			if text == "" {
				return errors.New("no task")
			}
			child = text
			return nil
		})
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("compare: ")
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
	if child != "" {
		return runChild(ctx, child)
	}
	where, err := placements()
	if err != nil {
		return err
	}
	all := result{RoundTrips: roundTrips(*quick).Count,
		Blocks: blocks(*quick)}
	for _, p := range where {
		for _, m := range mechanisms {
			figures, err := m.measure(ctx, p.CPUs, *quick)
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			if err != nil {
				return err
			}
			p.Mechanisms = append(p.Mechanisms, figures)
		}
		all.Placements = append(all.Placements, p)
	}
	if *asJSON {
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		return encoder.Encode(all)
	}
	return all.print(os.Stdout)
}
