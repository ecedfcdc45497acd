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

// A process is one that has an object mapped or open.
type process struct {
	Pid         int      `json:"pid"`
	Command     string   `json:"command"`
	Addresses   []uint64 `json:"addresses"`
	Descriptors []int    `json:"descriptors"`

	spans []span
}

// String returns a process as list shows it. A process that has a file open,
// but not mapped, can still read and write it.
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
	key                uint32 // of a segment, also after its removal
}

// A backing is what lies behind a mapping or a descriptor: the device and the
// inode of a file, or sysv and the id of a segment. In maps a segment's inode
// is its id.
type backing struct{ dev, inode uint64 }

const sysv = ^uint64(0) // no device has this number

// A survey says which processes have which objects, as far as this process may
// see.
type survey struct {
	namespace string         // the IPC namespace of this process
	others    map[string]int // other namespaces, each with a pid in it
	hidden    []string       // pids that this process may not look into
	elsewhere int            // a pid of this namespace with another /dev/shm
	users     map[backing][]process
	nameless  map[backing]*nameless

	shm    uint64   // the device of /dev/shm
	kernel []uint64 // the devices of files that have no name in a directory
	marks  [][]byte // all these devices, as maps has them

	whole bool // no process was missed
}

// scan looks at every process once. 2,000 processes take half a second. It
// counts segments only in processes of this IPC namespace: in another, the same
// key and the same id are another segment. Files are the same in all.
func scan() (*survey, error) {
	own, err := os.Readlink("/proc/self/ns/ipc")
	if err != nil {
		return nil, fmt.Errorf("cannot see which processes use what: %w", err)
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
	// If /proc is mounted with hidepid, the processes of other users cannot be
	// seen. Process 1 is one of them.
	_, err = os.Stat("/proc/1")
	// The first PID namespace has all processes. Its number never changes.
	in, _ := os.Readlink("/proc/self/ns/pid")
	s.whole = err == nil && s.hidden == nil && in == "pid:[4026531836]"
	for _, all := range s.users {
		slices.SortFunc(all, func(a, b process) int {
			return cmp.Compare(a.Pid, b.Pid)
		})
	}
	return s, nil
}

// readMaps reads what a process has mapped, and its IPC namespace. It uses the
// same buffer for all processes. If the first thread has ended, it reads both
// from another thread. dir is where it has read them.
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

// kernelThread tells whether a process that we may not look into is a thread
// of the kernel. Such a thread maps nothing. See PF_KTHREAD in the kernel's
// sched.h.
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

// commandOf returns the name of the program that a process runs. It is ? if
// /proc is mounted with hidepid, or if the process has ended.
func commandOf(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return "?"
	}
	return printable(strings.TrimSuffix(string(text), "\n"))
}

// hiddenFrom says that we could not look into some processes, and who can.
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

// where returns the namespace of this process, and the others, each with a
// process that is in it.
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

// inode returns the number in a link such as ipc:[4026531839].
func inode(link string) uint64 {
	n, _ := strconv.ParseUint(strings.Trim(link, "ipc:[]"), 10, 64)
	return n
}

// of returns the processes that have an object. A removed segment has no key
// any more, but maps still shows the old key. So only its id is compared.
func (s *survey) of(o *object) []process {
	all := s.users[o.backing]
	if o.Key == nil || *o.Key == 0 {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), func(p process) bool {
		return p.spans[0].key != *o.Key
	})
}
