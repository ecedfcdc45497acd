//go:build linux

package shm_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// TestFaults causes faults while programs run. Without -long it does so at one or
// two points of each pair of programs, with -long at every call that they make.
// The table in testdata/README.md says what must happen then.
func TestFaults(t *testing.T) {
	needWorlds(t)
	if raceEnabled() && !*long {
		t.Skip("with -race the faults are only caused with -long: they take too long")
	}
	t.Parallel()
	for _, f := range faults() {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			f.cause(&experiment{tester: t, path: []string{built}, dir: t.TempDir(), long: *long})
		})
	}
}

// A fault is something that goes wrong, because the test causes it.
type fault struct {
	name  string // such as killed/01-writer-reader
	needs string // a condition that must hold, or empty
	do    func(*experiment)
}

// cause causes a fault, if this machine can.
func (f fault) cause(x *experiment) {
	if f.needs != "" {
		if ok, err := condition(f.needs); !ok || err != nil {
			x.Skip("needs the condition", f.needs, err)
		}
	}
	f.do(x)
}

func faults() []fault {
	all := []fault{
		{"flags", "", wrongFlags},
	}
	for _, p := range pairs() {
		for _, k := range kinds() {
			all = append(all, fault{k.name + "/" + p.name, "seccomp",
				func(x *experiment) { atCalls(x, p, k) }})
		}
		all = append(all, fault{"output/" + p.name, "", func(x *experiment) { noOutput(x, p) }},
			fault{"interrupted/" + p.name, "", func(x *experiment) { interrupted(x, p) }},
			fault{"few-rights/" + p.name, "setpriv", func(x *experiment) {
				x.causeAtEach(p, []point{{side: both, name: "few rights", change: withFewRights}})
			}})
		if len(p.objects) > 0 {
			all = append(all, fault{"limits/" + p.name, "sysctl", func(x *experiment) { ipcLimits(x, p) }})
		}
		if p.b != "" {
			all = append(all, fault{"pid-namespaces/" + p.name, "pidns",
				func(x *experiment) { pidNamespaces(x, p) }})
		}
	}
	return all
}

// causeBroken causes a fault to the programs in these directories, one of which
// is broken. The recorder shows whether this was noticed.
func causeBroken(t *testing.T, name string, path []string) *recorder {
	all := faults()
	i := slices.IndexFunc(all, func(f fault) bool { return f.name == name })
	if i < 0 {
		t.Fatalf("no such fault: %s", name)
	}
	r, dir := new(recorder), t.TempDir()
	r.Run("", func(testscript.T) {
		all[i].cause(&experiment{tester: r, path: path, dir: dir, long: true, once: true})
	})
	return r
}

// An experiment is a fault that is being caused.
type experiment struct {
	tester
	path  []string // directories with programs; the first that has a program counts
	dir   string   // for their output
	long  bool     // cause it at many points
	once  bool     // stop at the first failure
	mutex sync.Mutex
	runs  int
}

type tester interface {
	Errorf(format string, args ...any)
	Failed() bool
	Log(args ...any)
	Skip(args ...any)
}

// each calls do for all elements, a few at once, each in a world of its own.
func each[T any](x *experiment, all []T, do func(T) error) {
	next := make(chan T)
	var workers sync.WaitGroup
	for range min(4, len(all)) {
		workers.Go(func() {
			for one := range next {
				if x.once && x.Failed() {
					continue
				}
				if err := x.inWorld(func() error { return do(one) }); err != nil {
					x.mutex.Lock()
					x.Errorf("%v", err)
					x.mutex.Unlock()
				}
			}
		})
	}
	for _, one := range all {
		next <- one
	}
	close(next)
	workers.Wait()
}

// inWorld does something in a world of its own, which must be empty again.
func (x *experiment) inWorld(do func() error) error {
	result := make(chan error)
	go func() { // the world ends with this goroutine and its thread
		w, err := newWorld(x)
		if err == nil {
			err = do()
			if left := w.left(); err == nil && len(left) > 0 {
				err = fmt.Errorf("left behind: %s", strings.Join(left, " "))
			}
		}
		result <- err
	}()
	return <-result
}

