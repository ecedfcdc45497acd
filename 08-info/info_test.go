//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	time.Local = time.UTC // so that no hour comes twice
	os.Exit(m.Run())
}

// Our structs have the offsets of the kernel's structs.
func TestLayout(t *testing.T) {
	var l shmLimits
	var u shmUsage
	for field, at := range map[string][2]uintptr{
		"shmmax":   {unsafe.Offsetof(l.max), 0},
		"shmmni":   {unsafe.Offsetof(l.mni), 16},
		"shmall":   {unsafe.Offsetof(l.all), 32},
		"shminfo":  {unsafe.Sizeof(l), 72},
		"used_ids": {unsafe.Offsetof(u.used), 0},
		"shm_tot":  {unsafe.Offsetof(u.tot), 8},
		"shm_rss":  {unsafe.Offsetof(u.rss), 16},
		"shm_swp":  {unsafe.Offsetof(u.swp), 24},
		"shm_info": {unsafe.Sizeof(u), 48},
	} {
		if at[0] != at[1] {
			t.Errorf("%s is %d, not %d", field, at[0], at[1])
		}
	}
	if unsafe.Sizeof(semLimits{}) != 40 {
		t.Error("struct seminfo has 40 bytes")
	}
	if unsafe.Sizeof(unix.SysvShmDesc{}) < unsafe.Sizeof(l) {
		t.Error("struct shminfo does not fit into struct shmid_ds")
	}
}

func TestCtime(t *testing.T) {
	for seconds, want := range map[int64]string{
		0:          "never",
		1:          "Thu Jan  1 00:00:01 1970",
		1765432109: "Thu Dec 11 05:48:29 2025",
		4102444799: "Thu Dec 31 23:59:59 2099",
	} {
		if got := ctime(seconds); got != want {
			t.Errorf("%d: %s, not %s", seconds, got, want)
		}
	}
}

// newSegment creates a segment that was used: two attaches, one detach, two
// pages touched.
func newSegment(t *testing.T) (shmid int) {
	shmid, err := unix.SysvShmGet(unix.IPC_PRIVATE, 50000, 0o640)
	if err != nil {
		t.Fatal(err)
	}
	var mem [2][]byte
	for i := range mem {
		if mem[i], err = unix.SysvShmAttach(shmid, 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { unix.SysvShmDetach(mem[0]) })
	mem[1][0], mem[1][49999] = 1, 1
	if err := unix.SysvShmDetach(mem[1]); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.SysvShmCtl(shmid, unix.IPC_RMID, nil) })
	return shmid
}

// block runs stat and returns the values of its lines, times in seconds.
func block(t *testing.T, shmid int) map[string]string {
	given.id, given.count = shmid, 1
	defer func() { given.id, given.count = -1, 0 }()
	var out bytes.Buffer
	if err := stat(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	if len(lines) != 9 || lines[0] != "=== Shared Memory Information ===" {
		t.Fatalf("printed\n%s", &out)
	}
	values := map[string]string{}
	for _, line := range lines[1:8] {
		name, value, _ := strings.Cut(line, ": ")
		if strings.HasSuffix(name, " time") {
			value = seconds(t, value)
		}
		values[name] = strings.TrimSuffix(value, " bytes")
	}
	return values
}

// seconds reads a time as C prints it. It returns 0 for never.
func seconds(t *testing.T, text string) string {
	if text == "never" || text == "Not set" {
		return "0"
	}
	at, err := time.Parse(time.ANSIC, text)
	if err != nil {
		t.Error(err)
	}
	return strconv.FormatInt(at.Unix(), 10)
}

// lineOf returns the words of a segment's line in a table.
func lineOf(t *testing.T, table string, shmid int) []string {
	for line := range strings.Lines(table) {
		words := strings.Fields(line)
		if len(words) > 1 && words[1] == strconv.Itoa(shmid) {
			return words
		}
	}
	t.Fatalf("no segment %d in\n%s", shmid, table)
	return nil
}

func same(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %s, not %s", what, got, want)
	}
}

