//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"example.com/shm-by-example/06-offsets/ipc"
)

// address is where this process has a segment.
func address(mem []byte) uint64 {
	return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(mem))))
}

// reserve takes the page at an address, so that nothing else can come there:
// one that can neither be read nor written. If something is there already,
// that will do; 0 is no address. See MAP_FIXED_NOREPLACE in mmap(2).
func reserve(address uint64) error {
	if address == 0 {
		return nil
	}
	// Without a wrapper, whose argument is a pointer: this address is none.
	_, _, err := unix.Syscall6(unix.SYS_MMAP, uintptr(address),
		uintptr(os.Getpagesize()), unix.PROT_NONE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_FIXED_NOREPLACE,
		^uintptr(0), 0)
	if err != 0 && err != unix.EEXIST {
		return fmt.Errorf("mmap %#x: %w", address, err)
	}
	return nil
}

// follow shows where this process would get to if it took the first link for
// a pointer, as -absolute has the builder store it; and refuses to.
func (l list) follow() error {
	pointer := uint64(l.header().first.Load())
	there, err := mapping(pointer)
	if err != nil {
		return err
	}
	own, err := mapping(address(l))
	if err != nil {
		return err
	}
	ipc.Note("would follow the pointer %#x", pointer)
	ipc.Note("but has there: %s", there)
	ipc.Note("its segment is: %s", own)
	if there == own {
		return errors.New("node 1: the builder's pointer is right by luck: " +
			"both have the segment at one address")
	}
	return errors.New("node 1: the builder's pointer means nothing here")
}

// mapping is the line of /proc/self/maps that says what this process has at
// an address, and who may read, write or execute it. See proc_pid_maps(5).
func mapping(address uint64) (string, error) {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(maps)) {
		var from, to uint64
		fmt.Sscanf(line, "%x-%x", &from, &to)
		if from <= address && address < to {
			return strings.Join(strings.Fields(line), " "), nil
		}
	}
	return "nothing", nil
}