// A pair is two programs that work together, or a single program. Without a fault
// both end with 0. A program is named LESSON/PROGRAM, the lesson by its number.
type pair struct {
	name string
	a, b string // commands; b is empty for a single program

	objects  []string             // what a makes, as the function objects names it
	together bool                 // both start at once; otherwise b waits for a first
	stdin    string               // input of a; if empty, its input ends when b has ended
	enter    string               // the input of both ends when both have printed this
	before   string               // a command that makes what the pair needs
	after    string               // a command that removes what the pair leaves on purpose
	names    bool                 // the next run may fail, and name ipcrm as the cure
	cure     bool                 // the command after also ends a wait for a dead process
	patient  bool                 // neither notices that the other one was killed
	check    func(*process) error // checks the output of b, or of a single program
}

// pace are flags with which a works at this interval, if it has a flag for that.
func (p pair) pace(interval string) string {
	if !strings.Contains(p.a, "-interval ") {
		return ""
	}
	return "-interval " + interval
}

func prints(text string) func(*process) error {
	return func(p *process) error {
		if !strings.Contains(p.stdout(), text) {
			return fmt.Errorf("did not print %q: %v", elide(text), p)
		}
		return nil
	}
}

// pairs are all programs, in the pairs in which they run.
func pairs() []pair {
	someText := strings.Repeat("To be copied, byte for byte.\n", 100)
	segment := func(key uint32) string { return fmt.Sprintf("segment, key %#x", key) }
	semaphores := func(key uint32) string { return fmt.Sprintf("semaphore set, key %#x", key) }
	all := []pair{
		{name: "01-writer-reader", check: prints("Reading Process: Complete"),
			a: "01/writer -n 2 -interval 1s", b: "01/reader",
			objects: []string{segment(0x1234)}},
		{name: "02-main-reader", check: prints("Hello from shared memory!"), patient: true,
			a: "02/02-posix-shm", b: "02/reader", objects: []string{"/dev/shm/my_shared_memory"}},
		{name: "02-large", check: prints("Press Enter"), together: true, enter: "Press Enter",
			a: "02/large", b: "02/large", objects: []string{"/dev/shm/large_shared_memory"}},
		{name: "02-ring", check: prints("Cache line size"),
			a: "02/producer -n 20000", b: "02/consumer -n 20000",
			objects: []string{"/dev/shm/optimized_buffer"}},
		{name: "03-producer-consumer", check: prints("Consumer: Finished and cleaned up"),
			a: "03/producer -n 2 -interval 1s", b: "03/consumer -n 2",
			objects: []string{segment(12345)}},
		{name: "03-writer-reader", check: prints(someText), stdin: someText,
			a: "03/writer", b: "03/reader", objects: []string{segment(0x1234), semaphores(0x5678)}},
	}
	for i, sync := range []string{"sysv", "posix", "atomic", "none"} {
		objects := []string{segment(uint32(54321 + i))}
		switch sync {
		case "sysv":
			objects = append(objects, semaphores(56789))
		case "posix":
			objects = append(objects, "/dev/shm/sem.semaphore_counter")
		}
		command := "04/04-semaphore-counter -work 20ms -sync " + sync
		all = append(all, pair{name: "04-" + sync, check: prints("Updated count"), together: true,
			a: command, b: command, after: command + " -rm", objects: objects,
			cure: sync == "posix", patient: sync == "posix"}) // a POSIX semaphore does not know its holder
	}
	for _, sync := range []string{"normal", "robust"} {
		all = append(all, pair{name: "05-" + sync, check: prints("Final counter = 60 (expected 60)"),
			a:       "05/05-pthread-style-mutex -n 30 -sync " + sync,
			objects: []string{segment(ftok("/tmp", 'M'))}})
	}
	return append(all,
		pair{name: "06-offsets", check: prints("value = 30"), a: "06/06-offsets", names: true,
			objects: []string{segment(ftok("/tmp", 'Z'))}},
		pair{name: "07-shm-lock", check: prints("Segment unlocked"), a: "07/07-shm-lock", names: true,
			objects: []string{segment(ftok("/tmp", 'L'))}},
		pair{name: "08-create", check: prints("Segment size: 4096 bytes"), objects: []string{segment(8)},
			a: "08/08-info create -key 8 -size 4096", after: "08/08-info rm -key 8"},
		pair{name: "08-rm", check: prints("removed"), a: "08/08-info rm -key 8",
			before: "08/08-info create -key 8 -size 4096", after: "08/08-info rm -key 8"},
	)
}

