//go:build linux

package shm_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// worldFaults are what others on the machine may do.
func worldFaults() (all []fault) {
	for _, p := range pairs() {
		if p.b != "" {
			all = append(all, fault{name: "pid-namespaces/" + p.name, needs: "pidns",
				do: func(x *experiment) { pidNamespaces(x, p) }})
		}
	}
	return append(all,
		fault{name: "three-readers", do: threeReaders},
		fault{name: "holder-killed", do: holderKilled},
		fault{name: "interrupted", do: interrupted},
		fault{name: "removed", do: removedInUse},
		fault{name: "leftovers", do: leftovers},
		fault{name: "another-user", needs: "setuid", do: anotherUser},
		fault{name: "not-allowed", needs: "setuid", do: notAllowed},
		fault{name: "truncated", do: truncated},
		fault{name: "corrupt", do: corrupt},
		fault{name: "many/pairs", room: true, do: manyPairs},
		fault{name: "many/counters", do: manyCounters},
	)
}

// pidNamespaces runs the two of a pair in PID namespaces of their own, in
// which both have the pid 1; and kills the first.
func pidNamespaces(x *experiment, p pair) {
	points := []point{{side: 2, name: "its own PID namespace", change: inPIDNamespace}}
	if !slices.Contains([]string{"02-main-reader", "04-posix"}, p.name) {
		points = append(points, point{side: 2, name: "killed"})
	}
	each(x, 2, points, func(place *place, at point) {
		if at.name != "killed" {
			if err := p.suffer(place, at); err != nil {
				x.errorf("%v", err)
			}
			return
		}
		long := p
		long.a = strings.ReplaceAll(long.a, "-interval 30", "-interval 30000")
		long.stdin = ""
		at.change = inPIDNamespace
		t := long.begin(place, &at, "")
		defer t.end()
		waitAttached(place, p.name, 2)
		t.runs[0].kill()
		if err := t.outlives(place, t.runs[0], t.runs[1]); err != nil {
			x.errorf("%s, the first is killed in another PID namespace: %v", p.name, err)
		}
		p.afterwards(place)
	})
}

// waitAttached waits until so many are attached to the segment of a place, if
// it has one; for a while.
func waitAttached(p *place, name string, n uint64) {
	eventually(2*time.Second, func() bool {
		var ds unix.SysvShmDesc
		id, err := unix.SysvShmGet(int(p.keys[0]), 0, 0)
		if err == nil {
			_, err = unix.SysvShmCtl(id, unix.IPC_STAT, &ds)
		}
		return err == nil && ds.Nattch >= n || strings.HasPrefix(name, "02")
	})
}

func inPIDNamespace(cmd *exec.Cmd) {
	cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWPID
	if os.Geteuid() != 0 {
		uid, gid := os.Geteuid(), os.Getegid()
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
	}
}

// threeReaders kills the writer of three readers of 01, and starts another.
func threeReaders(x *experiment) {
	rounds := make([]int, 1)
	if x.job.Long {
		rounds = make([]int, 20)
	}
	each(x, 5, rounds, func(p *place, _ int) {
		var readers []*run
		writer := p.start(with{}, "01/writer -key $KEY -interval 20ms -n 100000")
		defer writer.kill()
		for range 3 {
			r := p.start(with{}, "01/reader -key $KEY")
			defer r.kill()
			r.prints("segment contains")
			readers = append(readers, r)
		}
		writer.kill()
		killed := time.Now()
		next := p.start(with{}, "01/writer -key $KEY -interval 20ms -n 1")
		defer next.kill()
		for _, r := range readers {
			r.within(slack)
			if err := r.is("1"); err != nil {
				x.errorf("the writer is killed: %v", err)
			}
			if !strings.Contains(r.err.String(), "ended before it was done") {
				x.errorf("does not say who died: %v", r)
			}
		}
		next.within(slack)
		if err := next.is("0"); err != nil {
			x.errorf("the next writer: %v", err)
		}
		fmt.Printf("all ended %v after the writer\n", time.Since(killed))
		if err := p.left(); err != nil {
			x.errorf("%v", err)
		}
	})
}

