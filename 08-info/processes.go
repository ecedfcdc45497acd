//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
)

// A process that has an object mapped, and where, or has it open.
type process struct {
	Pid         int      `json:"pid"`
	Command     string   `json:"command"`
	Addresses   []uint64 `json:"addresses"`
	Descriptors []int    `json:"descriptors"`

	spans []span
}

// String is how the list shows a process. One that has a file only open, and
// not mapped, may read and write it all the same.
func (p process) String() string {
	text := fmt.Sprintf("%d %s", p.Pid, p.Command)
	if len(p.spans) == 0 && len(p.Descriptors) > 0 {
		text += " (open)"
	}
	return text
}

// A span is one mapping: a line of /proc/PID/maps.
type span struct {
	start, end, offset uint64
	perms              string
	key                uint32 // of a segment, before it was removed
}

// A backing is what lies behind a mapping or a descriptor: the device and the
// inode of a file; or sysv and the id of a segment: its inode is the id.
type backing struct{ dev, inode uint64 }

const sysv = ^uint64(0) // no device

// A survey is who has what, as far as this process may see.
type survey struct {
	namespace string         // of IPC, that of this process
	others    map[string]int // namespaces, each with a pid of one in it
	hidden    []string       // processes that are not for us to look at
	elsewhere int            // one of this namespace with another /dev/shm
	users     map[backing][]process
	nameless  map[backing]*nameless

	shm    uint64   // the device of /dev/shm
	kernel []uint64 // the devices of what has no name in any directory
	marks  [][]byte // all of these

	whole bool // no process was missed
}

// scan looks at every process once: 2,000 of them take half a second.
// Segments are asked for only in processes of this IPC namespace: in others,
// the same key and the same id are another segment. Files are the same in all.
func scan() (*survey, error) {
	own, err := os.Readlink("/proc/self/ns/ipc")
	if err != nil {
		return nil, fmt.Errorf("no way to tell who uses what: %w", err)
	}
	names, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	s := &survey{namespace: own, others: map[string]int{},
		users: map[backing][]process{}, nameless: map[backing]*nameless{},
		shm: shmDevice(""), kernel: kernelDevices()}
	s.marks = marks(append(s.kernel, s.shm)...)
	var maps bytes.Buffer
	for _, name := range names {
		pid, err := strconv.Atoi(name.Name())
		if err != nil {
			continue
		}
		dir, in, err := readMaps("/proc/"+name.Name(), &maps)
		switch {
		case errors.Is(err, fs.ErrPermission):
			if !kernelThread(name.Name()) {
				s.hidden = append(s.hidden, name.Name())
			}
			continue
		case err != nil:
			continue // it has ended
		}
		if in != own && (s.others[in] == 0 || pid < s.others[in]) {
			s.others[in] = pid
		}
		if maps.Len() == 0 {
			continue // a thread of the kernel, or a zombie
		}
		dev := shmDevice(dir + "/root")
		if in == own && dev != 0 && dev != s.shm {
			s.elsewhere = pid
		}
		found := map[backing]*process{}
		s.addMaps(found, dir, maps.Bytes(), in == own)
		s.addDescriptors(found, dir)
		for b, p := range found {
			p.Pid, p.Command = pid, commandOf(pid)
			s.users[b] = append(s.users[b], *p)
		}
	}
	// Where /proc is mounted with hidepid, the processes of others are not to
	// be seen, the first one included.
	_, err = os.Stat("/proc/1")
	// The first PID namespace has all processes. Its number is fixed.
	in, _ := os.Readlink("/proc/self/ns/pid")
	s.whole = err == nil && s.hidden == nil && in == "pid:[4026531836]"
	for _, all := range s.users {
		slices.SortFunc(all, func(a, b process) int {
			return cmp.Compare(a.Pid, b.Pid)
		})
	}
	return s, nil
}

// readMaps reads what a process has mapped, into a buffer that is used again,
// and its IPC namespace. If its first thread has ended, the others still have
// both; dir is where.
func readMaps(process string, maps *bytes.Buffer) (dir, in string, err error) {
	in, err = readThread(process, maps)
	if err != nil && !errors.Is(err, fs.ErrNotExist) || maps.Len() > 0 {
		return process, in, err
	}
	threads, _ := os.ReadDir(process + "/task")
	for _, t := range threads {
		dir = process + "/task/" + t.Name()
		in, err = readThread(dir, maps)
		if err == nil && maps.Len() > 0 {
			break
		}
	}
	return dir, in, err
}

func readThread(dir string, maps *bytes.Buffer) (in string, err error) {
	maps.Reset()
	in, err = os.Readlink(dir + "/ns/ipc")
	if err != nil {
		return "", err
	}
	f, err := os.Open(dir + "/maps")
	if err != nil {
		return "", err
	}
	defer f.Close()
	_, err = maps.ReadFrom(f)
	return in, err
}

// kernelThread tells that of a process of which no more is to be seen: such
// a thread maps nothing. See PF_KTHREAD in the kernel's sched.h.
func kernelThread(pid string) bool {
	text, _ := os.ReadFile("/proc/" + pid + "/stat")
	name := bytes.LastIndexByte(text, ')') // it may have spaces, and ")"
	fields := strings.Fields(string(text[name+1:]))
	if len(fields) < 7 {
		return false
	}
	flags, _ := strconv.ParseUint(fields[6], 10, 32)
	return flags&0x00200000 != 0
}

// commandOf is the name of the program that a process runs; ? if /proc has
// hidepid, or if the process has ended.
func commandOf(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return "?"
	}
	return printable(strings.TrimSuffix(string(text), "\n"))
}

// hiddenFrom says that processes could not be looked into, and who could.
func hiddenFrom(pids []string) string {
	if pids == nil {
		return "there may be more that are not to be seen here, in another " +
			"PID namespace or by hidepid"
	}
	text := fmt.Sprintf("there may be more: no right to look into %d of the "+
		"processes here: %s", len(pids), some(pids, 20))
	if os.Geteuid() != 0 {
		text += "; root has it"
	}
	return text
}

// where is the namespace of this process, and the others with ways into them.
func (s *survey) where() namespace {
	n := namespace{inode(s.namespace), []entry{}}
	for other, pid := range s.others {
		n.Others = append(n.Others, entry{inode(other), pid})
	}
	slices.SortFunc(n.Others, func(a, b entry) int {
		return cmp.Compare(a.Pid, b.Pid)
	})
	return n
}

// inode reads that of ipc:[4026531839].
func inode(link string) uint64 {
	n, _ := strconv.ParseUint(strings.Trim(link, "ipc:[]"), 10, 64)
	return n
}

// of returns who has an object. A segment that has been removed has lost its
// key, while maps keeps it: that one is known by its id alone.
func (s *survey) of(o *object) []process {
	all := s.users[o.backing]
	if o.Key == nil || *o.Key == 0 {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), func(p process) bool {
		return p.spans[0].key != *o.Key
	})
}
