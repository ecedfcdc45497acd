//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// runWalker is the second process. Its arguments are: walk ID. SIGTERM does not
// end a write that is blocked: the walker ends after the write. SIGKILL ends
// the walker at once, so the builder sends SIGKILL.
func runWalker(ctx context.Context) error {
	shmid, err := strconv.Atoi(flag.Arg(1))
	if err != nil {
		return fmt.Errorf("walk: %w", err)
	}

	// Attach the segment by its id, for reading only.
	mem, err := unix.SysvShmAttach(shmid, 0, unix.SHM_RDONLY)
	if err == nil && address(mem) == *notAt {
		// By chance this is the builder's address. Attach the segment again:
		// the address is taken now, so the kernel chooses another.
		first := mem
		mem, err = unix.SysvShmAttach(shmid, 0, unix.SHM_RDONLY)
		unix.SysvShmDetach(first)
	}
	if err != nil {
		return fmt.Errorf("shmat segment %d: %w", shmid, err)
	} else if len(mem) != size {
		return fmt.Errorf("segment %d has %d bytes, not %d", shmid,
			len(mem), size)
	}
	log.Printf("walks at %#x", address(mem))
	if *absolute {
		return list(mem).follow()
	}

	// Walk the list, from offset to offset. Print it only if the whole list is
	// right.
	values, err := list(mem).walk()
	if err != nil {
		return fmt.Errorf("segment %d: %w", shmid, err)
	}
	var text strings.Builder
	fmt.Fprintln(&text, "Reading linked list from shared memory:")
	for _, value := range values {
		fmt.Fprintf(&text, "  value = %d\n", value)
	}
	if _, err := os.Stdout.WriteString(text.String()); err != nil {
		return err
	}
	if err := unix.SysvShmDetach(mem); err != nil {
		return fmt.Errorf("shmdt segment %d: %w", shmid, err)
	}
	return context.Cause(ctx)
}

// address returns the address at which this process has attached a segment.
func address(mem []byte) uint64 {
	return uint64(uintptr(unsafe.Pointer(&mem[0])))
}