// Every number is the same as in /proc/sysvipc/shm, before the removal of a
// segment and after it. After it the segment is marked and has no key.
func TestNumbers(t *testing.T) {
	shmid := newSegment(t)
	for _, removed := range []bool{false, true} {
		if removed {
			unix.SysvShmCtl(shmid, unix.IPC_RMID, nil)
		}
		text, err := os.ReadFile("/proc/sysvipc/shm")
		if err != nil {
			t.Skip(err)
		}
		heading := strings.Fields(strings.SplitN(string(text), "\n", 2)[0])
		want := map[string]string{}
		for i, word := range lineOf(t, string(text), shmid) {
			want[heading[i]] = word
		}

		got := block(t, shmid)
		same(t, "size", got["Segment size"], want["size"])
		same(t, "attached", got["Last attach time"], want["atime"])
		same(t, "detached", got["Last detach time"], want["dtime"])
		same(t, "nattch", got["Number of attached processes"], want["nattch"])
		same(t, "cpid", got["Creator PID"], want["cpid"])
		same(t, "lpid", got["Last operation PID"], want["lpid"])
		same(t, "mode", got["Permission mode"], want["perms"])

		o := listed(t, shmid)
		for what, number := range map[string][2]any{
			"uid":    {*o.UID, want["uid"]},
			"size":   {o.Bytes, want["size"]},
			"rss":    {*o.Resident, want["rss"]},
			"swap":   {*o.Swapped, want["swap"]},
			"nattch": {*o.Attaches, want["nattch"]},
			"cpid":   {*o.Creator, want["cpid"]},
			"lpid":   {*o.LastPid, want["lpid"]},
			"key":    {int32(*o.Key), want["key"]},
			"atime":  {o.Attached.Unix(), want["atime"]},
			"dtime":  {o.Detached.Unix(), want["dtime"]},
			"ctime":  {o.Changed.Unix(), want["ctime"]},
		} {
			same(t, what, fmt.Sprint(number[0]), fmt.Sprint(number[1]))
		}
		same(t, "dest", fmt.Sprint(o.Status), map[bool]string{
			false: "[]", true: "[dest]"}[removed])
		if len(o.Processes) != 1 || o.Processes[0].Pid != os.Getpid() {
			t.Errorf("attached: %v, not this process, once", o.Processes)
		}
	}
}

// listed returns a segment as list shows it in JSON.
func listed(t *testing.T, shmid int) *object {
	asJSON = true
	defer func() { asJSON = false }()
	var out bytes.Buffer
	if err := list(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	var s snapshot
	if err := json.Unmarshal(out.Bytes(), &s); err != nil {
		t.Fatal(err)
	}
	for _, o := range s.Objects {
		if o.ID != nil && *o.ID == shmid {
			return o
		}
	}
	t.Fatalf("no segment %d in %s", shmid, &out)
	return nil
}

// output returns what a program prints. Where there is no such program, it
// skips the test.
func output(t *testing.T, program string, args ...string) string {
	if _, err := exec.LookPath(program); err != nil {
		t.Skip("there is no " + program + " here")
	}
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "TZ=UTC", "LC_ALL=C")
	text, err := cmd.Output()
	if err != nil {
		t.Skipf("%v: %v", cmd, err)
	}
	return string(text)
}

// The numbers are also those of lsipc. It calls the attaches processes, and
// prints numbers as strings.
func TestLsipc(t *testing.T) {
	shmid := newSegment(t)
	text := output(t, "lsipc", "-m", "-J", "-b", "-i", strconv.Itoa(shmid))
	got := listed(t, shmid)
	for name, want := range map[string]any{
		"key": fmt.Sprintf("0x%08x", *got.Key), "id": shmid,
		"owner": got.Owner, "size": got.Bytes, "nattch": *got.Attaches,
		"cpid": *got.Creator, "lpid": *got.LastPid,
	} {
		field := regexp.MustCompile(`"` + name + `": *"?([^",\s]+)`)
		if m := field.FindStringSubmatch(text); m != nil {
			same(t, name, fmt.Sprint(want), m[1])
		} else if name == "id" {
			t.Errorf("no segment in %s", text)
		}
	}
}