// holderKilled kills holders of 04's lock and of 05's mutex, in many rounds.
func holderKilled(x *experiment) {
	rounds := 3
	if x.job.Long {
		rounds = 100
	}
	const counter = "04/04-semaphore-counter -key $KEY -semkey $KEY2"
	each(x, 10, make([]int, rounds), func(p *place, _ int) {
		holder := p.start(with{}, counter+" -work 1h")
		defer holder.kill()
		// It has the lock when the semaphore is 0 and was 1.
		eventually(untilTime, func() bool {
			return strings.Contains(holder.out.String(), "Entering") && value(int(p.keys[1])) == 0
		})
		a := p.start(with{}, counter+" -work 0")
		defer a.kill()
		b := p.start(with{}, counter+" -work 0")
		defer b.kill()
		a.prints("Entering")
		b.prints("Entering")
		holder.kill()
		for _, r := range []*run{a, b} {
			r.within(slack)
			if err := r.is("0"); err != nil {
				x.errorf("the holder was killed: %v", err)
			}
		}
		both := a.out.String() + b.out.String()
		if !strings.Contains(both, "count to 1\n") || !strings.Contains(both, "count to 2\n") {
			x.errorf("the count is wrong: %v\n%v", a, b)
		}
		p.start(with{}, counter+" -rm").within(slack)

		r := p.start(with{}, "05/05-pthread-style-mutex -key $KEY -sync robust -n 2000 -procs 3 -die")
		defer r.kill()
		r.within(patience)
		if err := r.is("0"); err != nil {
			x.errorf("the owner was killed: %v", err)
		} else if err := prints("Final counter = 6000 (expected 6000)")(r); err != nil {
			x.errorf("%v", err)
		}
		if err := p.left(); err != nil {
			x.errorf("%v", err)
		}
	})
}

// value is the value of the first semaphore of a set, -1 if there is none.
func value(key int) int {
	const getVal = 12
	return semctl(semget(key, 0, 0), getVal, 0)
}

// interrupted sends a thousand signals a second to programs that wait for
// each other: they notice nothing, and no unit of a semaphore is lost.
func interrupted(x *experiment) {
	text, rounds := strings.Repeat(someText, 20), 1
	if x.job.Long || x.job.Until {
		text, rounds = strings.Repeat(someText, 400), 20
	}
	sameText := func(r *run) error {
		if r.out.String() != text {
			return fmt.Errorf("differs from what was sent: %v", r)
		}
		return nil
	}
	const counter = "04/04-semaphore-counter -key $KEY -semkey $KEY2 -name /$NAME -work 300ms -sync "
	all := []pair{
		{name: "03-writer-reader", stdin: text, check: sameText,
			a: "03/writer -key $KEY -semkey $KEY2", b: "03/reader -key $KEY -semkey $KEY2"},
		{name: "02-ring", check: prints("Cache line"),
			a: "02/producer -name /$NAME -n 300000", b: "02/consumer -name /$NAME -n 300000"},
		{name: "04-sysv", check: prints("Updated count"), together: true,
			a: counter + "sysv", b: counter + "sysv", after: []string{counter + "sysv -rm"}},
		{name: "04-posix", check: prints("Updated count"), together: true,
			a: counter + "posix", b: counter + "posix", after: []string{counter + "posix -rm"}},
		{name: "05-robust", check: prints("Final counter = 400000 (expected 400000)"),
			a: "05/05-pthread-style-mutex -key $KEY -n 200000 -sync robust"},
	}
	each(x, 5, slices.Repeat(all, rounds), func(place *place, p pair) {
		if x.job.Until && x.failed() {
			return
		}
		t := p.begin(place, nil, "")
		defer t.end()
		for _, r := range t.both() {
			go r.storm()
		}
		start := time.Now()
		if err := t.asUsual(30 * time.Second); err != nil {
			x.errorf("%v", err)
		}
		fmt.Printf("%s took %v\n", p.name, time.Since(start))
		if err := p.afterwards(place); err != nil {
			x.errorf("%v", err)
		}
	})
}

