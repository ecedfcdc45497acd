//go:build linux && (amd64 || arm64 || riscv64)

// 05-pthread-style-mutex lets two processes increment one counter, 100 times
// each. The mutex that keeps them apart lies beside the counter, in shared
// memory. It is the mutex of the C library, byte for byte, so that a C program
// can take part.
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
	"log"
	"math"
	"os"
	"os/signal"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

var (
	key    = flag.Int("key", ftok("/tmp", 'M'), "`key`: ftok of /tmp and M")
	kind   = flag.String("sync", "normal", "`kind` of mutex: normal or robust")
	rounds = flag.Int("n", 100, "`rounds` of each process")
	procs  = flag.Int("procs", 2, "`processes`, of which this is one")
	die    = flag.Bool("die", false, "kill a child while it has the mutex")
	child  = flag.Int("child", 0, "for its children: `number` of the child")
	join   = flag.Int("join", 0, "for its children: `id` of the segment")
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("05-pthread-style-mutex: ")
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
	if err := checkFlags(); err != nil {
		return err
	}
	if *child > 0 {
		return runChild(ctx) // in children.go
	}

	// Create the segment. With IPC_EXCL it is sure to be a new one.
	const create = unix.IPC_CREAT | unix.IPC_EXCL | 0o600
	shmid, err := unix.SysvShmGet(*key, size, create)
	for err == unix.EEXIST {
		// There is one already. If a killed parent left it, remove it.
		if err = removeLeftover(ctx, *key); err == nil {
			shmid, err = unix.SysvShmGet(*key, size, create)
		}
	}
	if err != nil {
		return fmt.Errorf("shmget key %#x: %w", *key, err)
	}
	defer func() { // remove it at the end
		_, e := unix.SysvShmCtl(shmid, unix.IPC_RMID, nil)
		if e != nil && !removed(e) {
			err = errors.Join(err, fmt.Errorf("shmctl IPC_RMID "+
				"segment %d: %w", shmid, e))
		}
	}()

	// Attach it, at an address that the kernel chooses.
	mem, err := unix.SysvShmAttach(shmid, 0, 0)
	if err != nil {
		return fmt.Errorf("shmat segment %d: %w", shmid, err)
	}
	s := view(mem)

	// Initialise the mutex, once. A new segment is all zeros, and that is an
	// unlocked mutex, except for its kind.
	s.mutex.kind.Store(kindBits())

	// Start the children, which do the same as this process.
	f := newFamily(ctx, s, shmid)
	defer f.end()
	if err := f.start(); err != nil {
		return err
	}

	// Increment the counter, and wait until the children have done so, too.
	if err := count(f.ctx, s, f.stuck); err != nil {
		return err
	}
	if err := f.wait(); err != nil {
		return err
	}
	fmt.Printf("Final counter = %d (expected %d)\n",
		atomic.LoadInt32(&s.counter), *procs**rounds)

	// Detach it.
	if err := unix.SysvShmDetach(mem); err != nil {
		return fmt.Errorf("shmdt segment %d: %w", shmid, err)
	}
	return nil
}

func checkFlags() error {
	switch {
	case *key < 1 || *key > 0xffffffff:
		return fmt.Errorf("-key %d is out of range: 1 to 0xffffffff", *key)
	case *kind != "normal" && *kind != "robust":
		return fmt.Errorf("-sync %s: want normal or robust", *kind)
	case *procs < 1 || *procs > 1000:
		return fmt.Errorf("-procs %d: want 1 to 1000", *procs)
	case *kind == "robust" && *procs > maxNotes:
		return fmt.Errorf("-procs %d: with -sync robust at most %d", *procs,
			maxNotes) // the segment has room for so many notes
	case *rounds < 0 || *rounds > math.MaxInt32 / *procs:
		return fmt.Errorf("-n %d: the counter goes up to 2147483647", *rounds)
	case *child < 0 || *child >= *procs || *join < 0:
		return fmt.Errorf("-child %d of %d or -join %d is out of range",
			*child, *procs, *join)
	case *die && (*procs < 2 || *rounds < 1):
		return errors.New("-die: there is no child that could die")
	}
	return nil
}