// The processes of a POSIX object are those that lsof and fuser find.
func TestMapped(t *testing.T) {
	name := fmt.Sprintf("/dev/shm/shm-by-example-%07d", os.Getpid())
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(name)
	f.Truncate(9000)
	mem, err := unix.Mmap(int(f.Fd()), 0, 9000, unix.PROT_READ,
		unix.MAP_SHARED)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(mem)
	o, err := posixObject(name[len(shmDir):], shmDevice(""))
	if err != nil {
		t.Fatal(err)
	}
	s, err := scan()
	if err != nil {
		t.Fatal(err)
	}
	o.fillIn(s)
	at := uint64(uintptr(unsafe.Pointer(&mem[0])))
	if len(o.Processes) != 1 || o.Processes[0].Pid != os.Getpid() ||
		o.Processes[0].Addresses[0] != at {
		t.Errorf("mapped by %v, not by this process", o.Processes)
	}
	for _, tool := range [][]string{{"lsof", "-t", name}, {"fuser", name}} {
		t.Run(tool[0], func(t *testing.T) {
			got := strings.Fields(output(t, tool[0], tool[1:]...))
			same(t, "pids", fmt.Sprint(got), fmt.Sprint([]int{os.Getpid()}))
		})
	}
}

// The numbers of a set are those of /proc and ipcs.
func TestSets(t *testing.T) {
	id, _, errno := unix.Syscall(unix.SYS_SEMGET, unix.IPC_PRIVATE, 3, 0o600)
	if errno != 0 {
		t.Fatal(errno)
	}
	s := &semSet{ID: int(id)}
	op := [3]int16{2, 7, 0}
	unix.Syscall(unix.SYS_SEMOP, id, uintptr(unsafe.Pointer(&op)), 1)
	all, err := semaphoreSets()
	if err != nil {
		t.Skip(err)
	}
	for _, one := range all {
		if one.ID == s.ID {
			s = one
		}
	}
	if s.Count != 3 || s.Operated == nil || s.Values[2].Value != 7 ||
		s.Values[2].LastPid != os.Getpid() || s.Values[0].Value != 0 {
		t.Errorf("%+v", s)
	}
	// A process waits for the first semaphore: this one.
	ended := make(chan bool)
	go func() {
		defer close(ended)
		take := [3]int16{0, -1, 0}
		for errno := unix.EINTR; errno == unix.EINTR; {
			_, _, errno = unix.Syscall(unix.SYS_SEMOP, id,
				uintptr(unsafe.Pointer(&take)), 1)
		}
	}()
	defer func() {
		s.remove()
		<-ended
	}()
	end := time.Now().Add(10 * time.Second)
	given.semID = s.ID
	defer func() { given.semID = -1 }()
	for ; s.waiting() != 1; time.Sleep(10 * time.Millisecond) {
		now, err := findSet()
		if err != nil || time.Now().After(end) {
			t.Fatalf("%v, %+v: nobody waits", err, now)
		}
		s = now
	}
	text := output(t, "ipcs", "-s", "-i", strconv.Itoa(s.ID))
	for i, v := range s.Values {
		line := fmt.Sprintf(`(?m)^%d +%d +%d +%d +%d *$`, i, v.Value,
			v.Waiting, v.Zero, v.LastPid)
		if !regexp.MustCompile(line).MatchString(text) {
			t.Errorf("no %s in\n%s", line, text)
		}
	}
}

// Tables fit the terminal, if the numbers do. In a pipe nothing is shortened.
func TestTable(t *testing.T) {
	long := "/a-name-of-a-posix-object-that-is-longer-than-all"
	rows := []row{objectHeading, {cells: []string{long, "1234567",
		"a-long-owner", "0600", "149520384", "11137024", "0", "26", "364d"},
		status:    "dest,locked",
		processes: slices.Repeat([]string{"28705 postgres"}, 26)}}
	for _, width := range []int{80, 100, 120, 0} {
		var out bytes.Buffer
		printTable(&out, rows, width)
		for line := range strings.Lines(out.String()) {
			if n := letters(line) - 1; width > 0 && n > width {
				t.Errorf("%d columns, not %d: %s", n, width, line)
			}
		}
		whole := strings.Contains(out.String(), long) &&
			strings.Count(out.String(), "28705 postgres") == 26
		if whole != (width == 0) {
			t.Errorf("width %d:\n%s", width, &out)
		}
		if width > 0 && !strings.Contains(out.String(), " +2") {
			t.Errorf("it does not say that processes are left out:\n%s", &out)
		}
	}
}

