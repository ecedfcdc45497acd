//go:build linux && (amd64 || arm64 || riscv64)

// 06-offsets builds a linked list in a shared memory segment. Then it starts
// itself again, as another process, which walks the list. That process has
// the segment at another address, so each link is an offset, not a pointer.
//
//	$ go run ./06-offsets
//	$ go run ./06-offsets -absolute
//
// The second command stores pointers, and shows that they mean nothing to the
// other process. See ftok(3), shmget(2), shmop(2) and shmctl(2).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

var (
	key      = flag.Int("key", ftok("/tmp", 'Z'), "`key`: ftok of /tmp and Z")
	nodes    = flag.Uint("n", 3, "`number` of nodes in the list, up to 255")
	absolute = flag.Bool("absolute", false, "store pointers: wrong on purpose")
	notAt    = flag.Uint64("not", 0, "for the walker: the `address` to avoid")
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("06-offsets: ")
	flag.Parse()
	walks := flag.NArg() == 2 && flag.Arg(0) == "walk"
	if flag.NArg() > 0 && !walks { // a stray argument
		flag.Usage()
		os.Exit(2)
	}
	// A signal does not kill the program. It ends ctx, and run returns.
	ctx, stop := signal.NotifyContext(context.Background(),
		unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGPIPE)
	defer stop()
	run := runBuilder
	if walks {
		run = runWalker
	}
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

// runBuilder is the first process.
func runBuilder(ctx context.Context) error {
	if *key < 1 || *key > 0xffffffff {
		return fmt.Errorf("-key %d is out of range: 1 to 0xffffffff", *key)
	} else if *nodes > uint(maxNodes) {
		return fmt.Errorf("-n %d: want 0 to %d", *nodes, maxNodes)
	}

	// Create the segment, for this user only. With IPC_EXCL it is sure to be
	// a new one. Another run may have the key for an instant: try for 1 s.
	const create = unix.IPC_CREAT | unix.IPC_EXCL | 0o600
	shmid, err := unix.SysvShmGet(*key, size, create)
	for n := 0; err == unix.EEXIST && n < 100; n++ {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
			shmid, err = unix.SysvShmGet(*key, size, create)
		}
	}
	if err == unix.EEXIST {
		err = fmt.Errorf("%w: in use, or left by a killed run\nchoose another "+
			"key with -key; ipcrm -M %#x removes the segment", err, *key)
	}
	if err != nil {
		return fmt.Errorf("shmget key %#x: %w", *key, err)
	}

	// Attach it, at an address that the kernel chooses.
	mem, err := unix.SysvShmAttach(shmid, 0, 0)

	// Mark it for removal at once, even if attaching failed. The key is free
	// now. The id leads to the segment until the last process detaches it, or
	// is killed.
	_, e := unix.SysvShmCtl(shmid, unix.IPC_RMID, nil)
	if err != nil {
		return fmt.Errorf("shmat segment %d: %w", shmid, err)
	} else if e != nil {
		return fmt.Errorf("shmctl IPC_RMID segment %d: %w", shmid, e)
	}

	// Build the list. Each link is an offset, to which build adds origin.
	origin := int64(0)
	if *absolute {
		log.Print("wrong on purpose: each link is a pointer of this process")
		origin = int64(address(mem))
	}
	list(mem).build(int64(*nodes), origin)
	log.Printf("built at %#x", address(mem))

	// Start the walker. Go cannot fork, so this program starts once more.
	self, err := os.Executable()
	if err != nil {
		return err
	}
	walker := exec.CommandContext(ctx, self, // killed when ctx ends
		fmt.Sprintf("-not=%#x", address(mem)),
		fmt.Sprintf("-absolute=%t", *absolute), "walk", strconv.Itoa(shmid))
	walker.Stdout, walker.Stderr = os.Stdout, os.Stderr
	// If the builder is killed, the kernel kills the walker, because the thread
	// that started it ends. Go might end that thread early, so we keep it.
	runtime.LockOSThread()
	walker.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	err = walker.Run()
	if ctx.Err() != nil {
		err = context.Cause(ctx) // the signal that has ended the walker, too
	} else if err != nil {
		err = fmt.Errorf("walker: %w", err) // which has said why
	}

	// Detach the segment. A program that only exits detaches it, too.
	if e := unix.SysvShmDetach(mem); e != nil {
		err = errors.Join(err, fmt.Errorf("shmdt segment %d: %w", shmid, e))
	}
	return err
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
