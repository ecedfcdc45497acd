//go:build linux && (amd64 || arm64 || riscv64)

// 07-shm-lock locks a shared memory segment into RAM, asks the kernel whether
// it is locked, and unlocks it. At each step it shows how much of the segment
// is resident, which means in RAM. Locking brings no page into RAM. The first
// access to a page does.
//
//	$ go run ./07-shm-lock
//	$ (ulimit -l 0; go run ./07-shm-lock)
//
// The second run may lock nothing. Only root has no limit. See SHM_LOCK in
// shmctl(2), and mincore(2).
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

var (
	key  = flag.Int("key", ftok("/tmp", 'L'), "`key`: ftok of /tmp and L")
	size = flag.Int("size", 4096, "`bytes` of the segment")
)

// Commands of shmctl(2) and a bit of shm_perm.mode that x/sys/unix lacks.
const (
	shmLock   = 11     // SHM_LOCK in <linux/shm.h>
	shmUnlock = 12     // SHM_UNLOCK
	shmLocked = 0o2000 // SHM_LOCKED
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("07-shm-lock: ")
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
	if *key < 1 || *key > 0xffffffff {
		return fmt.Errorf("-key %d is out of range: 1 to 0xffffffff", *key)
	} else if *size < 1 {
		return fmt.Errorf("-size %d: want at least 1", *size)
	}

	// Create the segment, for this user only. With IPC_EXCL it is sure to be
	// a new one. Another run may have the key, but only for an instant. So try
	// again, for up to 1 s.
	const create = unix.IPC_CREAT | unix.IPC_EXCL | 0o600
	shmid, err := unix.SysvShmGet(*key, *size, create)
	for n := 0; err == unix.EEXIST && n < 100; n++ {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
			shmid, err = unix.SysvShmGet(*key, *size, create)
		}
	}
	if err == unix.EEXIST {
		err = fmt.Errorf("%w: in use, or left by a killed run\nchoose another "+
			"key with -key; ipcrm -M %#x removes the segment", err, *key)
	}
	if err != nil {
		return fmt.Errorf("shmget key %#x: %w", *key, err)
	}

	// Attach it, and mark it for removal at once, even if attaching failed. So
	// the segment and its lock end with this process, even if it is killed.
	mem, err := unix.SysvShmAttach(shmid, 0, 0)
	_, e := unix.SysvShmCtl(shmid, unix.IPC_RMID, nil)
	if err != nil {
		return fmt.Errorf("shmat segment %d: %w", shmid, err)
	} else if e != nil {
		return fmt.Errorf("shmctl IPC_RMID segment %d: %w", shmid, e)
	}
	show("before locking", mem)

	// Lock it: a page in RAM stays there, and so does a page that comes later.
	if _, err := unix.SysvShmCtl(shmid, shmLock, nil); err != nil {
		return fmt.Errorf("shmctl SHM_LOCK segment %d: %w", shmid,
			diagnose(err, len(mem)))
	}
	fmt.Println("Segment locked into RAM")

	// Ask the kernel whether it is locked.
	var info unix.SysvShmDesc
	if _, err := unix.SysvShmCtl(shmid, unix.IPC_STAT, &info); err != nil {
		return fmt.Errorf("shmctl IPC_STAT segment %d: %w", shmid, err)
	}
	locked := "NO"
	if info.Perm.Mode&shmLocked != 0 {
		locked = "YES"
	}
	fmt.Println("SHM_LOCKED flag set:", locked)
	show("after locking", mem)

	// Touch it: one byte of each page brings the page into RAM. A signal ends
	// this loop, which may be long. The program still cleans up.
	for i := 0; i < len(mem) && ctx.Err() == nil; i += os.Getpagesize() {
		mem[i] = 1
	}
	if ctx.Err() == nil {
		show("after touching", mem)
	}

	// Unlock it: a page may be swapped out from now on.
	if _, err := unix.SysvShmCtl(shmid, shmUnlock, nil); err != nil {
		return fmt.Errorf("shmctl SHM_UNLOCK segment %d: %w", shmid, err)
	}
	fmt.Println("Segment unlocked")

	// Detach it. Only now does the kernel remove it.
	if err := unix.SysvShmDetach(mem); err != nil {
		return fmt.Errorf("shmdt segment %d: %w", shmid, err)
	}
	return context.Cause(ctx)
}

// ftok makes a key of a file and a letter, as ftok(3) does. It is -1 if there
// is no such file. Two files may have the same key.
func ftok(path string, letter byte) int {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return -1
	}
	return int(letter)<<24 | int(st.Dev&0xff)<<16 | int(st.Ino&0xffff)
}