// some counts what it leaves out, and always says that there may be more.
func TestSome(t *testing.T) {
	for _, c := range []struct{ all, want string }{
		{"1 a, 2 b", "1 a, 2 b"}, {"1 a, 2 b, 3 c, 4 d", "1 a, 2 b, +2"},
		{"1 tail (open)", "1 tail (ope…"}, {"", ""},
		{"1 tail (open), 2 b", "1 tail …, +1"},
		{"123456 tail, 2 b", "123456 …, +1"}, {"1234567 tail, 2 b", "+2"},
		{"creator 12 tail", "creator 12 …"},
		{"creator 1234567 tail", "creator 1234567 …"},
	} {
		same(t, c.all, some(strings.Split(c.all, ", "), 12), c.want)
	}
	r := row{processes: []string{"1 a", "2 b", "3 c"}, more: true}
	same(t, "more", r.tail(12), "1 a, +2, ?")
	r.status = "removed"
	same(t, "status", r.tail(40), "removed  1 a, 2 b, 3 c, ?")
	same(t, "nobody", row{more: true}.tail(12), "?")
}

// In a terminal of 80 columns an object has one line. A column that is all 0 or
// - is left out, except for the id, because an id may be 0.
func TestOneLine(t *testing.T) {
	rows := []row{objectHeading, {cells: []string{"0x0098450a", "0",
		"postgres", "0600", "149520384", "11137024", "0", "6", "2m"},
		processes: []string{"28705 postgres", "28706 postgres"}}}
	var out bytes.Buffer
	printTable(&out, rows, 80)
	lines := strings.Split(out.String(), "\n")
	if len(lines) != 3 || strings.Contains(lines[0], "swap") ||
		!strings.Contains(lines[0], " id ") ||
		!strings.HasSuffix(lines[1], "28705 postgres, +1") {
		t.Errorf("printed\n%s", &out)
	}
}

// A few processes of other namespaces are enough for a line.
func TestNamespaces(t *testing.T) {
	n := namespace{Inode: 9}
	for pid := range 28 {
		n.Others = append(n.Others, entry{Pid: 100 + pid})
	}
	same(t, "28", n.String(), "IPC namespace 9; 28 more seen, e.g. of pid "+
		"100, 101, 102, 103, 104, +23")
	n.Others = n.Others[:1]
	same(t, "1", n.String(), "IPC namespace 9; 1 more seen, e.g. of pid 100")
	n.Others = nil
	same(t, "none", n.String(), "IPC namespace 9; 0 more seen")
}

// A memfd, shared anonymous memory and an unlinked POSIX object are found in
// the processes that have mapped them, even without a descriptor.
func TestNameless(t *testing.T) {
	shared := func(fd, size, flags int) []byte {
		mem, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE,
			unix.MAP_SHARED|flags)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Munmap(mem) })
		mem[0] = 1
		return mem
	}
	unique := fmt.Sprintf("shm-by-example-%07d", os.Getpid())
	fd, err := unix.MemfdCreate(unique, unix.MFD_CLOEXEC)
	if err != nil {
		t.Skip(err)
	}
	defer unix.Close(fd)
	unix.Ftruncate(fd, 9000)
	memfd := shared(fd, 9000, 0)
	anonymous := shared(-1, 12000, unix.MAP_ANON)
	f, err := os.Create(shmDir + "/" + unique)
	if err != nil {
		t.Skip(err)
	}
	f.Truncate(5000)
	removed := shared(int(f.Fd()), 5000, 0)
	f.Close()
	os.Remove(f.Name())

	showAll = true
	defer func() { showAll = false }()
	s, err := take()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, o := range s.Objects {
		for _, p := range o.Processes {
			first := uint64(0)
			if len(p.Addresses) > 0 {
				first = p.Addresses[0]
			}
			at := func(mem []byte) bool {
				return first == uint64(uintptr(unsafe.Pointer(&mem[0])))
			}
			switch {
			case p.Pid != os.Getpid():
			case *o.Name == "memfd:"+unique && o.Kind == kindMemfd &&
				at(memfd) && (o.Bytes == 9000 || o.Bytes == 12288):
				seen["memfd"] = true
			case o.Kind == kindAnonymous && at(anonymous) &&
				(o.Bytes == 12000 || o.Bytes == 12288):
				seen["anonymous"] = true
			case *o.Name == "/"+unique && at(removed) &&
				slices.Equal(o.Status, []string{"removed"}) &&
				(o.Bytes == 5000 || o.Bytes == 8192):
				seen["removed"] = true
			}
		}
	}
	if len(seen) != 3 {
		t.Errorf("only %v in %v", seen, s.Objects)
	}
}