// storm sends signals that end no program, to each thread: that which waits
// would else hear of few.
func (r *run) storm() {
	signals := []syscall.Signal{unix.SIGURG, unix.SIGWINCH, unix.SIGCONT, unix.SIGCHLD}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	r.prints("") // it has begun
	for i := 0; !r.within(0); i++ {
		pid := r.cmd.Process.Pid
		tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		for _, task := range tasks {
			thread, _ := strconv.Atoi(task.Name())
			unix.Tgkill(pid, thread, signals[i%len(signals)])
		}
		<-tick.C
	}
}

// An object is what a program makes, to play tricks with.
type object struct {
	size           int
	maker, user    string // commands; user is "" if it needs none
	posix, replace bool   // a POSIX object; a leftover is replaced
}

var objects = []object{
	{1032, "01/writer -key $KEY -n 1 -interval 1s", "01/reader -key $KEY", false, true},
	{264, "03/producer -key $KEY -n 1 -interval 1s", "03/consumer -key $KEY -n 1", false, true},
	{1028, "03/writer -key $KEY -semkey $KEY2", "03/reader -key $KEY -semkey $KEY2", false, true},
	{404, "04/04-semaphore-counter -sync atomic -work 0 -key $KEY", "", false, false},
	{mutexSize, "05/05-pthread-style-mutex -key $KEY", "", false, true},
	{4096, "06/06-offsets -key $KEY", "", false, true},
	{4096, "07/07-shm-lock -key $KEY", "", false, true},
	{4096, "02/02-posix-shm -name /$NAME", "02/reader -name /$NAME", true, true},
	{1048576, "02/large -name /$NAME", "", true, true},
	{4224, "02/producer -name /$NAME -n 10", "02/consumer -name /$NAME -n 10", true, true},
}

// make makes an object in a place, as another program would, full of a text.
func (p *place) make(posix bool, size int, mode int) (mem []byte) {
	if posix {
		file := "/dev/shm/" + p.env["NAME"]
		text := bytes.Repeat([]byte("other's "), size/8+1)[:size]
		if err := os.WriteFile(file, text, os.FileMode(mode)); err != nil {
			p.x.errorf("%v", err)
		}
		return text
	}
	id, err := unix.SysvShmGet(int(p.keys[0]), size, unix.IPC_CREAT|unix.IPC_EXCL|mode)
	if err == nil {
		mem, err = unix.SysvShmAttach(id, 0, 0)
	}
	if err != nil {
		p.x.errorf("%v", err)
		return make([]byte, size)
	}
	copy(mem, bytes.Repeat([]byte("other's "), size/8+1))
	return mem
}

// leave detaches what make attached, as its maker's end would.
func leave(posix bool, mem []byte) {
	if !posix {
		unix.SysvShmDetach(mem)
	}
}

// same tells whether the object is as make made it.
func (p *place) same(posix bool, size int) bool {
	want := bytes.Repeat([]byte("other's "), size/8+1)[:size]
	if posix {
		text, err := os.ReadFile("/dev/shm/" + p.env["NAME"])
		return err == nil && bytes.Equal(text, want)
	}
	id, err := unix.SysvShmGet(int(p.keys[0]), 0, 0)
	if err != nil {
		return false
	}
	mem, err := unix.SysvShmAttach(id, 0, unix.SHM_RDONLY)
	if err != nil {
		return false
	}
	defer unix.SysvShmDetach(mem)
	return bytes.Equal(mem, want)
}

