//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"errors"
	"fmt"
	"log"
	"os"
	"strings"
)

// follow shows what this process has at the address in the first link. With
// -absolute the builder stores a pointer there. follow does not follow it any
// further: it reads nothing at that address.
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

// mapping returns the line of /proc/self/maps for an address. The line says
// what this process has there, and whether it may read, write or execute it.
// See proc_pid_maps(5).
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