// Several unlinked objects may have had the same name. -watch keeps them apart.
func TestSameName(t *testing.T) {
	removed := func(inode uint64) *object {
		return &object{Kind: kindPOSIX, Name: new("/x"), Inode: &inode,
			Bytes: inode}
	}
	s := &snapshot{Objects: []*object{removed(1), removed(2)}}
	rows := s.tables(time.Now())[0]
	if events := compare(rows, rows); len(events) > 0 {
		t.Errorf("nothing has changed: %v", events)
	}
}

// An object that has lost one of two names is not shown as removed. A semaphore
// is such an object for the process that created it with sem_open(3).
func TestOneNameOfTwo(t *testing.T) {
	first := fmt.Sprintf("%s/shm-by-example-%07d", shmDir, os.Getpid())
	f, err := os.Create(first)
	if err != nil {
		t.Skip(err)
	}
	defer f.Close()
	defer os.Remove(first + "-2")
	f.Truncate(5000)
	mem, err := unix.Mmap(int(f.Fd()), 0, 5000, unix.PROT_READ,
		unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(mem)
	if os.Link(first, first+"-2") != nil || os.Remove(first) != nil {
		t.Fatal("no second name")
	}
	s, err := scan()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range s.nameless {
		n.stat = nil // only root may ask
	}
	for _, o := range s.objects(posixObjects(), false) {
		if *o.Name == first[len(shmDir):] {
			t.Errorf("%v: %v", o, o.Status)
		}
	}
}

// Any user may map a file that has the name of a segment. The kernel's files
// for segments are on a device of their own.
func TestOnlyTheKernelsDevice(t *testing.T) {
	s := &survey{shm: unix.Mkdev(0, 30), kernel: kernelDevices(),
		nameless: map[backing]*nameless{}}
	const line = "7f0000000000-7f0000001000 rw-s 00000000 %02x:%02x %d    " +
		"/SYSV0000d431 (deleted)\n"
	own := s.kernel[0]
	for dev, want := range map[uint64]bool{
		own: true, s.shm: false, unix.Mkdev(0, 99): false,
	} {
		found := map[backing]*process{}
		maps := fmt.Appendf(nil, line, unix.Major(own), unix.Minor(own), 6)
		maps = fmt.Appendf(maps, line, unix.Major(dev), unix.Minor(dev), 7)
		s.addMaps(found, "/proc/none", maps, true)
		p := found[backing{sysv, 7}]
		if (p != nil) != want ||
			found[backing{sysv, 6}] == nil {
			t.Errorf("device %#x: %v", dev, found)
		}
	}
}

// The calls in the README's table of C and Go are those of the code.
func TestCallsOfTheREADME(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	calls := regexp.MustCompile(
		"(?m)^\\| `.*` \\| `(\\w+\\.go): (.+?) ?…?\\)?` \\|")
	found := calls.FindAllSubmatch(readme, -1)
	for _, m := range found {
		code, err := os.ReadFile(string(m[1]))
		if err != nil || !bytes.Contains(code, m[2]) {
			t.Errorf("%s has no %s: %v", m[1], m[2], err)
		}
	}
	same(t, "calls", strconv.Itoa(len(found)), "11")
}

// A set is in use if its last user runs. A zombie does not run.
func TestRunning(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Skip(err)
	}
	if why := running(cmd.Process.Pid); why != "" {
		t.Error(why)
	}
	if running(cmd.Process.Pid, os.Getpid()) == "" {
		t.Error("this process does not run")
	}
	older = 0
	defer func() { older = 10 * time.Minute }()
	id, _, errno := unix.Syscall(unix.SYS_SEMGET, unix.IPC_PRIVATE, 2, 0o600)
	if errno != 0 {
		t.Fatal(errno)
	}
	set := &semSet{ID: int(id), Count: 2, UID: 7, Changed: new(time.Now())}
	defer set.remove()
	if err := set.read(); err != nil {
		t.Fatal(err)
	}
	if why := set.keep(7); !strings.Contains(why, "nobody has used it yet") {
		t.Errorf("new: %q", why)
	}
	force = true
	same(t, "new, -force", set.keep(7), "")
	force = false
	set.Values[1].LastPid = cmd.Process.Pid
	same(t, "another has used it meanwhile", set.keep(7), justUsed)
	set.Values[0].LastPid = os.Getpid()
	if set.keep(7) == "" {
		t.Error("its last user runs")
	}

	// The same for a segment, if it was used after it was listed.
	shmid := newSegment(t)
	ds, err := look(shmid)
	if err != nil {
		t.Fatal(err)
	}
	ds.Cpid, ds.Lpid, ds.Nattch = int32(cmd.Process.Pid), ds.Cpid, 0
	if (segment{shmid, ds}).object().keep(ds.Perm.Uid) == "" {
		t.Error("its last user runs")
	}
	ds.Lpid = ds.Cpid
	same(t, "attached meanwhile", segment{shmid, ds}.object().keep(
		ds.Perm.Uid), justUsed)
	unix.SysvShmCtl(shmid, unix.IPC_RMID, nil)
	same(t, "marked", segment{shmid, ds}.object().keep(ds.Perm.Uid), justUsed)
	same(t, "gone", segment{shmid ^ 1<<28, ds}.object().keep(ds.Perm.Uid),
		hasGone)
	set.remove()
	set.Values[0].LastPid = cmd.Process.Pid
	same(t, "a set that is gone", set.keep(7), hasGone)
}

