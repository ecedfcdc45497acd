//go:build linux

package shm_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var long = flag.Bool("long", false, "cause the faults everywhere and often, "+
	"which takes minutes: at every call of every program, in many rounds")

// A fault is something that can go wrong, caused on purpose while programs
// run, in a job of its own. README.md lists what must hold then.
type fault struct {
	name  string // such as killed/01-reader
	room  bool   // it needs a private room
	shm   string // ... with a /dev/shm of this size, if not empty
	needs string // a condition, if not empty
	do    func(*experiment)
}

// faults are all of them. Each file adds its own.
func faults() (all []fault) {
	for _, some := range [][]fault{callFaults(), inputFaults(), worldFaults(), limitFaults()} {
		all = append(all, some...)
	}
	return all
}

func faultNamed(name string) fault {
	all := faults()
	i := slices.IndexFunc(all, func(f fault) bool { return f.name == name })
	if i < 0 {
		return fault{name: name, do: func(x *experiment) { x.errorf("no such fault: %s", name) }}
	}
	return all[i]
}

func (f fault) where() room {
	if f.room {
		return privateRoom()
	}
	return shared
}

// job causes it, to the programs in the first of these directories that has
// them.
func (f fault) job(path ...string) job {
	return job{Fault: f.name, Path: path, Room: f.where(), Shm: f.shm}
}

var fewAtOnce = make(chan bool, 5)

// TestFaults causes them all; with -long, everywhere and often.
func TestFaults(t *testing.T) {
	if raceEnabled() && !*long {
		t.Skip("with -long, or without -race: so many programs take too long")
	}
	t.Parallel()
	for _, f := range faults() {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			if f.room && privateRoom() == shared {
				t.Skip("needs a private room")
			}
			if *long { // they are many in themselves
				fewAtOnce <- true
				defer func() { <-fewAtOnce }()
			}
			j := f.job(built)
			j.Long = *long
			j.test(t)
		})
	}
}

// An experiment is a fault that is being caused.
type experiment struct {
	job    job
	dir    string // for files of its own
	status int
	mu     sync.Mutex
}

func (j job) doFault() int {
	dir, err := os.MkdirTemp("", "fault-")
	if err != nil {
		fmt.Println(err)
		return failed
	}
	defer os.RemoveAll(dir)
	x := &experiment{job: j, dir: dir}
	if j.Until {
		slack, patience = 3*time.Second, 4*time.Second
	}
	f := faultNamed(j.Fault)
	done := make(chan bool)
	go func() {
		defer close(done)
		if f.needs != "" {
			if ok, err := condition(f.needs); !ok || err != nil {
				x.skip("needs %s %v", f.needs, err)
			}
		}
		f.do(x)
	}()
	<-done
	return x.status
}

func (x *experiment) errorf(format string, args ...any) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.status = failed
	fmt.Println(elide(fmt.Sprintf("FAIL: "+format, args...)))
}

func (x *experiment) failed() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.status == failed
}

func (x *experiment) skip(format string, args ...any) {
	fmt.Printf(format+"\n", args...)
	x.status = skipped
	runtime.Goexit()
}

// each does something with each of many, so many at once, each in a place of
// its own.
func each[T any](x *experiment, atOnce int, all []T, do func(*place, T)) {
	next := make(chan T)
	var workers sync.WaitGroup
	for n := range min(atOnce, len(all)) {
		workers.Go(func() {
			p := x.place(n)
			for one := range next {
				done := make(chan bool)
				go func() { // which may end it in the middle
					defer close(done)
					do(p, one)
				}()
				<-done
			}
		})
	}
	for _, one := range all {
		next <- one
	}
	close(next)
	workers.Wait()
}

// A place has keys and a name that programs can use there, by the names that
// scripts have for them.
type place struct {
	x    *experiment
	env  map[string]string
	keys [3]uint32
}

// place n is one of up to 80.
func (x *experiment) place(n int) *place {
	p := &place{x: x, env: map[string]string{}}
	for i, name := range []string{"KEY", "KEY2", "KEY3"} {
		p.keys[i] = ownKey(os.Getpid(), 3*n+i)
		p.env[name] = fmt.Sprintf("%#x", p.keys[i])
	}
	p.env["NAME"] = fmt.Sprintf("%s-%d", ownName(os.Getpid()), n)
	return p
}

