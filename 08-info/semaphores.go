//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A semSet is a set of System V semaphores. Values are null in JSON where this
// process may not read them.
type semSet struct {
	Key       uint32      `json:"key"`
	ID        int         `json:"id"`
	Owner     string      `json:"owner"`
	UID       uint32      `json:"uid"`
	Mode      uint32      `json:"mode"`
	ModeOctal string      `json:"mode_octal"`
	Count     uint64      `json:"count"`
	Values    []semaphore `json:"semaphores"`
	Operated  *time.Time  `json:"last_operation"`
	Changed   *time.Time  `json:"last_change"`
}

// A semaphore is one of a set.
type semaphore struct {
	Value    int   `json:"value"`
	Waiting  int   `json:"waiting"`      // until it is greater
	Zero     int   `json:"waiting_zero"` // until it is 0
	LastPid  int   `json:"last_pid"`
	LastRuns *bool `json:"last_runs"`

	last string // the pid, and the command if it runs
}

// Commands of semctl(2) about one semaphore, from <linux/sem.h>.
const (
	semGetPid  = 11 // GETPID
	semGetVal  = 12 // GETVAL
	semGetNcnt = 14 // GETNCNT
	semGetZcnt = 15 // GETZCNT
)

// semaphoreSets reads the table of /proc: key, semid, perms, nsems, uid, gid,
// cuid, cgid, otime, ctime. Everybody may read the table, but not the values.
// A container may hide the table. Then nothing is known about the sets.
func semaphoreSets() ([]*semSet, error) {
	text, err := os.ReadFile("/proc/sysvipc/sem")
	if err != nil {
		return nil, fmt.Errorf("semaphore sets are not known: %w", err)
	}
	all := []*semSet{}
	for line := range strings.Lines(string(text)) {
		var signed, gid, cuid, cgid, otime, changed int64
		s := new(semSet)
		n, _ := fmt.Sscanf(line, "%d %d %o %d %d %d %d %d %d %d", &signed,
			&s.ID, &s.Mode, &s.Count, &s.UID, &gid, &cuid, &cgid, &otime,
			&changed)
		if n < 10 {
			continue // the heading
		}
		s.Key, s.Mode = uint32(signed), s.Mode&0o777
		s.Owner, s.ModeOctal = userName(s.UID), fmt.Sprintf("%04o", s.Mode)
		s.Operated, s.Changed = unixTime(otime), unixTime(changed)
		if s.read() != nil {
			s.Values = nil // we may not read them, or the set has just gone
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *semSet) int {
		return cmp.Or(cmp.Compare(a.Key-1, b.Key-1), cmp.Compare(a.ID, b.ID))
	})
	return all, nil
}

// read asks for each semaphore in turn. They may change meanwhile.
func (s *semSet) read() error {
	s.Values = nil
	for num := range int(s.Count) {
		var v semaphore
		var failed [4]error
		v.Value, failed[0] = semctl(s.ID, num, semGetVal, nil)
		v.Waiting, failed[1] = semctl(s.ID, num, semGetNcnt, nil)
		v.Zero, failed[2] = semctl(s.ID, num, semGetZcnt, nil)
		v.LastPid, failed[3] = semctl(s.ID, num, semGetPid, nil)
		if err := cmp.Or(failed[:]...); err != nil {
			return err
		}
		v.LastRuns = runs(v.LastPid)
		if v.LastPid != 0 {
			v.last = "last " + state(v.LastPid, v.LastRuns)
		}
		s.Values = append(s.Values, v)
	}
	return nil
}

// semctl is semctl(2), which golang.org/x/sys/unix lacks.
func semctl(semid, num, cmd int, arg unsafe.Pointer) (int, error) {
	n, _, errno := unix.Syscall6(unix.SYS_SEMCTL, uintptr(semid),
		uintptr(num), uintptr(cmd), uintptr(arg), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// used returns when anything last happened to the set.
func (s *semSet) used() *time.Time { return latest(s.Operated, s.Changed) }

// waiting is how many wait for any of them.
func (s *semSet) waiting() (n int) {
	for _, v := range s.Values {
		n += v.Waiting + v.Zero
	}
	return n
}

// String returns the name that messages use for the set.
func (s *semSet) String() string {
	return "semaphore set " + strconv.Itoa(s.ID)
}

// row returns the set's line in the table.
func (s *semSet) row(now time.Time) row {
	r := row{what: s.String(), cells: []string{fmt.Sprintf("0x%08x", s.Key),
		strconv.Itoa(s.ID), s.Owner, s.ModeOctal, fmt.Sprint(s.Count), "?",
		age(s.Operated, now), age(s.Changed, now)}, status: "?"}
	if s.Values == nil {
		return r
	}
	var values []string
	for _, v := range s.Values {
		values = append(values, strconv.Itoa(v.Value))
		if v.last != "" && !slices.Contains(r.processes, v.last) {
			r.processes = append(r.processes, v.last)
		}
	}
	r.cells[5], r.status = strconv.Itoa(s.waiting()), strings.Join(values, " ")
	return r
}