// The limits are also those of ipcs, which asks the kernel itself.
func TestIpcs(t *testing.T) {
	shmid := newSegment(t)
	text := output(t, "ipcs", "-m", "-i", strconv.Itoa(shmid))
	want := map[string]string{}
	field := regexp.MustCompile(`(?m)(\w+_time)=(.*?) *$|(\w+)=(\S+)`)
	for _, m := range field.FindAllStringSubmatch(text, -1) {
		want[m[1]+m[3]] = m[2] + m[4]
	}
	got := block(t, shmid)
	same(t, "bytes", got["Segment size"], want["bytes"])
	same(t, "attached", got["Last attach time"], seconds(t, want["att_time"]))
	same(t, "detached", got["Last detach time"], seconds(t, want["det_time"]))
	same(t, "nattch", got["Number of attached processes"], want["nattch"])
	same(t, "cpid", got["Creator PID"], want["cpid"])
	same(t, "lpid", got["Last operation PID"], want["lpid"])
	same(t, "mode", "0"+got["Permission mode"], want["mode"])
}

// SHM_STAT_ANY takes an index. So the id of a segment that has gone leads to
// the segment that has taken its place.
func TestLookAny(t *testing.T) {
	shmid := newSegment(t)
	want, err := look(shmid)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := lookAny(shmid); err != nil || got != want {
		t.Errorf("%v, %v, not %v", got, err, want)
	}
	if _, err := lookAny(shmid ^ 1<<28); !gone(err) {
		t.Errorf("another id at the same index: %v", err)
	}
}