// left lists what there is in the place, and removes it.
func (p *place) left() error {
	var all []string
	for _, key := range p.keys {
		if id, err := unix.SysvShmGet(int(key), 0, 0); err == nil {
			all = append(all, fmt.Sprintf("segment %d of key %#x", id, key))
			remove("shm", id)
		}
		if id := semget(int(key), 0, 0); id >= 0 {
			all = append(all, fmt.Sprintf("semaphore set %d of key %#x", id, key))
			remove("sem", id)
		}
	}
	for _, prefix := range []string{"", "sem."} {
		file := "/dev/shm/" + prefix + p.env["NAME"]
		if _, err := os.Lstat(file); err == nil {
			all = append(all, file)
			os.Remove(file)
		}
	}
	if all == nil {
		return nil
	}
	return errors.New("left behind: " + strings.Join(all, ", "))
}

// A run is a program that has been started in a place.
type run struct {
	command  string
	cmd      *exec.Cmd
	out, err output
	keyboard *os.File      // closed: the end of input
	ended    chan struct{} // closed after its end
	gone     chan struct{} // closed after the end of its children, too
	started  time.Time
}

// output is what has been printed so far.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// With options to start a run; the zero value is the usual one, with an input
// that does not end before the test does it.
type with struct {
	oracle func(call) fate // asked at its calls
	stdin  *string         // what it reads
	uid    uint32          // if not 0
	change func(*exec.Cmd)
}

// start starts LESSON/PROGRAM ARG..., a lesson by its number.
func (p *place) start(w with, command string) *run {
	words := strings.Fields(os.Expand(command, func(name string) string { return p.env[name] }))
	return p.startArgs(w, words[0], words[1:]...)
}

func (p *place) startArgs(w with, program string, args ...string) *run {
	r := &run{command: program + " " + strings.Join(args, " "), ended: make(chan struct{}),
		started: time.Now()}
	r.cmd = exec.Command(p.x.find(program), args...)
	r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.err
	r.cmd.Env = append(os.Environ(), jobVariable+"=")
	r.cmd.Dir = p.x.dir
	r.cmd.WaitDelay = untilTime // for its output: the CPUs may be busy
	r.cmd.SysProcAttr = &syscall.SysProcAttr{}
	if w.uid != 0 {
		r.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: w.uid, Gid: w.uid}
		r.cmd.Dir = "/"
	}
	if w.stdin != nil {
		r.cmd.Stdin = strings.NewReader(*w.stdin)
	} else {
		in, keyboard, err := os.Pipe()
		if err != nil {
			p.x.errorf("%v", err)
			runtime.Goexit()
		}
		defer in.Close()
		r.cmd.Stdin, r.keyboard = in, keyboard
	}
	started := func() chan struct{} { return r.ended }
	var err error
	if w.oracle != nil {
		started, err = watch(r.cmd, w.oracle)
	}
	if w.change != nil {
		w.change(r.cmd)
	}
	if err == nil {
		err = r.cmd.Start()
	}
	if err != nil {
		p.x.errorf("%s: %v", r.command, err)
		close(r.ended)
		runtime.Goexit()
	}
	r.gone = started()
	go func() {
		r.cmd.Wait()
		close(r.ended)
		if r.keyboard != nil {
			r.keyboard.Close()
		}
	}()
	return r
}

// find finds a program by the number of its lesson and its own name.
func (x *experiment) find(program string) string {
	lesson, name, _ := strings.Cut(program, "/")
	if name == "" || len(lesson) != 2 {
		return program
	}
	for _, dir := range x.job.Path {
		files, _ := filepath.Glob(filepath.Join(dir, lesson+"-*", name))
		if len(files) == 1 {
			return files[0]
		}
	}
	x.errorf("no program %s", program)
	runtime.Goexit()
	return ""
}

// within waits for its end, so long, and tells whether it came.
func (r *run) within(d time.Duration) bool {
	return closed(r.ended, d)
}

