//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Commands of shmctl(2) that golang.org/x/sys/unix lacks, from <linux/shm.h>.
// SHM_INFO returns the highest index in use. SHM_STAT_ANY returns the id of the
// segment at an index.
const (
	shmInfo    = 14 // SHM_INFO
	shmStatAny = 15 // SHM_STAT_ANY
)

const ( // bits of a segment's mode besides the permissions
	shmDest   = 0o1000 // removed, and freed after the last detach
	shmLocked = 0o2000 // its pages are not swapped out
)

// A segment is what the kernel knows about a segment.
type segment struct {
	id int
	unix.SysvShmDesc
}

// segments returns all segments of this IPC namespace.
func segments() (all []segment, err error) {
	for range 100 {
		all, counted, err := askEachIndex()
		if err != nil || len(all) > 0 || counted == 0 {
			return all, err
		}
		// None of those that SHM_INFO counts: they have just gone, or
		// EINVAL does not mean "none at this index". Look again.
	}
	return nil, errors.New("shmctl SHM_STAT_ANY finds no segment, and " +
		"SHM_INFO counts some: it needs Linux 4.17")
}

// askEachIndex asks for one index after the other. Segments come and go
// meanwhile, so what it returns may never have existed at one moment.
func askEachIndex() (all []segment, counted int32, err error) {
	var buf unix.SysvShmDesc // has room for the smaller struct shm_info
	highest, err := unix.SysvShmCtl(0, shmInfo, &buf)
	if err != nil {
		return nil, 0, fmt.Errorf("shmctl SHM_INFO: %w", err)
	}
	counted = (*shmUsage)(unsafe.Pointer(&buf)).used
	for index := range highest + 1 {
		var ds unix.SysvShmDesc
		shmid, err := unix.SysvShmCtl(index, shmStatAny, &ds)
		if gone(err) {
			continue // there is none at this index
		} else if err != nil {
			return nil, 0, fmt.Errorf("shmctl SHM_STAT_ANY index %d: %w",
				index, err)
		}
		all = append(all, segment{shmid, ds})
	}
	return all, counted, nil
}

// A resident is how many bytes of a segment are in memory and in swap. shmctl
// does not tell that of one segment. The table of /proc does.
type resident struct{ rss, swap *uint64 }

// residents reads that table. Its columns are key, shmid, ... and at the end
// rss and swap. If it cannot be read, nothing is known.
func residents() map[int]resident {
	text, _ := os.ReadFile("/proc/sysvipc/shm")
	known := map[int]resident{}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 16 || fields[0] == "key" { // the heading
			continue
		}
		shmid, _ := strconv.Atoi(fields[1])
		rss, _ := strconv.ParseUint(fields[14], 10, 64)
		swap, _ := strconv.ParseUint(fields[15], 10, 64)
		known[shmid] = resident{&rss, &swap}
	}
	return known
}

// object returns a segment as list shows it. Its processes are not known yet.
func (s segment) object() *object {
	o := &object{
		Kind: kindSegment, Key: new(uint32(s.Perm.Key)), ID: &s.id,
		UID: &s.Perm.Uid, Mode: new(s.Perm.Mode & 0o777), Bytes: s.Segsz,
		Attaches: &s.Nattch, Attached: unixTime(s.Atime),
		Detached: unixTime(s.Dtime), Changed: unixTime(s.Ctime),
		Creator: &s.Cpid, LastPid: &s.Lpid,
		backing: backing{sysv, uint64(s.id)},
	}
	if s.Perm.Mode&shmDest != 0 {
		o.Status = append(o.Status, "dest")
	}
	if s.Perm.Mode&shmLocked != 0 {
		o.Status = append(o.Status, "locked")
	}
	return o
}