// leftovers leaves what a crash may leave, and what it may not.
func leftovers(x *experiment) {
	type trick struct {
		object int
		what   string
	}
	var all []trick
	for i := range objects {
		for _, what := range []string{"smaller", "larger", "in use", "foreign", "dest"} {
			all = append(all, trick{i, what})
		}
	}
	if !x.job.Long {
		all = some(all, 12)
	}
	each(x, 12, all, func(p *place, t trick) {
		o := objects[t.object]
		size := o.size
		switch t.what {
		case "smaller":
			size /= 2
		case "larger":
			size *= 2
		}
		refused := size != o.size || t.what == "in use" && o.replace ||
			t.what == "foreign" && o.size == 1032 // its creator, this test, runs
		if o.posix && t.what == "dest" || o.posix && o.user == "" && t.what == "in use" {
			return // has no key; joins
		}
		mem := p.makeAs(o.posix, size, t.what)
		var held *os.File
		if o.posix && t.what == "in use" {
			held, _ = os.Open("/dev/shm/" + p.env["NAME"])
		}
		if t.what != "in use" && t.what != "dest" {
			leave(o.posix, mem)
		}
		if refused {
			p.refused(with{}, o.maker, "file exists", "-"+flagOf(o.posix))
			if o.user != "" && size != o.size {
				p.refused(with{}, o.user, "file exists", "-"+flagOf(o.posix))
			}
			if !p.same(o.posix, size) {
				x.errorf("%s: %s, and it is no more what it was", o.maker, t.what)
			}
		} else if t.what != "dest" && !o.replace {
			p.refused(with{}, o.maker, "its count is")
		} else {
			q := pair{a: o.maker, b: o.user, check: func(*run) error { return nil }, stdin: "text"}
			if o.posix {
				q.stdin = ""
			}
			run := q.begin(p, nil, "")
			if err := run.asUsual(slack); err != nil {
				x.errorf("%s: %v", t.what, err)
			}
			run.end()
		}
		held.Close()
		if t.what == "in use" || t.what == "dest" {
			leave(o.posix, mem)
		}
		p.left()
	})
}

func flagOf(posix bool) string {
	if posix {
		return "name"
	}
	return "key"
}

// makeAs is make; a segment that is "dest" is removed while it is attached.
func (p *place) makeAs(posix bool, size int, what string) []byte {
	mem := p.make(posix, size, 0o600)
	if what == "dest" && !posix {
		if id, err := unix.SysvShmGet(int(p.keys[0]), 0, 0); err == nil {
			remove("shm", id)
		}
	}
	return mem
}

// anotherUser gives the object to another user, 0600 and 0666.
func anotherUser(x *experiment) {
	const other = 65534
	each(x, 5, objects, func(p *place, o object) {
		for _, mode := range []int{0o600, 0o666} {
			leave(o.posix, p.make(o.posix, o.size, mode))
			if o.posix {
				os.Chmod("/dev/shm/"+p.env["NAME"], os.FileMode(mode))
				os.Chown("/dev/shm/"+p.env["NAME"], other, other)
			} else if err := give(int(p.keys[0]), other); err != nil {
				x.errorf("%v", err)
			}
			for _, command := range []string{o.maker, o.user} {
				if command != "" {
					p.refused(with{}, command, others(command, "it belongs to uid 65534"), "-"+flagOf(o.posix))
				}
			}
			if !p.same(o.posix, o.size) {
				x.errorf("%s: another user's object is no more what it was", o.maker)
			}
			p.left()
		}
	})
	// And what is no object at all.
	p := x.place(0)
	file := "/dev/shm/" + p.env["NAME"]
	for name, make := range map[string]func() error{
		"symlink":   func() error { return os.Symlink("/etc/passwd", file) },
		"directory": func() error { return os.Mkdir(file, 0o755) },
		"FIFO":      func() error { return unix.Mkfifo(file, 0o600) },
	} {
		if err := make(); err != nil {
			x.errorf("%v", err)
		}
		for _, o := range objects {
			for _, command := range []string{o.maker, o.user} {
				if o.posix && command != "" {
					p.refused(with{}, command, "no shared memory object", "-name")
				}
			}
		}
		if _, err := os.Lstat(file); err != nil {
			x.errorf("%s: %v", name, err)
		}
		os.Remove(file)
	}
}

// others is how a program says that an object is another user's. Lesson 01
// does not look up which.
func others(command, text string) string {
	if strings.HasPrefix(command, "01/") {
		return "it is another user's"
	}
	return text
}

// give gives a segment to another user.
func give(key int, uid uint32) error {
	var ds unix.SysvShmDesc
	id, err := unix.SysvShmGet(key, 0, 0)
	if err == nil {
		_, err = unix.SysvShmCtl(id, unix.IPC_STAT, &ds)
	}
	ds.Perm.Uid = uid
	if err == nil {
		_, err = unix.SysvShmCtl(id, unix.IPC_SET, &ds)
	}
	return err
}

