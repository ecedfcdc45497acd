//go:build linux && (amd64 || arm64 || riscv64)

// 04-semaphore-counter enters itself into a table in shared memory. It reads
// the count, works for a second, writes its pid into the next line of the
// table, and stores the count plus 1. Two processes must not do so at the same
// time. The flag -sync chooses what keeps them apart.
//
//	terminal 1$ go run ./04-semaphore-counter
//	terminal 2$ go run ./04-semaphore-counter
//	terminal 1$ go run ./04-semaphore-counter -rm
//
// See semop(2), sem_overview(7) and futex(2).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

var (
	syncBy = flag.String("sync", "sysv",
		"`what`: sysv, posix, atomic or none")
	key = flag.Int("key", 0, "`key` of the segment; 0 is 54321 to 54324, by "+
		"-sync, hex 0xd431 to 0xd434")
	semKey = flag.Int("semkey", 56789,
		"`key` of the semaphore set of sysv, hex 0xddd5")
	name = flag.String("name", "/semaphore_counter",
		"`name` of the semaphore of posix")
	work = flag.Duration("work", time.Second, "`time` in the critical section")
	rm   = flag.Bool("rm", false, "remove what -sync uses, and nothing else")
)

// A mechanism keeps the updates of many processes apart. Each mechanism has a
// file of its own. A mechanism that embeds *table has the add of table.go.
type mechanism interface {
	lock(ctx context.Context) error // waits until this process has the lock
	add(ctx context.Context, pid int32) (count int32, err error)
	unlock() error
}

// mechanisms has an entry for each value of -sync. Each uses its own segment.
var mechanisms = map[string]struct {
	key    int
	open   func(context.Context, *table) (mechanism, error)
	remove func() error // removes what there is besides the segment
}{
	"sysv":   {54321, openSysV, removeSysV},
	"posix":  {54322, openPOSIX, removePOSIX},
	"atomic": {54323, openAtomic, func() error { return nil }},
	"none":   {54324, openNone, func() error { return nil }},
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("04-semaphore-counter: ")
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
	chosen, ok := mechanisms[*syncBy]
	if !ok {
		return fmt.Errorf("-sync %s: want sysv, posix, atomic or none", *syncBy)
	} else if *key == 0 {
		*key = chosen.key
	}
	switch {
	case min(*key, *semKey) < 1, max(*key, *semKey) > 0xffffffff:
		return fmt.Errorf("-key %d or -semkey %d is out of range: 1 to "+
			"0xffffffff", *key, *semKey)
	case *work < 0:
		return fmt.Errorf("-work %v is negative", *work)
	case path.Clean(*name) != *name || strings.LastIndex(*name, "/") != 0 ||
		len(*name) < 2 || len(*name) > 252:
		return fmt.Errorf("-name %s: want a slash and a file name", *name)
	case *rm:
		return errors.Join(chosen.remove(), removeTable())
	}

	// Create the segment with the table in it, or open it. The segment stays
	// for the processes that come later.
	shmid, err := unix.SysvShmGet(*key, size, unix.IPC_CREAT|0o600)
	if shmid, err = examine(shmid, err); err != nil {
		return fmt.Errorf("shmget key %#x: %w", *key, err)
	}

	// Attach it, at an address that the kernel chooses.
	mem, err := unix.SysvShmAttach(shmid, 0, 0)
	if removed(err) {
		return run(ctx) // somebody has just removed it: begin again
	} else if err != nil {
		return fmt.Errorf("shmat segment %d: %w", shmid, err)
	}
	t := view(mem)

	// Open the lock that protects the table, or create it. With sysv and posix
	// it is a semaphore.
	m, err := chosen.open(ctx, t)
	if err != nil {
		return errors.Join(err, removeEmpty(shmid, t))
	}

	// Enter the critical section. With sysv and posix, this process is alone
	// from lock to unlock.
	pid := os.Getpid()
	fmt.Printf("Process %d: Entering critical section\n", pid)
	if err := m.lock(ctx); err != nil {
		return err
	}
	count, err := m.add(ctx, int32(pid))
	if err == nil {
		fmt.Printf("Process %d: Updated count to %d\n", pid, count)
	}
	if err := errors.Join(err, m.unlock()); err != nil {
		return err
	}
	fmt.Printf("Process %d: Exiting critical section\n", pid)
	log.Print("the table stays: the same flags and -rm remove it")

	// Detach it.
	if err := unix.SysvShmDetach(mem); err != nil {
		return fmt.Errorf("shmdt segment %d: %w", shmid, err)
	}
	return nil
}
