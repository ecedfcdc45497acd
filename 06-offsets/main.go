//go:build linux

// 06-offsets builds a linked list in a shared memory segment, and starts
// itself once more as another process, which walks it. The other has the
// segment at another address: so the links are offsets, and not pointers.
//
//	$ go run ./06-offsets
//	$ go run ./06-offsets -absolute
//
// The second stores pointers, and shows what becomes of them. See shmop(2).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"example.com/shm-by-example/06-offsets/ipc"
)

var (
	key      = ipc.Ftok("/tmp", 'Z')
	mode     = ipc.Mode(0o600)
	nodes    = flag.Int64("n", 3, "`number` of nodes in the list, up to 255")
	absolute = flag.Bool("absolute", false, "store pointers: wrong on purpose")

	// What the builder passes to the walker that it starts.
	walkID = flag.Int("walk", -1, "walk the list in the segment of this `id`")
	notAt  = flag.Uint64("not", 0, "have it anywhere but at this `address`")
)

func main() {
	flag.Var(&key, "key", "`key` of the segment")
	flag.Var(&mode, "mode", "permission `bits` of the segment, octal")
	ipc.Main(func(ctx context.Context, stdout io.Writer) error {
		if *walkID >= 0 {
			return walk(stdout)
		}
		return build(ctx)
	})
}

// build is the first process.
func build(ctx context.Context) error {
	if *nodes > maxNodes {
		return ipc.Usage(fmt.Sprintf("-n %d: at most %d fit", *nodes, maxNodes))
	} else if key == 0 {
		return errors.New("ftok /tmp: no such file\nchoose a key with -key")
	}

	// Create the segment (shmget), attach it wherever the kernel likes
	// (shmat), and mark it for removal (shmctl): it ends with its users.
	shmid, mem, err := ipc.CreateTransient(ctx, key, size, mode)
	if err != nil {
		return err
	}

	// Build the list. A link is the way from the segment's start to a node;
	// or, wrong on purpose, an address.
	base := uint64(0)
	if *absolute {
		ipc.Note("wrong on purpose: each link is a pointer of this process")
		base = address(mem)
	}
	list(mem).build(*nodes, int64(base))
	ipc.Note("built at %#x", address(mem))

	// Let another process walk it. By now only the id leads to the segment.
	walker, err := ipc.StartChild(ctx, os.Stdout,
		fmt.Sprintf("-walk=%d", shmid), fmt.Sprintf("-not=%#x", address(mem)),
		fmt.Sprintf("-absolute=%t", *absolute))
	if err != nil {
		return err
	}
	return errors.Join(outcome(ctx, walker), ipc.Detach(mem))
}

// walk is the second process.
func walk(stdout io.Writer) error {
	// Take the address that the builder has, so that the kernel must choose
	// another, and attach the segment (shmat), for reading only.
	if err := reserve(*notAt); err != nil {
		return err
	}
	mem, err := ipc.Attach(*walkID, unix.SHM_RDONLY)
	if err != nil {
		return err
	} else if len(mem) != size {
		return fmt.Errorf("segment %d: %d bytes, %d wanted", *walkID,
			len(mem), size)
	}
	ipc.Note("walks at %#x", address(mem))
	if *absolute {
		return list(mem).follow()
	}

	// Walk the list, from offset to offset.
	values, err := list(mem).walk()
	if err != nil {
		return fmt.Errorf("segment %d: %w", *walkID, err)
	}
	fmt.Fprintln(stdout, "Reading linked list from shared memory:")
	for _, value := range values {
		fmt.Fprintf(stdout, "  value = %d\n", value)
	}
	return ipc.Detach(mem)
}
