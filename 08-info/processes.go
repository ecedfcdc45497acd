//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"
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
}

// A backing is what lies behind a mapping or a descriptor: the device and the
// inode of a file, or sysv and the id of a segment. In maps a segment's inode
// is its id.
type backing struct{ dev, inode uint64 }

const sysv = ^uint64(0) // no device has this number

// A survey says which processes have which objects, as far as this process may
// see.
type survey struct {
	namespace uint64   // of IPC, that of this process
	others    []entry  // namespaces
	hidden    []string // processes that this one may not look into
	elsewhere int      // one of this namespace with another /dev/shm
	users     map[backing][]process
	nameless  map[backing]*nameless

	shm    uint64   // the device of /dev/shm
	kernel []uint64 // the devices of what has no name in any directory

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
	proc, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer proc.Close()
	names, _ := proc.Readdirnames(-1) // in the order of the pids
	s := &survey{namespace: inode(own), others: []entry{},
		users: map[backing][]process{}, nameless: map[backing]*nameless{},
		shm: shmDevice(""), kernel: kernelDevices()}
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			s.lookInto(pid)
		}
	}
	// If /proc is mounted with hidepid, the processes of other users cannot be
	// seen. Process 1 is one of them.
	_, err = os.Stat("/proc/1")
	// The first PID namespace has all processes. Its number never changes.
	in, _ := os.Readlink("/proc/self/ns/pid")
	s.whole = err == nil && s.hidden == nil && in == "pid:[4026531836]"
	return s, nil
}

// lookInto notes what a process has.
func (s *survey) lookInto(pid int) {
	dir, in, maps, err := readMaps(pid)
	if errors.Is(err, fs.ErrPermission) && !kernelThread(pid) {
		s.hidden = append(s.hidden, strconv.Itoa(pid))
	}
	if err != nil { // not for this process to see, or it has ended
		return
	}
	if in != s.namespace && !slices.ContainsFunc(s.others, func(e entry) bool {
		return e.Inode == in
	}) {
		s.others = append(s.others, entry{in, pid})
	}
	if len(maps) == 0 {
		return // a thread of the kernel, or a zombie
	}
	dev := shmDevice(dir + "/root")
	if in == s.namespace && dev != 0 && dev != s.shm {
		s.elsewhere = pid
	}
	found := map[backing]*process{}
	s.addMaps(found, dir, maps, in == s.namespace)
	if pid != os.Getpid() { // a shell may have redirected this program
		s.addDescriptors(found, dir)
	}
	for b, p := range found {
		p.Pid, p.Command = pid, commandOf(pid)
		s.users[b] = append(s.users[b], *p)
	}
}

// readMaps reads what a process has mapped, and its IPC namespace. If its first
// thread has ended, the others still have both. Then dir is the directory of
// one of those, else that of the process.
func readMaps(pid int) (dir string, in uint64, maps []byte, err error) {
	dir = fmt.Sprintf("/proc/%d", pid)
	in, maps, err = readThread(dir)
	if len(maps) > 0 || errors.Is(err, fs.ErrPermission) {
		return dir, in, maps, err
	}
	threads, _ := filepath.Glob(dir + "/task/*")
	for _, dir = range threads {
		in, maps, err = readThread(dir)
		if len(maps) > 0 {
			break
		}
	}
	return dir, in, maps, err
}

func readThread(dir string) (in uint64, maps []byte, err error) {
	link, err := os.Readlink(dir + "/ns/ipc")
	if err == nil {
		maps, err = os.ReadFile(dir + "/maps")
	}
	return inode(link), maps, err
}

// kernelThread tells whether a process that may not be looked into is a thread
// of the kernel. Such a thread maps nothing. See PF_KTHREAD in the kernel's
// sched.h.
func kernelThread(pid int) bool {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	end := bytes.LastIndexByte(text, ')') // of its name, which may have one
	fields := strings.Fields(string(text[end+1:]))
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

// state returns a process that used an object, and its command if it runs.
func state(pid int, runs *bool) string {
	switch {
	case runs == nil:
		return "?"
	case *runs:
		return fmt.Sprintf("%d %s", pid, commandOf(pid))
	}
	return fmt.Sprintf("%d (ended)", pid)
}

// unseen says which processes could not be looked into.
func (s *survey) unseen() string {
	if s.hidden == nil {
		return "processes of other PID namespaces, and those that hidepid " +
			"hides, are not to be seen here"
	}
	text := fmt.Sprintf("no right to look into %d of the processes here: "+
		"pid %s", len(s.hidden), some(s.hidden, 20))
	if os.Geteuid() != 0 {
		text += "; root has it"
	}
	return text
}

// warnOfOtherShm says that processes of this IPC namespace have another
// /dev/shm, as after nsenter --ipc.
func (s *survey) warnOfOtherShm() {
	if s.elsewhere != 0 {
		log.Printf("/dev/shm is another one for process %d of this IPC "+
			"namespace: nsenter -t %[1]d --ipc --mount --pid", s.elsewhere)
	}
}

// inode returns the number in a link such as ipc:[4026531839].
func inode(link string) uint64 {
	n, _ := strconv.ParseUint(strings.Trim(link, "ipc:[]"), 10, 64)
	return n
}