// noPair names programs that are in no pair, and says why.
var noPair = map[string]string{
	"02/compare": "it runs for seconds and starts its own pairs; the scripts compare and " +
		"compare-left kill these",
}

// notInPairs lists the programs that are neither in a pair nor an exception, and
// the exceptions that are out of date.
func notInPairs(programs []string, pairs []pair, exceptions map[string]string) (wrong []string) {
	paired := map[string]bool{}
	for _, p := range pairs {
		for _, command := range []string{p.a, p.b} {
			program, _, _ := strings.Cut(command, " ")
			paired[program] = true
		}
	}
	for _, program := range programs {
		if !paired[program] && exceptions[program] == "" {
			wrong = append(wrong, program+" is in no pair, so no fault is caused to it: give it one "+
				"in pairs() in faults_test.go, or name the reason in noPair")
		}
	}
	for program := range exceptions {
		if paired[program] || !slices.Contains(programs, program) {
			wrong = append(wrong, program+" is in noPair, but is in a pair, or does not exist")
		}
	}
	return wrong
}

// TestPairs demands that faults are caused to every program.
func TestPairs(t *testing.T) {
	var programs []string
	for _, lesson := range lessons() {
		mains, err := mainPackages(lesson)
		if err != nil {
			t.Fatal(err)
		}
		for _, dir := range mains {
			programs = append(programs, lesson[:2]+"/"+filepath.Base(dir))
		}
	}
	for _, wrong := range notInPairs(programs, pairs(), noPair) {
		t.Error(wrong)
	}
	// Show that the check can fail.
	for _, c := range []struct {
		programs   []string
		exceptions map[string]string
		want       int
	}{
		{[]string{"01/a", "01/b"}, nil, 0},
		{[]string{"01/a", "01/b", "09/c"}, nil, 1},
		{[]string{"01/a", "01/b", "09/c"}, map[string]string{"09/c": "a reason"}, 0},
		{[]string{"01/a", "01/b", "09/c"}, map[string]string{"09/c": ""}, 1},
		{[]string{"01/a", "01/b"}, map[string]string{"01/b": "a reason"}, 1},
		{[]string{"01/a", "01/b"}, map[string]string{"09/c": "a reason"}, 1},
	} {
		pairs := []pair{{a: "01/a -n 2", b: "01/b"}}
		if wrong := notInPairs(c.programs, pairs, c.exceptions); len(wrong) != c.want {
			t.Errorf("programs %v, exceptions %v: %q", c.programs, c.exceptions, wrong)
		}
	}
}

const both = 2

// A point is where the test does something to a program of a pair: at its n-th
// call of this name, or at its start.
type point struct {
	side    int // 0 for a, 1 for b, or both
	name    string
	n       int
	outcome outcome
	change  func(*exec.Cmd)
}

func (p point) String() string {
	return fmt.Sprintf("%s, %s %d: %v", []string{"a", "b", "both"}[p.side], p.name, p.n, p.outcome)
}

// find finds a program by LESSON/PROGRAM.
func (x *experiment) find(program string) string {
	lesson, name, _ := strings.Cut(program, "/")
	for _, dir := range x.path {
		files, _ := filepath.Glob(filepath.Join(dir, lesson+"-*", name))
		if len(files) == 1 {
			return files[0]
		}
	}
	return program // it does not exist, so starting it fails
}

