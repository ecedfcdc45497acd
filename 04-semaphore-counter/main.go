//go:build linux

// 04-semaphore-counter enters itself into a table in shared memory: it takes
// the counter, works for a second, writes its pid into the next line of the
// table and the counter, one higher, back. Several at once must not do so at
// the same time; -sync chooses what sees to it.
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
	"io"
	"os"
	"time"

	"example.com/shm-by-example/04-semaphore-counter/ipc"
)

var (
	chosen = syncFlag("sysv")
	key    ipc.Key // 0: that of the mechanism
	semKey = ipc.Key(56789)
	name   = ipc.Name("/semaphore_counter")
	mode   = ipc.Mode(0o600)
	work   = flag.Duration("work", time.Second,
		"`time` in the critical section")
	rm = flag.Bool("rm", false, "remove what -sync uses, and nothing else")
)

func main() {
	flag.Var(&chosen, "sync", "`mechanism`: sysv, posix, atomic or none")
	flag.Var(&key, "key", "`key` of the segment (default "+keys()+")")
	flag.Var(&semKey, "semkey", "`key` of the semaphore set of sysv")
	flag.Var(&name, "name", "`name` of the semaphore of posix")
	flag.Var(&mode, "mode", "permission `bits` of what is created, octal")
	ipc.Main(run)
}

func run(ctx context.Context, stdout io.Writer) error {
	if key == 0 {
		key = mechanisms[chosen].key
	}
	if len(name) > 252 {
		return ipc.Usage("-name: with sem. before it, it is too long")
	}
	if *rm {
		return errors.Join(mechanisms[chosen].remove(), removeTable(key))
	}

	// Open the table and what protects it, or make them.
	t, err := openTable(ctx, key, mode)
	if err != nil {
		return err
	}
	m, err := mechanisms[chosen].open(ctx, t)
	if err != nil {
		return err
	}

	// Enter the critical section: from lock to unlock this process is alone,
	// with sysv and posix.
	pid := os.Getpid()
	fmt.Fprintf(stdout, "Process %d: Entering critical section\n", pid)
	if err := m.lock(ctx); err != nil {
		return err
	}
	count, err := m.add(ctx, int32(pid), *work)
	if err == nil {
		fmt.Fprintf(stdout, "Process %d: Updated count to %d\n", pid, count)
	}
	if err := errors.Join(err, m.unlock()); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "Process %d: Exiting critical section\n", pid)

	// The table stays, for those who come after.
	ipc.Note("the table stays: the same flags and -rm remove it")
	return t.detach()
}
