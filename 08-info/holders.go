//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A nameless is shared memory that has no name in a directory: a POSIX object
// that was unlinked, a memfd, or shared anonymous memory. Only processes have
// it.
type nameless struct {
	path string        // its name in maps and in the links of fd
	stat *unix.Statx_t // nil: we may not ask
	end  uint64        // the end of the longest mapping, if stat is nil
}

const deleted = " (deleted)"

// kernelDevices returns the devices of the files that the kernel itself makes,
// for segments, memfds and shared anonymous memory, also in huge pages. If a
// user has a file with a name such as /SYSV…, it is on another device.
func kernelDevices() (all []uint64) {
	for _, kind := range []int{0, unix.MFD_HUGETLB | unix.MFD_HUGE_2MB,
		unix.MFD_HUGETLB | unix.MFD_HUGE_1GB, unix.MFD_HUGETLB} {
		var st unix.Stat_t
		fd, err := unix.MemfdCreate(program, unix.MFD_CLOEXEC|kind)
		if err != nil {
			continue // this kernel has no huge pages of that size
		}
		if unix.Fstat(fd, &st) == nil && !slices.Contains(all, st.Dev) {
			all = append(all, st.Dev)
		}
		unix.Close(fd)
	}
	if all == nil {
		all = []uint64{unix.Mkdev(0, 1)} // the kernel mounts this one first
	}
	return all
}

// holder returns the process's entry for a backing. It creates the entry if
// there is none.
func holder(found map[backing]*process, b backing) *process {
	if found[b] == nil {
		found[b] = &process{Addresses: []uint64{}, Descriptors: []int{}}
	}
	return found[b]
}

// addMaps records what a process has mapped. A line of maps is: start-end,
// perms, offset, device, inode, path. The path of a segment is /SYSV, its key
// in hexadecimal, and always " (deleted)".
func (s *survey) addMaps(found map[backing]*process, dir string,
	maps []byte, inNamespace bool) {
	if !slices.ContainsFunc(append(s.kernel, s.shm), func(dev uint64) bool {
		return bytes.Contains(maps, fmt.Appendf(nil, " %02x:%02x ",
			unix.Major(dev), unix.Minor(dev)))
	}) {
		return // most processes have none, and this look is fast
	}
	for line := range strings.Lines(string(maps)) {
		f := strings.Fields(line)
		if len(f) < 6 {
			continue
		}
		var at span
		var b backing
		var major, minor uint32
		fmt.Sscanf(f[3], "%x:%x", &major, &minor)
		b.dev = unix.Mkdev(major, minor)
		b.inode, _ = strconv.ParseUint(f[4], 10, 64)
		if b.dev != s.shm && !slices.Contains(s.kernel, b.dev) {
			continue
		}
		fmt.Sscanf(line, "%x-%x %s %x", &at.start, &at.end, &at.perms,
			&at.offset)
		path := strings.Join(f[5:], " ")
		if strings.HasPrefix(path, "/SYSV") && b.dev != s.shm {
			if !inNamespace {
				continue
			}
			b.dev = sysv
		} else if strings.HasSuffix(path, deleted) {
			n := s.note(b, path)
			n.end = max(n.end, at.offset+at.end-at.start)
			n.ask(fmt.Sprintf("%s/map_files/%x-%x", dir, at.start, at.end))
		}
		p := holder(found, b)
		p.spans = append(p.spans, at)
		p.Addresses = append(p.Addresses, at.start)
	}
}

// addDescriptors records what a process has open. A mapping needs no
// descriptor: it stays when the descriptor is closed.
func (s *survey) addDescriptors(found map[backing]*process, dir string) {
	d, err := os.Open(dir + "/fd")
	if err != nil {
		return
	}
	defer d.Close()
	links, _ := d.Readdirnames(-1)
	at := int(d.Fd())
	for _, link := range links {
		// DONT_SYNC: a file may be on a server that does not answer.
		var st unix.Statx_t
		if unix.Statx(at, link, unix.AT_STATX_DONT_SYNC,
			unix.STATX_BASIC_STATS, &st) != nil ||
			st.Mode&unix.S_IFMT != unix.S_IFREG {
			continue
		}
		b := backing{unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino}
		if b.dev != s.shm && !slices.Contains(s.kernel, b.dev) {
			continue
		}
		if st.Nlink == 0 {
			path, err := os.Readlink(dir + "/fd/" + link)
			if err != nil || strings.HasPrefix(path, "/SYSV") {
				continue
			}
			s.note(b, path).stat = &st
		}
		p := holder(found, b)
		fd, _ := strconv.Atoi(link)
		p.Descriptors = append(p.Descriptors, fd)
	}
}

// note returns the entry of something nameless. It creates the entry if there
// is none.
func (s *survey) note(b backing, path string) *nameless {
	if s.nameless[b] == nil {
		s.nameless[b] = &nameless{path: strings.TrimSuffix(path, deleted)}
	}
	return s.nameless[b]
}

// ask asks for the file behind a mapping, unless it is known. Only root may do
// that.
func (n *nameless) ask(link string) {
	var st unix.Statx_t
	if n.stat == nil && unix.Statx(unix.AT_FDCWD, link,
		unix.AT_STATX_DONT_SYNC, unix.STATX_BASIC_STATS, &st) == nil {
		n.stat = &st
	}
}

// objects are those that have no name any more, or never had one. The first are
// POSIX objects that were removed; they are shown with their old names. The
// others are memfds and shared anonymous memory, which only list -all shows.
//
// An object may have had two names, and have lost one: it is among the named.
// sem_open(3) makes a semaphore under another name, links it to its own name,
// and unlinks the first.
func (s *survey) objects(withName []*object, all bool) (found []*object) {
	for _, o := range withName {
		delete(s.nameless, o.backing)
	}
	for b, n := range s.nameless {
		o := &object{Kind: kindAnonymous, Inode: &b.inode, backing: b,
			Bytes: n.end}
		title := "anonymous"
		memfd, isMemfd := strings.CutPrefix(n.path, "/memfd:")
		switch {
		case b.dev == s.shm:
			title = strings.TrimPrefix(n.path, shmDir)
			o.Kind, o.Status = kindOf(title), []string{"removed"}
		case isMemfd:
			o.Kind, title = kindMemfd, "memfd:"+memfd
		case n.path != "/dev/zero": // prctl(2) may have given it a name
			title = n.path
		}
		if !all && b.dev != s.shm || n.stat != nil && n.stat.Nlink > 0 {
			continue // not asked for, or a file that has a name after all
		}
		o.Name = &title
		if st := n.stat; st != nil {
			o.UID, o.Mode = &st.Uid, new(uint32(st.Mode&0o777))
			o.Bytes, o.Resident = st.Size, new(st.Blocks*512)
			o.Changed = unixTime(max(st.Mtime.Sec, st.Ctime.Sec))
		}
		found = append(found, o)
	}
	// The one that has most memory comes first.
	memory := func(o *object) uint64 { return *cmp.Or(o.Resident, &o.Bytes) }
	slices.SortFunc(found, func(a, b *object) int {
		return cmp.Or(strings.Compare(a.Kind, b.Kind),
			cmp.Compare(memory(b), memory(a)), cmp.Compare(*a.Inode, *b.Inode))
	})
	return found
}
