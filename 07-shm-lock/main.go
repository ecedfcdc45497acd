//go:build linux

// 07-shm-lock locks a shared memory segment into RAM, looks whether it is
// locked, and unlocks it. At each step it shows how much of the segment is
// resident: in RAM at all. Locking brings nothing there, touching does.
//
//	$ go run ./07-shm-lock
//	$ (ulimit -l 0; go run ./07-shm-lock)
//
// The second one may lock nothing. See SHM_LOCK in shmctl(2).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"

	"golang.org/x/sys/unix"

	"example.com/shm-by-example/07-shm-lock/ipc"
)

var (
	key  = ipc.Ftok("/tmp", 'L')
	mode = ipc.Mode(0o600)
	size = flag.Uint("size", 4096, "`bytes` of the segment")
)

// Commands of shmctl(2) and a bit of shm_perm.mode that x/sys/unix lacks.
const (
	shmLock   = 11
	shmUnlock = 12
	shmLocked = 0o2000
)

func main() {
	flag.Var(&key, "key", "`key` of the segment")
	flag.Var(&mode, "mode", "permission `bits` of the segment, octal")
	ipc.Main(run)
}

func run(ctx context.Context, stdout io.Writer) error {
	if *size == 0 || *size > math.MaxInt {
		return ipc.Usage(fmt.Sprintf("-size %d", *size))
	} else if key == 0 {
		return errors.New("ftok /tmp: no such file\nchoose a key with -key")
	}

	// Create the segment (shmget), attach it (shmat), and mark it for removal
	// (shmctl): it ends with this process.
	shmid, mem, err := ipc.CreateTransient(ctx, key, int(*size), mode)
	if err != nil {
		return err
	}
	show("before locking", shmid)

	// Lock it: what is in RAM stays there, and so does what will come.
	if _, err := unix.SysvShmCtl(shmid, shmLock, nil); err != nil {
		return fmt.Errorf("shmctl SHM_LOCK segment %d: %w", shmid,
			notAllowed(err, *size))
	}
	fmt.Fprintln(stdout, "Segment locked into RAM")

	// Ask the kernel whether it is locked.
	var info unix.SysvShmDesc
	if _, err := unix.SysvShmCtl(shmid, unix.IPC_STAT, &info); err != nil {
		return fmt.Errorf("shmctl IPC_STAT segment %d: %w", shmid, err)
	}
	locked := "NO"
	if info.Perm.Mode&shmLocked != 0 {
		locked = "YES"
	}
	fmt.Fprintf(stdout, "SHM_LOCKED flag set: %s\n", locked)
	show("after locking", shmid)

	// Touch it: one byte of each page, and the page is there.
	for i := 0; i < len(mem) && ctx.Err() == nil; i += os.Getpagesize() {
		mem[i] = 1
	}
	show("after touching", shmid)

	// Unlock it: what is in RAM may go, but need not.
	if _, err := unix.SysvShmCtl(shmid, shmUnlock, nil); err != nil {
		return fmt.Errorf("shmctl SHM_UNLOCK segment %d: %w", shmid, err)
	}
	fmt.Fprintln(stdout, "Segment unlocked")
	return ipc.Detach(mem)
}