// notAllowed runs the programs as nobody against objects of this user.
func notAllowed(x *experiment) {
	p := x.place(0)
	nobody := with{uid: 65534}
	for _, o := range objects {
		leave(o.posix, p.make(o.posix, o.size, 0o600))
		for _, command := range []string{o.maker, o.user} {
			if command != "" {
				p.refused(nobody, command, others(command, "it belongs to uid "), "-"+flagOf(o.posix))
			}
		}
		if !p.same(o.posix, o.size) {
			x.errorf("%s: nobody has changed it", o.maker)
		}
		p.left()
	}
	leave(false, p.make(false, 4096, 0o600))
	p.refused(nobody, "08/08-info create -key $KEY -size 4096", "permission denied")
	p.refused(nobody, "08/08-info rm -key $KEY", "operation not permitted", "only its owner")
	p.refused(nobody, "08/08-info set -key $KEY -mode 666", "operation not permitted", "only its owner")
	p.refused(nobody, "08/08-info lock -key $KEY", "operation not permitted", "only its owner")
	p.left()
}

// removedInUse removes a segment while both of a pair have it, and makes a
// new one under the same key, which neither may touch.
func removedInUse(x *experiment) {
	each(x, 2, []pair{
		{a: "03/producer -key $KEY -n 1000 -interval 50ms", b: "03/consumer -key $KEY -n 1000"},
		{a: "03/writer -key $KEY -semkey $KEY2", b: "03/reader -key $KEY -semkey $KEY2"},
	}, func(p *place, q pair) {
		t := q.begin(p, nil, "")
		defer t.end()
		t.runs[0].keyboard.WriteString("for the reader\n")
		t.runs[1].printsAny() // so it is in the middle
		id, _ := unix.SysvShmGet(int(p.keys[0]), 0, 0)
		remove("shm", id)
		mem := p.make(false, 1032, 0o600)
		leave(false, mem)
		said := regexp.MustCompile("removed while in use|somebody else removed it")
		for _, r := range t.both() {
			r.within(slack)
			if err := r.is("1"); err != nil {
				x.errorf("the segment was removed: %v", err)
			} else if !said.MatchString(r.err.String()) {
				x.errorf("the segment was removed, and it does not say so: %v", r)
			}
			// The reader may have it from the writer, who says why.
			said = regexp.MustCompile(said.String() + "|the writer stopped before the end")
		}
		if !p.same(false, 1032) {
			x.errorf("the new segment is no more what it was: %v", t.both())
		}
		p.left()
	})
}

// truncated cuts the object off while it is mapped, at some time.
func truncated(x *experiment) {
	each(x, 4, []pair{
		{name: "main", a: "02/02-posix-shm -name /$NAME", b: "02/reader -name /$NAME"},
		{name: "large", a: "02/large -name /$NAME", b: "02/large -name /$NAME", together: true},
		{name: "ring", a: "02/producer -name /$NAME -n 1000000000",
			b: "02/consumer -name /$NAME -n 1000000000"},
	}, func(p *place, q pair) {
		t := &trial{pair: q}
		t.runs[0] = p.start(with{}, q.a)
		defer t.end()
		t.runs[0].prints("shared memory")
		if q.name != "main" {
			t.runs[1] = p.start(with{}, q.b)
			t.runs[1].prints("size")
		}
		if err := os.Truncate("/dev/shm/"+p.env["NAME"], 0); err != nil {
			x.errorf("%v", err)
		}
		if q.name == "main" { // who comes now waits for another
			t.runs[1] = p.start(with{}, q.b+" -timeout 300ms")
			t.runs[1].within(slack)
		}
		t.runs[0].keyboard.Close()
		for _, r := range t.both() {
			r.within(slack)
			if err := r.is("0", "1"); err != nil {
				x.errorf("the object was truncated: %v", err)
			}
		}
		if err := p.left(); err != nil {
			x.errorf("%v", err)
		}
	})
}

