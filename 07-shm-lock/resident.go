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
// RAM, whichever process brought them there. A container may hide the table,
// and a kernel may have no such column: then it says so.
func show(when string, shmid int) {
	var rss uint64
	table, err := os.ReadFile("/proc/sysvipc/shm")
	if err == nil {
		rss, err = column(string(table), shmid, "rss")
	}
	if err != nil {
		ipc.Note("resident %s: not known: %v", when, err)
		return
	}
	ipc.Note("resident %s: %d bytes", when, rss)
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
			return 0, fmt.Errorf("no columns shmid and %s in /proc/sysvipc/shm",
				name)
		}
		if fields[id] == strconv.Itoa(shmid) {
			return strconv.ParseUint(fields[at], 10, 64)
		}
	}
	return 0, fmt.Errorf("no segment %d in /proc/sysvipc/shm", shmid)
}
