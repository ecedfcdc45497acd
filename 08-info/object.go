//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"cmp"
	"fmt"
	"log"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The kinds of object.
const (
	kindSegment   = "segment"         // of System V
	kindPOSIX     = "posix"           // shared memory
	kindSemaphore = "posix semaphore" // in shared memory, too
	kindMemfd     = "memfd"           // see memfd_create(2)
	kindAnonymous = "anonymous"       // MAP_SHARED without a file, for children
)

// An object is a segment, a POSIX object or other shared memory. A field that
// its kind does not have, or that is not known, is nil, and null in JSON. The
// README describes the JSON.
type object struct {
	Kind        string     `json:"kind"`
	Key         *uint32    `json:"key"`
	ID          *int       `json:"id"`
	Name        *string    `json:"name"`
	Inode       *uint64    `json:"inode"`
	Owner       string     `json:"owner"`
	UID         *uint32    `json:"uid"`
	Mode        *uint32    `json:"mode"`
	ModeOctal   string     `json:"mode_octal"`
	Bytes       uint64     `json:"bytes"`
	Resident    *uint64    `json:"resident_bytes"`
	Swapped     *uint64    `json:"swapped_bytes"`
	Attaches    *uint64    `json:"attaches"`
	Processes   []process  `json:"processes"`
	Complete    bool       `json:"processes_complete"`
	Status      []string   `json:"status"`
	Attached    *time.Time `json:"last_attach"`
	Detached    *time.Time `json:"last_detach"`
	Changed     *time.Time `json:"last_change"`
	Creator     *int32     `json:"creator_pid"`
	LastPid     *int32     `json:"last_pid"`
	CreatorRuns *bool      `json:"creator_runs"`
	LastRuns    *bool      `json:"last_runs"`

	backing backing
	path    string     // of a POSIX object that has not been removed
	read    *time.Time // the same: the file's atime
	creator string     // if nobody is attached, and it runs or may run
}

// A snapshot is all that list shows.
type snapshot struct {
	Version    int       `json:"version"` // of this form: 2
	Time       time.Time `json:"time"`
	Namespace  namespace `json:"ipc_namespace"`
	Unreadable int       `json:"unreadable_processes"`
	Objects    []*object `json:"objects"`
	Sets       []*semSet `json:"semaphore_sets"`

	noSets error // why Sets is not known, and null
	survey *survey
}

// A namespace is an IPC namespace, and what is known about others. It is named
// by its inode.
type namespace struct {
	Inode  uint64  `json:"inode"`
	Others []entry `json:"others"`
}

// An entry is another namespace, with a process that is in it. nsenter(1) can
// enter the namespace by that pid.
type entry struct {
	Inode uint64 `json:"inode"`
	Pid   int    `json:"pid"`
}

// take looks at all objects first, and then at all processes. If a segment's
// attaches do not agree with the processes, it looks at the segment once more.
func take() (*snapshot, error) {
	all, err := segments()
	if err != nil {
		return nil, err
	}
	s := &snapshot{Version: 2, Time: time.Now().UTC().Truncate(time.Second),
		Objects: []*object{}}
	memory := residents()
	for _, one := range all {
		o := one.object()
		m := memory[one.id] // nil: made since, or not for us to know
		o.Resident, o.Swapped = m.rss, m.swap
		s.Objects = append(s.Objects, o)
	}
	slices.SortStableFunc(s.Objects, func(a, b *object) int {
		return cmp.Or(cmp.Compare(*a.Key-1, *b.Key-1), // without a key: last
			cmp.Compare(*a.ID, *b.ID))
	})
	s.Objects = append(s.Objects, posixObjects()...)
	s.Sets, s.noSets = semaphoreSets()

	processes, err := scan()
	if err != nil {
		return nil, err
	}
	s.Objects = append(s.Objects, processes.objects(s.Objects, showAll)...)
	s.Namespace = namespace{processes.namespace, processes.others}
	s.Unreadable, s.survey = len(processes.hidden), processes
	s.Objects = slices.DeleteFunc(s.Objects, func(o *object) bool {
		return !o.fillIn(processes)
	})
	return s, nil
}