// corrupt writes noise over an object that is in use.
func corrupt(x *experiment) {
	rounds := 1
	if x.job.Long {
		rounds = 10
	}
	var all []int
	for range rounds {
		for i, o := range objects {
			if o.user != "" || !o.replace {
				all = append(all, i)
			}
		}
	}
	each(x, 8, all, func(p *place, i int) {
		o := objects[i]
		user := o.user
		if user == "" {
			user = o.maker
		}
		var mem []byte
		if o.posix {
			file := "/dev/shm/" + p.env["NAME"]
			os.WriteFile(file, make([]byte, o.size), 0o600)
			f, err := os.OpenFile(file, os.O_RDWR, 0)
			if err == nil {
				mem, err = unix.Mmap(int(f.Fd()), 0, o.size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			}
			if err != nil {
				x.errorf("%v", err)
				return
			}
			defer f.Close()
			defer unix.Munmap(mem)
		} else {
			mem = p.make(false, o.size, 0o600)
			defer unix.SysvShmDetach(mem)
		}
		noise := newNoise(uint64(i) + uint64(time.Now().UnixNano()))
		noise(mem)
		r := p.start(with{}, user)
		defer r.kill()
		for end := time.Now().Add(500 * time.Millisecond); !r.within(time.Millisecond) &&
			time.Now().Before(end); {
			at := noise(nil) % uint64(len(mem)-8)
			noise(mem[at : at+8])
		}
		if r.err.String()+r.out.String() == "" {
			r.cmd.Process.Kill() // it has hardly begun, on a machine that is busy
		} else {
			r.cmd.Process.Signal(os.Interrupt)
		}
		r.within(slack)
		if err := r.is("0", "1", "130", "KILL"); err != nil {
			x.errorf("noise: %v", err)
		}
		p.left()
	})
}

// newNoise returns a function that writes noise over bytes.
func newNoise(state uint64) func([]byte) uint64 {
	return func(mem []byte) uint64 {
		for i := range mem {
			state = state*6364136223846793005 + 1442695040888963407
			mem[i] = byte(state >> 56)
		}
		state = state*6364136223846793005 + 1442695040888963407
		return state >> 33
	}
}

// manyPairs runs many pairs of 03's writer and reader at once.
func manyPairs(x *experiment) {
	n := 10
	if x.job.Long {
		n = 200
	}
	var trials []*trial
	var mu sync.Mutex
	p := pairs()[5]
	var starters sync.WaitGroup
	for i := range n {
		starters.Go(func() {
			place := x.place(0)
			for k, name := range []string{"KEY", "KEY2", "KEY3"} {
				place.keys[k] = uint32(1 + 3*i + k)
				place.env[name] = fmt.Sprint(place.keys[k])
			}
			t := p.begin(place, nil, "")
			mu.Lock()
			trials = append(trials, t)
			mu.Unlock()
		})
	}
	starters.Wait()
	for _, t := range trials {
		if err := t.asUsual(scriptTime); err != nil {
			x.errorf("%v", err)
		}
		t.end()
	}
}

// manyCounters runs many of 04 at once: a hundred find a line in the table.
func manyCounters(x *experiment) {
	n := 110
	if x.job.Long {
		n = 500
	}
	p := x.place(0)
	const command = "04/04-semaphore-counter -key $KEY -semkey $KEY2 -work 0"
	var all []*run
	for range n {
		all = append(all, p.start(with{}, command))
	}
	counts := map[string]int{}
	for _, r := range all {
		r.within(scriptTime)
		if err := r.is("0", "1"); err != nil {
			x.errorf("%v", err)
		}
		if _, count, updated := strings.Cut(r.out.String(), "Updated count"); updated {
			counts[count]++
		} else if strings.Contains(r.err.String(), "table full, 100 processes") {
			counts["full"]++
		} else {
			x.errorf("neither updated nor full: %v", r)
		}
		r.kill()
	}
	if counts["full"] != n-100 || len(counts) != 101 {
		x.errorf("%d found it full, %d different counts", counts["full"], len(counts)-1)
	}
	p.start(with{}, command+" -rm").within(slack)
	if err := p.left(); err != nil {
		x.errorf("%v", err)
	}
}

// mutexSize is that of lesson 05's segment: glibc's mutex is larger on arm64.
var mutexSize = map[bool]int{true: 312, false: 304}[runtime.GOARCH == "arm64"]