// start starts the command LESSON/PROGRAM ARG... with this input. With an empty
// stdin its input does not end before p.keyboard is closed.
func (x *experiment) start(command string, change func(*exec.Cmd), stdin string) (*process, error) {
	words := strings.Fields(command)
	cmd := exec.Command(x.find(words[0]), words[1:]...)
	cmd.Dir = x.dir
	var keyboard *os.File
	if stdin != "" {
		cmd.Stdin = strings.NewReader(stdin)
	} else {
		in, out, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		defer in.Close()
		cmd.Stdin, keyboard = in, out
	}
	if change != nil {
		change(cmd)
	}
	x.mutex.Lock()
	x.runs++
	name := fmt.Sprint("run", x.runs)
	x.mutex.Unlock()
	p, err := startProcess(cmd, x.dir, name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", command, err)
	}
	if p.keyboard = keyboard; keyboard != nil {
		go func() { <-p.ended; keyboard.Close() }()
	}
	return p, nil
}

// run runs a command, which must end with one of these statuses.
func (x *experiment) run(command string, statuses ...string) error {
	p, err := x.start(command, nil, "")
	if err != nil {
		return err
	}
	defer p.kill()
	p.keyboard.Close()
	if p.within(runTime); len(statuses) > 0 {
		return p.is(statuses...)
	}
	return nil
}

const (
	runTime = 15 * time.Second // a run may take so long on a busy machine
	slack   = 6 * time.Second  // so may what a program promises to do within 2 s
)

// seen waits until a process has printed a text, or has ended.
func (p *process) seen(text string) bool {
	eventually(untilTime, func() bool {
		return strings.Contains(p.stdout()+p.stderr(), text) || p.within(0)
	})
	return strings.Contains(p.stdout()+p.stderr(), text)
}

// is checks that a process has ended with one of these statuses, without a panic,
// and that it has given a reason if it failed.
func (p *process) is(statuses ...string) error {
	switch status := p.status(); {
	case p.panicked():
		return fmt.Errorf("panic or data race: %v", p)
	case !slices.Contains(statuses, status):
		return fmt.Errorf("want %s: %v", strings.Join(statuses, " or "), p)
	case status == "1" && !strings.Contains(p.stderr(), ": "):
		return fmt.Errorf("no reason given: %v", p)
	}
	return nil
}

// A trial is a pair that runs, with a fault at a point.
type trial struct {
	*experiment
	pair
	at   point
	runs [2]*process
	gone <-chan struct{} // closed when a watched program and its children have ended

	calls   map[string]int // the calls made so far on the side of the point, by name
	removes bool           // the call at the point removes something
}

// begin starts a pair.
func (x *experiment) begin(p pair, at point, flags string) (t *trial, err error) {
	t = &trial{experiment: x, pair: p, at: at, calls: map[string]int{}}
	if p.before != "" {
		if err := x.run(p.before, "0"); err != nil {
			return t, err
		}
	}
	if p.b != "" && !p.together {
		if t.runs[1], err = t.startSide(1, p.b); err != nil {
			return t, err
		}
		t.runs[1].seen("waiting for")
	}
	if t.runs[0], err = t.startSide(0, p.a+" "+flags); err != nil {
		return t, err
	}
	if p.together {
		t.runs[1], err = t.startSide(1, p.b)
	}
	t.endInput()
	return t, err
}

// startSide starts one program of the pair, and watches its calls if the point is
// on its side.
func (t *trial) startSide(side int, command string) (*process, error) {
	stdin := ""
	if side == 0 {
		stdin = t.stdin
	}
	var err error
	var started func() chan struct{}
	p, e := t.start(command, func(cmd *exec.Cmd) {
		if t.at.side != side && t.at.side != both {
			return
		}
		if t.at.change != nil {
			t.at.change(cmd)
		} else if t.at.side != both {
			started, err = watch(cmd, func(c call) (f outcome) {
				name := watched[c.nr].name
				if t.calls[name]++; name == t.at.name && t.calls[name] == t.at.n {
					t.removes = c.removes()
					return t.at.outcome
				}
				return f
			})
		}
	}, stdin)
	if err = errors.Join(err, e); err == nil && started != nil {
		t.gone = started()
	}
	return p, err
}

// endInput ends the input of the programs when they have done their work.
func (t *trial) endInput() {
	for side, p := range t.runs {
		switch other := t.runs[1-side]; {
		case p == nil || p.keyboard == nil:
		case other == nil:
			p.keyboard.Close()
		case t.enter != "":
			go func() {
				if p.seen(t.enter) {
					other.seen(t.enter)
				}
				p.keyboard.Close()
			}()
		default:
			go func() { <-other.ended; p.keyboard.Close() }()
		}
	}
}

