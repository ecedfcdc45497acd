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

	"golang.org/x/sys/unix"
)

// A process that has an object mapped, and where.
type process struct {
	Pid       int      `json:"pid"`
	Command   string   `json:"command"`
	Addresses []uint64 `json:"addresses"`

	spans []span
}

// A span is one mapping: a line of /proc/PID/maps.
type span struct {
	start, end, offset uint64
	perms              string
	key                uint32 // of a segment, before it was removed
}

// A backing is what lies behind a mapping: the device and the inode of a
// file; or sysv and the id of a segment, for that is what its inode is.
type backing struct{ dev, inode uint64 }

const sysv = ^uint64(0) // no device

// A survey is who has what mapped, as far as this process may see.
type survey struct {
	namespace string         // of IPC, that of this process
	others    map[string]int // namespaces, each with a pid of one in it
	hidden    int            // processes that are not for us to look at
	mapped    map[backing][]process

	whole   bool // no process of this PID namespace was missed
	outside bool // there may be processes outside of it
}

// scan looks at every process once, at most 2,000 of them in some 100 ms.
// Segments are asked for only in processes of this IPC namespace: in others,
// the same key and the same id are another segment. Files of the device shm
// are the same in all.
func scan(shm uint64) (*survey, error) {
	own, err := os.Readlink("/proc/self/ns/ipc")
	if err != nil {
		return nil, fmt.Errorf("no way to tell who uses what: %w", err)
	}
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	s := &survey{namespace: own, others: map[string]int{},
		mapped: map[backing][]process{}}
	file := fmt.Sprintf(" %02x:%02x ", unix.Major(shm), unix.Minor(shm))
	text := new(bytes.Buffer)
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		in, err := readMaps(text, "/proc/"+name)
		switch {
		case errors.Is(err, fs.ErrPermission):
			if !kernelThread(name) {
				s.hidden++
			}
			continue
		case err != nil:
			continue // it has ended
		}
		if in != own && (s.others[in] == 0 || pid < s.others[in]) {
			s.others[in] = pid
		}
		if bytes.Contains(text.Bytes(), []byte(file)) ||
			in == own && bytes.Contains(text.Bytes(), []byte(" /SYSV")) {
			s.add(pid, text.String(), file, in == own)
		}
	}
	// Where /proc is mounted with hidepid, the processes of others are not to
	// be seen, the first one included.
	_, err = os.Stat("/proc/1")
	s.whole = err == nil && s.hidden == 0
	// The first PID namespace has all processes. Its number is fixed.
	in, _ := os.Readlink("/proc/self/ns/pid")
	s.outside = in != "pid:[4026531836]"
	for _, all := range s.mapped {
		slices.SortFunc(all, func(a, b process) int {
			return cmp.Compare(a.Pid, b.Pid)
		})
	}
	return s, nil
}

// readMaps reads what a process has mapped, and its IPC namespace. If its
// first thread has ended, the others still have both.
func readMaps(text *bytes.Buffer, dir string) (in string, err error) {
	in, err = readThread(text, dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) || text.Len() > 0 {
		return in, err
	}
	threads, _ := os.ReadDir(dir + "/task")
	for _, t := range threads {
		in, err = readThread(text, dir+"/task/"+t.Name())
		if err == nil && text.Len() > 0 {
			break
		}
	}
	return in, err
}

func readThread(text *bytes.Buffer, dir string) (in string, err error) {
	text.Reset()
	in, err = os.Readlink(dir + "/ns/ipc")
	if err == nil {
		err = read(text, dir+"/maps")
	}
	return in, err
}

// read is os.ReadFile into a buffer that is used again.
func read(text *bytes.Buffer, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	text.Reset()
	_, err = text.ReadFrom(f)
	return err
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

// add notes what a process has mapped. A line of maps is: start-end, perms,
// offset, device, inode, and the path, which is /SYSV and the key, in
// hexadecimal, of a segment. Each of these is said to be deleted.
func (s *survey) add(pid int, maps, file string, segments bool) {
	found := map[backing][]span{}
	for line := range strings.Lines(maps) {
		f := strings.Fields(line)
		isFile := strings.Contains(line, file)
		if len(f) < 6 || !isFile && (!segments ||
			!strings.HasPrefix(f[5], "/SYSV")) {
			continue
		}
		var at span
		var b backing
		fmt.Sscanf(line, "%x-%x %s %x", &at.start, &at.end, &at.perms,
			&at.offset)
		b.inode, _ = strconv.ParseUint(f[4], 10, 64)
		var major, minor uint32
		fmt.Sscanf(f[3], "%x:%x", &major, &minor)
		b.dev = unix.Mkdev(major, minor)
		if !isFile {
			key, err := strconv.ParseUint(f[5][len("/SYSV"):], 16, 32)
			if err != nil {
				continue
			}
			b.dev, at.key = sysv, uint32(key)
		}
		found[b] = append(found[b], at)
	}
	for b, spans := range found {
		p := process{pid, commandOf(pid), nil, spans}
		for _, at := range spans {
			p.Addresses = append(p.Addresses, at.start)
		}
		s.mapped[b] = append(s.mapped[b], p)
	}
}

// commandOf is the name of the program that a process runs.
func commandOf(pid int) string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return printable(strings.TrimSuffix(string(text), "\n"))
}

// hiddenFrom says that processes could not be looked into, and who could.
func hiddenFrom(n int) string {
	if n == 0 {
		return "there may be more that are not to be seen here, in another " +
			"PID namespace or by hidepid"
	}
	text := fmt.Sprintf("there may be more: no right to look into %d of the "+
		"processes here", n)
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

// users returns who has an object mapped. A segment that has been removed
// has lost its key, while maps keeps it: that one is known by its id alone.
func (s *survey) users(o *object) []process {
	all := s.mapped[o.backing]
	if o.Key == nil || *o.Key == 0 {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), func(p process) bool {
		return p.spans[0].key != *o.Key
	})
}