// fillIn adds who has the object, and what follows from that. It returns
// whether the object is still there.
func (o *object) fillIn(s *survey) bool {
	o.Owner, o.ModeOctal = "?", "?"
	if o.UID != nil {
		o.Owner, o.ModeOctal = userName(*o.UID), fmt.Sprintf("%04o", *o.Mode)
	}
	o.Status = append([]string{}, o.Status...)
	o.Processes = append([]process{}, s.users[o.backing]...)
	n := uint64(0)
	for _, p := range o.Processes {
		n += uint64(len(p.spans))
	}
	if o.Kind == kindSegment {
		if *o.Attaches != n {
			ds, err := look(*o.ID)
			if gone(err) {
				return false
			} else if err == nil {
				o.Attaches = &ds.Nattch
			}
		}
		o.Complete = n >= *o.Attaches
		o.CreatorRuns = runs(int(*o.Creator))
		o.LastRuns = runs(int(*o.LastPid))
		if *o.Attaches == 0 && (o.CreatorRuns == nil || *o.CreatorRuns) {
			o.creator = "creator " + state(int(*o.Creator), o.CreatorRuns)
		}
	} else if o.Complete = s.whole; o.Complete {
		o.Attaches = &n
	}
	if !o.inUse() && o.Attaches != nil {
		o.Status = append(o.Status, "unused")
	}
	return true
}

// inUse tells whether a process is known to have the object.
func (o *object) inUse() bool {
	return len(o.Processes) > 0 || o.Attaches != nil && *o.Attaches > 0
}

// attached says, on standard error, which processes have the object mapped,
// and where.
func attached(o *object) error {
	s, err := scan()
	if err != nil {
		return err
	}
	if !o.fillIn(s) {
		return nil // it has gone meanwhile
	}
	for _, p := range o.Processes {
		for _, at := range p.spans {
			fmt.Fprintf(os.Stderr, "attached: %d %s at %#x to %#x, %s\n",
				p.Pid, p.Command, at.start, at.end, at.perms)
		}
		for _, fd := range p.Descriptors {
			fmt.Fprintf(os.Stderr, "open: %d %s as descriptor %d\n",
				p.Pid, p.Command, fd)
		}
	}
	if !o.Complete {
		log.Printf("there may be more: %s", s.unseen())
	}
	return nil
}

// used returns when anything last happened to the object. For a file that
// proves little: access to a mapping changes no time, nor does every read.
func (o *object) used() *time.Time {
	return latest(o.read, o.Attached, o.Detached, o.Changed)
}

// latest returns the last of the times that are known.
func latest(all ...*time.Time) (last *time.Time) {
	for _, t := range all {
		if t != nil && (last == nil || t.After(*last)) {
			last = t
		}
	}
	return last
}

// title returns the key or the name.
func (o *object) title() string {
	if o.Name != nil {
		return printable(*o.Name)
	}
	return fmt.Sprintf("0x%08x", *o.Key)
}

// String returns the name that messages use for the object.
func (o *object) String() string {
	switch {
	case o.Name == nil:
		return "segment " + strconv.Itoa(*o.ID)
	case o.path == "": // others may have had the same name
		return fmt.Sprintf("%s %s (inode %d)", o.Kind, o.title(), *o.Inode)
	}
	return o.Kind + " " + o.title()
}

// row returns the object's line in the table.
func (o *object) row(now time.Time) row {
	attaches := count(o.Attaches)
	if o.Attaches == nil {
		attaches = "?"
	}
	r := row{
		what: o.String(),
		cells: []string{o.title(), count(o.ID), o.Owner, o.ModeOctal,
			count(&o.Bytes), count(o.Resident), count(o.Swapped), attaches,
			age(o.used(), now)},
		status: strings.Join(o.Status, ","),
		more:   !o.Complete,
	}
	for _, p := range o.Processes {
		r.processes = append(r.processes, p.String())
	}
	if o.creator != "" {
		r.processes = append(r.processes, o.creator)
	}
	return r
}

// count returns a number as text. It is - if the number is not known.
func count[N int | uint64](n *N) string {
	if n == nil {
		return "-"
	}
	return strconv.FormatUint(uint64(*n), 10)
}

// unixTime converts a time of the kernel. The kernel has 0 for never.
func unixTime(seconds int64) *time.Time {
	if seconds == 0 {
		return nil
	}
	return new(time.Unix(seconds, 0).UTC())
}

// age returns how long ago something was, in at most four letters.
func age(t *time.Time, now time.Time) string {
	if t == nil {
		return "-"
	}
	n, unit := max(0, now.Unix()-t.Unix()), "s"
	for _, next := range []struct {
		size int64
		unit string
	}{{60, "m"}, {60, "h"}, {24, "d"}, {365, "y"}} {
		if n < next.size {
			break
		}
		n, unit = n/next.size, next.unit
	}
	return fmt.Sprint(n, unit)
}

// shmDevice returns the device of /dev/shm below a root. It is 0 if there is
// none.
func shmDevice(root string) uint64 {
	var st unix.Stat_t
	unix.Stat(root+shmDir, &st)
	return st.Dev
}