func (t *trial) all() []*process {
	return slices.DeleteFunc(t.runs[:], func(p *process) bool { return p == nil })
}

// asUsual checks that both programs end with 0 and have done their work. Then it
// removes what they leave on purpose.
func (t *trial) asUsual() error {
	for _, p := range t.all() {
		p.within(runTime)
		if err := p.is("0"); err != nil {
			return fmt.Errorf("%w\nof %v", err, t.all())
		}
	}
	all := t.all()
	return errors.Join(t.check(all[len(all)-1]), t.cleanUp())
}

func (t *trial) cleanUp() error {
	if t.after == "" {
		return nil
	}
	return t.run(t.after)
}

func (t *trial) end() {
	for _, p := range t.all() {
		p.kill()
	}
}

// causeAtEach runs the pair once for each point, with the fault at that point, and
// then once more without a fault.
func (x *experiment) causeAtEach(p pair, points []point) {
	each(x, points, func(at point) error {
		flags := ""
		if at.outcome.pause > 0 {
			flags = p.pace("4s") // longer than the pause: b must miss nothing
		}
		t, err := x.begin(p, at, flags)
		if err == nil {
			err = t.endsWell()
		}
		t.end()
		if err == nil && at.side != both && at.outcome.pause == 0 {
			err = x.nextRun(p)
		}
		if err != nil {
			err = fmt.Errorf("%s at %v: %w", p.name, at, err)
		}
		return err
	})
}

var namesCure = regexp.MustCompile(`ipcrm -M (0x[0-9a-f]+) `)

// nextRun runs the pair without a fault. Lessons 06 and 07 have no leftover rule:
// if a kill in their first moment has left a segment, they name the cure.
func (x *experiment) nextRun(p pair) error {
	t, err := x.begin(p, point{side: both}, "")
	defer t.end()
	if err == nil {
		err = t.asUsual()
	}
	if m := namesCure.FindStringSubmatch(fmt.Sprint(err)); p.names && m != nil {
		if err = x.run("08/08-info rm -key "+m[1], "0"); err == nil {
			p.names = false
			return x.nextRun(p)
		}
	}
	if err != nil {
		return fmt.Errorf("the next run: %w", err)
	}
	return nil
}

