//go:build linux

// 05-pthread-style-mutex lets two processes increment one counter, 100 times
// each, under a mutex that lies beside the counter in shared memory. It is
// the mutex of the C library, byte for byte: a C program may take part.
//
//	terminal 1$ go run ./05-pthread-style-mutex
//	terminal 1$ go run ./05-pthread-style-mutex -die
//	terminal 1$ go run ./05-pthread-style-mutex -die -sync robust
//
// See pthread_mutexattr_setpshared(3), futex(2) and get_robust_list(2).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"sync/atomic"

	"example.com/shm-by-example/05-pthread-style-mutex/ipc"
)

var (
	key    = ipc.Ftok("/tmp", 'M')
	mode   = ipc.Mode(0o600)
	rounds = flag.Int("n", 100, "`rounds` of each process")
	procs  = flag.Int("procs", 2, "`processes`, of which this is one")
	die    = flag.Bool("die", false, "kill a child while it has the mutex")
	chosen = normal
	child  = flag.Int("child", 0, "for its children: `number` of the child")
	join   = flag.Int("join", 0, "for its children: `id` of the segment")
)

func main() {
	flag.Var(&key, "key", "`key` of the segment, made of /tmp and M")
	flag.Var(&mode, "mode", "permission `bits` of the segment, octal")
	flag.Var(&chosen, "sync", "`kind` of mutex: normal or robust")
	ipc.Main(run)
}

func run(ctx context.Context, stdout io.Writer) (err error) {
	if err := usage(); err != nil {
		return err
	}
	if *child > 0 {
		return runChild(ctx)
	}

	// Create the segment. All zeros, the mutex in it is unlocked.
	shmid, mem, err := ipc.Create(ctx, key, int(size), mode, nil)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, ipc.Detach(mem), ipc.Remove(shmid))
	}()
	s, err := view(mem)
	if err != nil {
		return err
	}
	s.mutex.kind.Store(chosen.mutexKind())

	// Start the children, which do the same as this process.
	f := &family{shared: s, shmid: shmid, ended: make(chan exit, *procs)}
	living, end := context.WithCancel(ctx)
	defer func() {
		for end(); f.running > 0; {
			f.reap(<-f.ended)
		}
	}()
	if err := f.start(living); err != nil {
		return err
	}

	// Count, and wait until the children have, too.
	p := process{shared: s, stuck: func() error { return f.look(ctx) }}
	if err := p.count(ctx, *rounds); err != nil {
		return err
	}
	if err := f.wait(ctx, p); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "Final counter = %d (expected %d)\n",
		atomic.LoadInt32(&s.counter), *procs**rounds)
	return f.failed()
}

// usage checks the flags.
func usage() error {
	switch {
	case key == 0:
		return errors.New("ftok /tmp: no such file or directory")
	case *procs < 1 || *procs > 1000:
		return ipc.Usage("-procs: want 1 to 1000")
	case chosen == "robust" && *procs > maxNotes:
		return ipc.Usage(fmt.Sprint("-procs: with -sync robust, there is ",
			"room for the notes of ", maxNotes))
	case *rounds > math.MaxInt32 / *procs:
		return ipc.Usage("-n: the counter has 31 bits")
	case *child < 0 || *child > 0 && *child >= *procs:
		return ipc.Usage("-child: there are not so many")
	case *die && (*procs < 2 || *rounds < 1):
		return ipc.Usage("-die: there is no child that could die")
	}
	return nil
}
