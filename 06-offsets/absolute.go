//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"errors"
	"fmt"
	"log"
	"os"
	"strings"
)

// follow shows what this process has where the first link leads, if that is a
// pointer, as -absolute has the builder store it. It reads nothing there.
func (l list) follow() error {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return err
	}
	pointer := uint64(l.header().first.Load())
	there := mapping(string(maps), pointer)
	own := mapping(string(maps), address(l))
	log.Printf("would follow the pointer %#x", pointer)
	log.Printf("but has there: %s", there)
	log.Printf("its segment is: %s", own)
	if there == own {
		return errors.New("node 1: the builder's pointer is right by luck: " +
			"both have the segment at one address")
	}
	return errors.New("node 1: the builder's pointer means nothing here")
}

// mapping is the line of /proc/self/maps that says what this process has at
// an address, and whether it may read, write or execute that. See
// proc_pid_maps(5).
func mapping(maps string, address uint64) string {
	for line := range strings.Lines(maps) {
		var from, to uint64
		fmt.Sscanf(line, "%x-%x", &from, &to)
		if from <= address && address < to {
			return strings.Join(strings.Fields(line), " ")
		}
	}
	return "nothing"
}