// Segments that come and go while they are listed are no error.
func TestListBusy(t *testing.T) {
	stop, stopped := make(chan bool), make(chan bool)
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			var ids [8]int
			for i := range ids {
				ids[i], _ = unix.SysvShmGet(unix.IPC_PRIVATE, 1, 0o600)
			}
			for _, id := range ids {
				unix.SysvShmCtl(id, unix.IPC_RMID, nil)
			}
		}
	}()
	for i := range 500 {
		_, err := segments()
		if i%25 == 0 && err == nil { // this asks each process, too
			err = list(t.Context(), io.Discard)
		}
		if err != nil {
			t.Error(err)
			break
		}
	}
	close(stop)
	<-stopped
}

// A kernel before Linux 4.17 has no SHM_STAT_ANY: then there is an error, and
// no empty list.
func TestNoStatAny(t *testing.T) {
	newSegment(t)
	failed := make(chan error)
	go func() { // the filter is for this thread, which ends with it
		runtime.LockOSThread()
		const load, equal, answer = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS,
			unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET
		filter := []unix.SockFilter{
			{Code: load, K: 0}, // struct seccomp_data: the number of the call
			{Code: equal, K: unix.SYS_SHMCTL, Jf: 3},
			{Code: load, K: 24}, // the second argument, on little endian
			{Code: equal, K: shmStatAny, Jf: 1},
			{Code: answer, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EINVAL)},
			{Code: answer, K: unix.SECCOMP_RET_ALLOW},
		}
		program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
		err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		if err == nil {
			err = unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER,
				uintptr(unsafe.Pointer(&program)), 0, 0)
		}
		if err != nil {
			t.Log(err)
			close(failed)
			return
		}
		_, err = segments()
		failed <- err
	}()
	err, tried := <-failed
	if !tried {
		t.Skip("no filter for system calls here")
	} else if err == nil || !strings.Contains(err.Error(), "Linux 4.17") {
		t.Errorf("there is a segment, and %v", err)
	}
}

// A segment that comes and goes while create looks for it is no error either.
// The C program says "Cannot access existing segment" then, or a wrong size.
func TestCreateBusy(t *testing.T) {
	given.key, wantedSize = 3<<30|os.Getpid()&0xffffff, 100
	defer func() { given.key, wantedSize = 0, 0 }()
	remove := func() {
		id, err := unix.SysvShmGet(given.key, 0, 0)
		if err == nil {
			unix.SysvShmCtl(id, unix.IPC_RMID, nil)
		}
	}
	stop, stopped := make(chan bool), make(chan bool)
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			unix.SysvShmGet(given.key, int(wantedSize),
				unix.IPC_CREAT|0o600)
			remove()
		}
	}()
	seen := map[string]int{}
	for range 100 {
		var out bytes.Buffer
		if err := create(t.Context(), &out); err != nil {
			t.Error(err)
			break
		}
		did, info, _ := strings.Cut(out.String(), "\n")
		seen[did]++
		if !strings.Contains(info, "\nSegment size: 100 bytes\n") {
			t.Errorf("printed\n%s", &out)
		}
	}
	close(stop)
	<-stopped
	remove()
	t.Log(seen)
}

// A number that only a thread has is no process. Where pidfd_open fails, a
// process that kill finds counts as running.
func TestRuns(t *testing.T) {
	const nobody = 1 << 30 // no pid is so high
	me := os.Getpid()
	expect := func(what string, got *bool, want string) {
		t.Helper()
		text := "unknown"
		if got != nil {
			text = strconv.FormatBool(*got)
		}
		same(t, what, text, want)
	}
	expect("this process", runs(me), "true")
	expect("a pid of another namespace", runs(0), "unknown")
	expect("a pid that nobody has", runs(nobody), "false")
	threads, _ := os.ReadDir("/proc/self/task")
	for _, thread := range threads {
		if id, _ := strconv.Atoi(thread.Name()); id != me {
			expect("a thread", runs(id), "false")
		}
	}

	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	none := unix.Rlimit{Max: limit.Max} // so pidfd_open gets no descriptor
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	mine, others := *runs(me), *runs(nobody)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if !mine || others {
		t.Errorf("without pidfd_open: this process runs: %t, one that is "+
			"gone: %t", mine, others)
	}
}