// endsWell checks that no program hangs, panics, or leaves an object.
func (t *trial) endsWell() error {
	if t.at.outcome.pause > 0 || t.at.outcome.err == unix.EINTR || t.at.side == both {
		return t.asUsual()
	}
	victim, other := t.runs[t.at.side], t.runs[1-t.at.side]
	statuses := []string{"0", "1"}
	if t.at.outcome.kill {
		statuses = append(statuses, "KILL")
	}
	eventually(runTime, func() bool {
		return victim.within(0) || other != nil && other.within(0)
	})
	if !victim.within(slack) {
		if t.at.outcome.kill || other == nil {
			return fmt.Errorf("hangs: %v", victim)
		}
		// The victim has started again, and the other one's object is gone.
		return t.outlives(other, victim)
	}
	if err := t.outlives(victim, other); err != nil {
		return err
	}
	if t.at.outcome.int && other == nil && t.check(victim) == nil {
		// It has done all its work. When main returns, it no longer catches signals.
		statuses = append(statuses, "INT")
	}
	if err := victim.is(statuses...); err != nil {
		return err
	}
	if t.gone != nil && !eventually(slack, func() bool { return closed(t.gone) }) {
		return fmt.Errorf("a child of it still runs: %v", victim)
	}
	for name := range objects() {
		if !ours(name) && !strings.HasSuffix(name, "key 0x0,") { // it is marked for removal
			return fmt.Errorf("the pair makes %s, and its objects do not name it", name)
		}
	}
	if left := objects(); haveWorlds && len(left) > 0 && !t.at.outcome.kill && !t.removes && t.after == "" {
		return fmt.Errorf("left behind: %v\n%v\n%v", left, victim, other)
	}
	if t.cure {
		return t.cleanUp()
	}
	return nil
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// outlives checks that the other program ends soon after the victim, or that it
// waits for the next one, and works with that as usual.
func (t *trial) outlives(victim, other *process) error {
	if other == nil {
		return nil
	} else if other.within(slack) {
		return other.is("0", "1")
	}
	if t.cure {
		err := t.cleanUp()
		other.within(slack)
		return errors.Join(err, other.is("0", "1"))
	}
	if !strings.Contains(other.stderr(), "waiting for") {
		return fmt.Errorf("hangs: %v\nsince the end of %v", other, victim)
	}
	again := &trial{experiment: t.experiment, pair: t.pair, at: point{side: both}, runs: t.runs}
	side := slices.Index(t.runs[:], victim)
	var err error
	again.runs[side], err = again.startSide(side, []string{t.a, t.b}[side])
	if err == nil {
		again.endInput()
		err = again.asUsual()
	}
	again.end()
	if err != nil {
		return fmt.Errorf("with another program instead of the victim: %w", err)
	}
	return nil
}

// A kind is a kind of fault at a call.
type kind struct {
	name     string
	outcomes func(name string) []outcome // for a call of this name
	few      int                         // with -long, at so many calls of the same name
	short    int                         // without -long, at so many points
}

func kinds() []kind {
	always := func(f outcome) func(string) []outcome { return func(string) []outcome { return []outcome{f} } }
	return []kind{
		{"killed", always(outcome{kill: true}), 100, 1},
		{"ctrl-c", always(outcome{int: true}), 3, 1},
		{"delayed", always(outcome{pause: time.Second}), 3, 1},
		{"stopped", always(outcome{pause: 3 * time.Second, stop: true}), 2, 1},
		{"failing", func(name string) (all []outcome) {
			for _, call := range watched {
				for _, err := range call.errors {
					if call.name == name {
						all = append(all, outcome{err: err})
					}
				}
			}
			return all
		}, 6, 2},
	}
}

// atCalls causes faults of a kind at the calls of both programs of a pair. It
// finds these calls by running the pair once, without a fault.
func atCalls(x *experiment, p pair, k kind) {
	sides := []int{0, 1}
	if p.b == "" {
		sides = sides[:1]
	} else if !x.long { // one of the two, chosen by the length of the name
		sides = sides[len(k.name+p.name)%2:][:1]
	}
	var points []point
	for _, side := range sides {
		err := x.inWorld(func() error {
			t, err := x.begin(p, point{side: side}, "")
			if err == nil {
				err = t.asUsual()
			}
			t.end()
			// After that t.calls does not change any more.
			if t.gone != nil && !eventually(scriptTime, func() bool { return closed(t.gone) }) {
				err = errors.Join(err, errors.New("a process still runs"))
			}
			for name, n := range t.calls {
				for i := range min(n, k.few) {
					for _, f := range k.outcomes(name) {
						points = append(points, point{side: side, name: name, n: i + 1, outcome: f})
					}
				}
			}
			return err
		})
		if err != nil {
			x.Errorf("%s, without a fault: %v", p.name, err)
			return
		}
	}
	slices.SortFunc(points, func(a, b point) int {
		return strings.Compare(fmt.Sprintf("%02d%v", a.n, a), fmt.Sprintf("%02d%v", b.n, b))
	})
	few := len(points)
	if x.once {
		few = min(few, 50)
	} else if !x.long {
		few = min(few, k.short)
	}
	for i := range few { // at equal distances
		points[i] = points[(2*i+1)*len(points)/(2*few)]
	}
	x.causeAtEach(p, points[:few])
}

// noOutput runs a pair whose output nobody reads, or whose standard output or
// standard input is closed.
func noOutput(x *experiment, p pair) {
	r, w, err := os.Pipe()
	if err != nil {
		x.Errorf("%v", err)
		return
	}
	defer w.Close()
	r.Close()
	changes := map[string]func(*exec.Cmd){
		"head -0":       func(cmd *exec.Cmd) { cmd.Stdout = w },
		"stdin closed":  inShell(`exec "$0" "$@" <&-`),
		"stdout closed": inShell(`exec "$0" "$@" >&-`),
	}
	var points []point
	for name, change := range changes {
		for side, command := range []string{p.a, p.b} {
			if command != "" && (x.long || name == "head -0") && (side == 0 || name != "stdin closed") {
				points = append(points, point{side: side, name: name, change: change})
			}
		}
	}
	x.causeAtEach(p, points)
}

// inShell starts a program through a shell script.
func inShell(script string) func(*exec.Cmd) {
	return func(cmd *exec.Cmd) {
		cmd.Args = append([]string{"sh", "-c", script, cmd.Path}, cmd.Args[1:]...)
		cmd.Path = "/bin/sh"
	}
}

// withFewRights takes away the capabilities that root in a container lacks.
func withFewRights(cmd *exec.Cmd) {
	inShell(`exec setpriv --bounding-set=-sys_admin,-ipc_lock ` +
		`--inh-caps=-sys_admin,-ipc_lock -- "$0" "$@"`)(cmd)
}

// pidNamespaces runs each program of a pair in a PID namespace of its own, where
// both have the pid 1. Then it does so once more, and kills the first.
func pidNamespaces(x *experiment, p pair) {
	at := point{side: both, name: "own PID namespaces", change: inPIDNamespace}
	x.causeAtEach(p, []point{at})
	if p.patient {
		return
	}
	long := p
	long.stdin = ""
	each(x, []point{at}, func(point) error {
		t, err := x.begin(long, at, p.pace("300s"))
		defer t.end()
		if err != nil {
			return err
		}
		eventually(slack, func() bool { return attached(t.runs[0]) && attached(t.runs[1]) })
		t.runs[0].kill()
		if err = t.outlives(t.runs[0], t.runs[1]); err != nil {
			return err
		}
		return x.nextRun(p)
	})
}

// attached tells whether a process has shared memory mapped.
func attached(p *process) bool {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/maps", p.cmd.Process.Pid))
	return slices.ContainsFunc(strings.Fields(string(text)), isShared)
}

func inPIDNamespace(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
	if os.Geteuid() != 0 {
		uid, gid := os.Geteuid(), os.Getegid()
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
	}
}

// interrupted sends a thousand signals a second to the programs of a pair. They
// work as usual, and no unit of a semaphore is lost.
func interrupted(x *experiment, p pair) {
	rounds := 1
	if x.long {
		rounds = 20
	}
	each(x, slices.Repeat([]pair{p}, rounds), func(p pair) error {
		t, err := x.begin(p, point{side: both}, "")
		for _, r := range t.all() {
			go r.storm()
		}
		if err == nil {
			err = t.asUsual()
		}
		t.end()
		return err
	})
}

// storm sends signals that end no program to each thread of a process.
func (p *process) storm() {
	signals := []syscall.Signal{unix.SIGURG, unix.SIGWINCH, unix.SIGCONT, unix.SIGCHLD}
	for i := 0; !p.within(0); i++ {
		pid := p.cmd.Process.Pid
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
		for _, task := range tasks {
			thread := 0
			fmt.Sscan(filepath.Base(task), &thread)
			unix.Tgkill(pid, thread, signals[i%len(signals)])
		}
		time.Sleep(time.Millisecond)
	}
}

// A limit of the IPC namespace that does not allow an object, and the call that
// then fails.
type limit struct{ file, value, object, call string }

// ipcLimits runs a program that makes System V objects, under limits that do not
// allow it. It must fail, and name the call.
func ipcLimits(x *experiment, p pair) {
	var limits []limit
	for _, l := range []limit{
		{"shmmax", "200", "segment", "shmget"},
		{"shmall", "0", "segment", "shmget"},
		{"shmmni", "0", "segment", "shmget"},
		{"sem", "250 32000 32 0", "semaphore set", "semget"},
		{"sem", "0 32000 32 128", "semaphore set", "semget"},
	} {
		if slices.ContainsFunc(p.objects, func(o string) bool { return strings.HasPrefix(o, l.object) }) {
			limits = append(limits, l)
		}
	}
	each(x, limits, func(l limit) error {
		if err := os.WriteFile("/proc/sys/kernel/"+l.file, []byte(l.value), 0); err != nil {
			return err
		}
		t, err := x.start(p.a, nil, "text")
		if err != nil {
			return err
		}
		if t.within(runTime); !strings.Contains(t.stderr(), l.call) {
			err = fmt.Errorf("does not name %s: %v", l.call, t)
		}
		if err = errors.Join(t.is("1"), err); err != nil {
			return fmt.Errorf("kernel.%s is %s: %w", l.file, l.value, err)
		}
		if p.after != "" {
			return x.run(p.after)
		}
		return nil
	})
}

var (
	flagLine    = regexp.MustCompile(`(?m)^  -(\S+)`)
	commandLine = regexp.MustCompile(`(?m)^  (\w+) +\w`)
)

const rightRefusal = "A program refuses each wrong flag and stray argument " +
	"before it prints to standard output. It exits with 2 and its usage, as package flag does, " +
	"or with 1 and \"PROGRAM: reason\" on standard error."

// wrongFlags gives wrong values to each flag of each program, as its -h shows
// them. The program must say so and end with 2 or 1, before it prints anything.
func wrongFlags(x *experiment) {
	help := func(args []string) string {
		text, _ := exec.Command(args[0], append(args[1:len(args):len(args)], "-h")...).CombinedOutput()
		return string(text)
	}
	var usages, all [][]string // programs with a command, with wrong flags
	files, _ := filepath.Glob(filepath.Join(built, "[0-9][0-9]-*", "*"))
	for _, file := range files {
		lesson := filepath.Base(filepath.Dir(file))
		file = x.find(lesson[:2] + "/" + filepath.Base(file))
		usages = append(usages, []string{file})
		usage := help([]string{file})
		if !strings.Contains(usage, "Usage of") {
			x.Errorf("%s -h must print \"Usage of\", as package flag does, and printed:\n%s", file, usage)
		}
		for _, m := range commandLine.FindAllStringSubmatch(usage, -1) {
			usages = append(usages, []string{file, m[1]})
		}
	}
	if len(usages) < 20 {
		x.Errorf("found only %d programs and commands", len(usages))
	}
	wrong := []string{"", "-1", "99999999999999999999", "9999999999h", "x", "-", "1e9", "ä"}
	wrongOf := map[string][]string{
		"key": {"4294967296"}, "name": {"/", "//", "/a/b", "/..", "/.", "a", "/" + strings.Repeat("x", 255)},
		"mode": {"8", "1000", "rw", "0x1ff"}, "sync": {"sysV", "mutex"},
		"size": {"0", "1k", "18446744073709551615"}, "procs": {"0", "1001"},
	}
	for _, usage := range usages {
		with := func(arg string) { all = append(all, append(slices.Clone(usage), arg)) }
		with("-no-such-flag")
		with("no-such-argument")
		with("")
		for _, m := range flagLine.FindAllStringSubmatch(help(usage), -1) {
			values := append(wrongOf[m[1]], wrong...)
			if !x.long { // one value for each flag
				values = values[len(all)%len(values):][:1]
			}
			for _, value := range values {
				with("-" + m[1] + "=" + value)
			}
		}
	}
	each(x, slices.Collect(slices.Chunk(all, len(all)/4+1)), func(some [][]string) error {
		for _, args := range some {
			cmd := exec.Command(args[0], args[1:]...)
			p, err := startProcess(cmd, x.dir, fmt.Sprintf("%p", cmd))
			if err != nil {
				return err
			}
			if !p.within(runTime) {
				p.cmd.Process.Kill()
				return fmt.Errorf("hangs: %v\n%s", p, rightRefusal)
			}
			if err := p.is("2", "1"); err != nil {
				return fmt.Errorf("%w\n%s", err, rightRefusal)
			}
			if p.stdout() != "" || p.status() == "2" && !strings.Contains(p.stderr(), "Usage of") {
				return fmt.Errorf("no usage, or began to work: %v\n%s", p, rightRefusal)
			}
		}
		return nil
	})
	x.Log(fmt.Sprintf("%d programs and commands, %d wrong usages", len(usages), len(all)))
}
