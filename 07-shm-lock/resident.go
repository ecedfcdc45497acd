//go:build linux

package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"example.com/shm-by-example/07-shm-lock/ipc"
)

// show says how many bytes of a segment are resident: its pages that are in
// RAM, whichever process brought them there.
func show(when string, shmid int) error {
	table, err := os.ReadFile("/proc/sysvipc/shm")
	if err != nil {
		return err
	}
	rss, err := column(string(table), shmid, "rss")
	if err != nil {
		return fmt.Errorf("/proc/sysvipc/shm: %w", err)
	}
	ipc.Note("resident %s: %d bytes", when, rss)
	return nil
}

// column finds a number in the kernel's table of segments, whose first line
// names the columns. See proc_sysvipc(5).
func column(table string, shmid int, name string) (uint64, error) {
	var names []string
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if names == nil {
			names = fields
			continue
		}
		id, at := slices.Index(names, "shmid"), slices.Index(names, name)
		if id < 0 || at < 0 || len(fields) != len(names) {
			return 0, fmt.Errorf("no columns shmid and %s", name)
		}
		if fields[id] == strconv.Itoa(shmid) {
			return strconv.ParseUint(fields[at], 10, 64)
		}
	}
	return 0, fmt.Errorf("no segment %d", shmid)
}