// prints waits until it has printed a text, or has ended without.
func (r *run) prints(text string) bool {
	return r.until(func() bool { return strings.Contains(r.out.String()+r.err.String(), text) })
}

// printsAny waits until there is something on its standard output.
func (r *run) printsAny() bool {
	return r.until(func() bool { return r.out.String() != "" })
}

// until waits for something, and tells whether it came before its end.
func (r *run) until(seen func() bool) bool {
	came := false
	eventually(untilTime, func() bool {
		ended := r.within(0)
		came = seen()
		return came || ended
	})
	return came
}

// kill ends it for good.
func (r *run) kill() {
	r.cmd.Process.Kill()
	<-r.ended
}

// status is its exit status, or the signal that ended it.
func (r *run) status() string {
	select {
	case <-r.ended:
	default:
		return "running"
	}
	state := r.cmd.ProcessState
	if w := state.Sys().(syscall.WaitStatus); w.Signaled() {
		return strings.TrimPrefix(unix.SignalName(w.Signal()), "SIG")
	}
	return fmt.Sprint(state.ExitCode())
}

// is checks that it has ended with one of these, and without a panic.
func (r *run) is(statuses ...string) error {
	text := r.err.String()
	if strings.Contains(text, "\ngoroutine ") || strings.Contains(text, "DATA RACE") {
		return fmt.Errorf("panic or data race: %v", r)
	}
	if !slices.Contains(statuses, r.status()) {
		return fmt.Errorf("want %s: %v", strings.Join(statuses, " or "), r)
	}
	if r.status() == "1" && !strings.Contains(text, ": ") {
		return fmt.Errorf("no reason given: %v", r)
	}
	return nil
}

func (r *run) String() string {
	return fmt.Sprintf("%s\n  status %s after %.1f s\n  stdout: %q\n  stderr: %q", r.command,
		r.status(), time.Since(r.started).Seconds(), r.out.String(), r.err.String())
}

// TestFaultTable holds the README's table of faults to what there is: each of
// the scripts and tests that it names, each of the tests in it, and for each
// row a broken program that one of its tests notices.
func TestFaultTable(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Faults\n")
	section, _, _ = strings.Cut(section, "\n## ")
	noticed := map[string]bool{} // by what, a broken program
	for _, lesson := range lessons() {
		files, _ := filepath.Glob("testdata/" + lesson + "/broken/*.txtar")
		for _, file := range files {
			script := readBroken(t, file).script
			if name, ok := strings.CutPrefix(script, "fault "); ok {
				noticed["TestFaults/"+name] = true
			} else {
				noticed[lesson+"/"+script] = true
			}
		}
	}
	shown := map[string]bool{}
	rows := 0
	for line := range strings.Lines(section) {
		if !strings.HasPrefix(line, "| ") {
			continue
		}
		cells := strings.Split(line, " | ")
		names := regexp.MustCompile("`[^` ]+/[^` ]+`").FindAllString(cells[len(cells)-1], -1)
		if rows++; len(names) == 0 && rows > 1 {
			t.Errorf("nothing shows this: %s", line)
		}
		proven := rows == 1 // the heading
		for _, name := range names {
			name = strings.Trim(name, "`")
			for by := range noticed {
				proven = proven || by == name || strings.HasPrefix(by, name+"/")
			}
			prefix, isTest := strings.CutPrefix(name, "TestFaults/")
			found := false
			for _, f := range faults() {
				if isTest && (f.name == prefix || strings.HasPrefix(f.name, prefix+"/")) {
					found, shown[f.name] = true, true
				}
			}
			if !isTest {
				_, err := os.Stat("testdata/" + name + ".txtar")
				found = err == nil
			}
			if !found {
				t.Errorf("there is no %s", name)
			}
		}
		if !proven {
			t.Errorf("no broken program shows that this can fail: %s", line)
		}
	}
	if rows < 20 {
		t.Errorf("the table has %d rows", rows)
	}
	for _, f := range faults() {
		if !shown[f.name] {
			t.Errorf("the table does not name TestFaults/%s", f.name)
		}
	}
}
