//go:build linux

package shm_test

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// A lab is the part of a lesson whose programs a student writes again. Its scripts,
// in testdata/LESSON/lab, judge programs in any language.
type lab struct {
	number, lesson string
	programs       []string
	// values are what the assignment says: keys, sizes and so on, as
	// variables of the scripts. Variant 0 is the tutorial's.
	values  func(variant int) map[string]string
	decider func() decider // says which calls can be held; may be nil
}

var labs = []*lab{
	{"01", "01-shm-write-read", []string{"writer", "reader"}, values01, nil},
	{"03", "03-producer-consumer", []string{"writer", "reader"}, values03,
		func() decider { return giving03{} }},
	{"04", "04-semaphore-counter", []string{"counter"}, values04,
		func() decider { return creation04{} }},
	{"05", "05-pthread-style-mutex", []string{"mutex"}, values05,
		func() decider { return &mutex05{kind: -1} }},
	{"06", "06-offsets", []string{"offsets"}, values06,
		func() decider {
			return &walk06{calls: map[string][]int{}, before: map[int]map[uint64]bool{}, where: map[int]map[uint64]bool{}}
		}},
}

// ours is our own program of this name.
func (sub *submission) ours(program string) string {
	l := sub.lab
	if len(l.programs) == 1 { // a lesson with one program, which has its name
		program = l.lesson
	}
	if path := filepath.Join(sub.changed, l.lesson, program); sub.changed != "" {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return filepath.Join(built, l.lesson, program)
}

// A labScript is one check of a lab, and its points.
type labScript struct {
	lab        *lab
	file, name string // a name is, for example, 01/reader-first
	text       string
	points     float64
	tier       string // basic, interop or robust
	limit      time.Duration
	alone      int           // ticks that it waits when no program of the student runs
	hung       time.Duration // after this time the grader itself hangs
	ending     time.Duration // how long all its processes may take to end
	needs      []string      // the student's programs that it starts
}

var tiers = []string{"basic", "interop", "robust"}

// needsOurs tells whether a script pairs the student's program with ours. It
// is left out in a variant.
func (s *labScript) needsOurs() bool { return strings.Contains(s.text, " our-") }

var skips = regexp.MustCompile(`(?m)^\[!(\w+)\] skip '?(.*?)'?$`)

// leftOut says why a script is not run in a variant, or on this machine.
func (s *labScript) leftOut(variant int) string {
	if variant != 0 && s.needsOurs() {
		return "our programs are of another variant"
	}
	for _, m := range skips.FindAllStringSubmatch(s.text, -1) {
		if holds, err := condition(m[1]); err == nil && !holds {
			return cmp.Or(m[2], "this machine has no "+m[1])
		}
	}
	return ""
}

const (
	defaultLimit = 20 * time.Second
	aloneFor     = 300
)

var (
	heading     = regexp.MustCompile(`(?m)^# (points|tier|limit): *(.*)\n`)
	startsInLab = regexp.MustCompile(`(?m)^start \S+(?: -\S+)* (\S+)`)
)

// readLab reads the scripts of a lab.
func readLab(l *lab) (scripts []*labScript, err error) {
	files, err := filepath.Glob(filepath.Join("testdata", l.lesson, "lab", "*.txtar"))
	for _, file := range files {
		s, e := readLabScript(l, file)
		err = errors.Join(err, e)
		scripts = append(scripts, s)
	}
	if err == nil && len(scripts) == 0 {
		err = fmt.Errorf("lab %s has no scripts", l.number)
	}
	return scripts, err
}

func readLabScript(l *lab, file string) (*labScript, error) {
	s := &labScript{lab: l, file: file, limit: defaultLimit, alone: aloneFor, ending: time.Minute,
		name: l.number + "/" + strings.TrimSuffix(filepath.Base(file), ".txtar")}
	text, err := os.ReadFile(file)
	s.text = string(text)
	for _, m := range heading.FindAllStringSubmatch(s.text, -1) {
		var e error
		switch value := strings.TrimSpace(m[2]); m[1] {
		case "points":
			s.points, e = strconv.ParseFloat(value, 64)
		case "tier":
			s.tier = value
		case "limit":
			s.limit, e = time.ParseDuration(value)
		}
		err = errors.Join(err, e)
	}
	for _, m := range startsInLab.FindAllStringSubmatch(s.text, -1) {
		if slices.Contains(l.programs, m[1]) && !slices.Contains(s.needs, m[1]) {
			s.needs = append(s.needs, m[1])
		}
	}
	s.hung = 2*time.Minute + 3*s.limit
	if s.points <= 0 || !slices.Contains(tiers, s.tier) {
		err = errors.Join(err, fmt.Errorf("%s: wants the lines \"# points: N\" and "+
			"\"# tier: basic|interop|robust\"", file))
	}
	return s, err
}

// A verdict is the result of one script.
type verdict struct {
	script *labScript
	points float64
	status string // passed, failed, skipped, or error: the grader's own

	seen, expected, likely string
	printed                string // everything
	sandbox                string // the directory that it had
	absent                 bool   // a program is missing
	load                   string // something came too late, and the machine was overloaded
	took                   time.Duration
}

// A submission is a student's folder for one lab.
type submission struct {
	lab     *lab
	dir     string             // a copy of it; empty for our own programs
	absent  map[string]absence // why a program cannot be run
	changed string             // where a broken program of ours is, for tests
	variant int
	bombs   atomic.Int32 // scripts in which it has started processes without end
}

// mostBombs is the number of scripts in which a submission may start processes
// without end. After that it is not started again: each time takes the processors
// from all others for seconds.
const mostBombs = 5

// judge runs a script.
func (sub *submission) judge(script *labScript) (v verdict) {
	start := time.Now()
	defer func() {
		v.script, v.took = script, time.Since(start)
	}()
	if why := script.leftOut(sub.variant); why != "" {
		return verdict{status: "skipped", seen: why}
	}
	for _, program := range script.needs {
		if why, absent := sub.absent[program]; absent {
			return verdict{status: "failed", absent: true, seen: why.seen, expected: script.firstComment(), likely: why.likely}
		}
	}
	if sub.bombs.Load() >= mostBombs {
		return verdict{status: "failed", expected: script.firstComment(), likely: withoutEnd,
			seen: fmt.Sprintf("not started: the program has started too many processes in %d other checks", mostBombs)}
	}
	run := &labRun{sub: sub, script: script, left: script.limit}
	v = verdict{status: "passed"}
	r := &recorder{limit: script.hung, kill: func() {
		if p := run.init.Load(); p != nil {
			p.Kill()
		}
	}}
	params := scriptParams(nil)
	params.Files = []string{script.file}
	params.Cmds = labCommands()
	params.UpdateScripts = false
	params.Setup = run.setup
	testscript.RunT(r, params)
	if r.stuck != "" {
		return verdict{status: "error", seen: fmt.Sprintf("the script hung for %v", r.limit), printed: r.stuck}
	}
	v.printed = readable(r.printed.String())
	if run.box != nil {
		v.sandbox = run.box.dir
	}
	switch {
	case r.skipped:
		v.status, v.seen = "skipped", lastLine(v.printed)
	case run.offence.seen != "":
		v.status, v.seen, v.likely = "failed", run.offence.seen, run.offence.likely
		v.expected = cmp.Or(script.commentAbove(failedLine(v.printed)), script.firstComment())
	case r.failed && run.failure == "":
		v.status, v.seen, v.load = "error", lastLine(v.printed), run.load
	case r.failed:
		v.status, v.seen, v.likely, v.load = "failed", run.failure, run.cause, run.load
		v.expected = script.commentAbove(failedLine(v.printed))
		if v.likely == "" {
			v.likely = "not known; grade this lab with -v, and compare what was printed with ASSIGNMENT.md"
		}
		if !run.late { // the machine was fast enough
			v.load = ""
		}
	default:
		v.points = script.points
	}
	return v
}

var failed = regexp.MustCompile(`(?m)^FAIL: .*:(\d+): `)

// failedLine is the number of the script's line that failed.
func failedLine(printed string) int {
	m := failed.FindStringSubmatch(printed)
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(m[1])
	return n
}

// commentAbove is the comment above a line. It says what the lines below it
// expect.
func (s *labScript) commentAbove(number int) (text string) {
	lines := strings.Split(s.text, "\n")
	inComment := false
	for _, line := range lines[:min(number, len(lines))] {
		comment, is := strings.CutPrefix(line, "#")
		if heading.MatchString(line+"\n") || !is {
			inComment = inComment && is
			continue
		}
		if !inComment {
			text = ""
		}
		inComment = true
		text = strings.TrimSpace(text + " " + strings.TrimSpace(comment))
	}
	return text
}

func (s *labScript) firstComment() string {
	for n := range strings.Split(s.text, "\n") {
		if text := s.commentAbove(n); text != "" && s.commentAbove(n+1) == text {
			return text
		}
	}
	return ""
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for _, line := range slices.Backward(lines) {
		if strings.HasPrefix(line, "FAIL: ") {
			return line
		}
	}
	return lines[len(lines)-1]
}

// A labRun is a script that is being run on a submission.
type labRun struct {
	sub      *submission
	script   *labScript
	box      *sandbox
	init     atomic.Pointer[os.Process] // process 1 of the sandbox, if it has one
	left     time.Duration              // until the script's limit
	failure  string                     // what was seen; empty if nothing failed
	causes   []cause                    // the last group of likely lines
	grouping bool                       // the last command was likely
	cause    string
	late     bool    // something did not happen in time
	hangs    bool    // a program did not end in time
	silent   bool    // something did not come, and a program runs that has printed nothing
	load     string  // the machine was overloaded when the script ended
	offence  offence // what a program has done to others
	finished map[string]*process
	values   map[string]string // of the assignment
	files    map[string][]byte // made by the commands input and remember
	history  history           // of lab 01
}

// A cause is what is likely if all its conditions hold.
type cause struct {
	text       string
	conditions []string
	sure       bool
}

// rank says when a cause is tried: those that are sure come first, those without
// a condition last.
func (c cause) rank() int {
	switch {
	case c.sure:
		return 0
	case len(c.conditions) > 0:
		return 1
	}
	return 2
}

func (run *labRun) setup(env *testscript.Env) error {
	values := run.sub.lab.values(run.sub.variant)
	if !haveWorlds { // the objects of others do not count, and are not removed
		foreign = objectsNow()
		scriptKeys = keysOf(values)
	}
	w, err := newWorld(env.T())
	if err != nil {
		return err
	}
	s := &session{world: w, running: map[string]*process{}, lab: run}
	run.finished, run.files = map[string]*process{}, map[string][]byte{}
	run.history = history{looks: map[string]*counter{}, gaps: map[string]time.Duration{}}
	env.Values["session"] = s
	dir := filepath.Join(env.WorkDir, ".sandbox")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if run.box, err = newSandbox(dir, run.sub.dir, false); err != nil {
		return err
	}
	if run.box.init != nil {
		run.init.Store(run.box.init.cmd.Process)
	}
	env.Defer(func() { s.endLab(env.T()) })
	if letter := values["FTOK"]; letter != "" { // the key is ftok("/tmp", letter)
		tmp := dir
		if !haveWorlds {
			tmp = "/tmp"
		}
		values["KEY"] = fmt.Sprintf("%#x", ftok(tmp, letter[0]))
	}
	for name, value := range values {
		env.Setenv(name, value)
	}
	run.values = values
	return nil
}

// keysOf are the keys that a script uses where there are no namespaces.
func keysOf(values map[string]string) (keys []uint32) {
	for _, name := range []string{"KEY", "SEMKEY", "OTHERKEY", "OTHERKEY2"} {
		if key, err := strconv.ParseUint(values[name], 0, 32); err == nil {
			keys = append(keys, uint32(key))
		}
	}
	if letter := values["FTOK"]; letter != "" {
		keys = append(keys, ftok("/tmp", letter[0]))
	}
	return keys
}

// endLab finds the cause of a failure, before anything changes. Then it cleans up.
func (s *session) endLab(t testscript.T) {
	run := s.lab
	run.load = overload(machineLoad(), runtime.NumCPU())
	s.findOffence()
	if run.failure != "" && run.cause == "" && run.offence.seen == "" {
		causes := append(run.causes, commonCauses(run.sub.lab, run.values)...)
		slices.SortStableFunc(causes, func(a, b cause) int { return cmp.Compare(a.rank(), b.rank()) })
		early := s.failedEarly()
		for _, p := range s.programs() { // a cause may be that nothing was printed
			p.captured[0].catchUp()
		}
		for _, c := range causes {
			if early != "" && !c.explains(s.named(early)) || !s.holds(c) {
				continue
			}
			run.cause = c.text
			if run.hangs && c.ofContent() {
				run.cause = "it hangs: it does not end; or " + c.text
			} else if run.silent && len(c.conditions) == 0 && c.ofContent() {
				run.cause += "; or it hangs"
			}
			break
		}
		if early != "" {
			run.cause = s.withEarly(run.cause, early)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.running)) {
		if text := s.evidence(name, s.running[name]); text != "" {
			t.Log(text)
		}
	}
	if err := run.box.end(run.script.ending); err != nil {
		if run.failure != "" { // it is judged already
			t.Log(err)
		} else {
			t.(interface{ Errorf(string, ...any) }).Errorf("%v", err)
		}
	}
	for _, p := range s.running {
		p.forgetChildren()
	}
	for _, p := range run.finished {
		p.forgetChildren()
	}
	for _, f := range s.open {
		f.Close()
	}
	s.world.left() // removes what is left: without worlds it would stay
}

// failedEarly names a program of the student that has failed before it has left a
// trace: it has printed nothing on standard output, and no segment or set knows it.
// What a script was about to check is then hardly the cause.
func (s *session) failedEarly() string {
	all := s.all()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		p := all[name]
		if p.judged && !p.signalled && !p.expected && isStatus(p.status(), "fail") && p.status() != "running" &&
			p.stdout() == "" && !knows(p.cmd.Process.Pid) {
			return name
		}
	}
	return ""
}

// knows tells whether a process has made a segment, or is the last one that has
// attached or detached it, or has used a semaphore.
func knows(pid int) bool {
	for _, g := range segmentsNow() {
		if int(g.desc.Cpid) == pid || int(g.desc.Lpid) == pid {
			return true
		}
	}
	for id := range tables[1].entries() {
		for n := 0; semctl(id, n, getVal) >= 0; n++ {
			if semctl(id, n, getPID) == pid {
				return true
			}
		}
	}
	return false
}

// explains tells whether a cause may explain the end of a program that has failed
// early. A crash with the segment attached would have left a trace in the segment.
func (c cause) explains(p *process) bool {
	conditions := strings.Join(c.conditions, " ")
	if !bySignal(p.status()) {
		return conditions != ""
	}
	return len(segmentsNow()) == 0 && (strings.Contains(conditions, "SEGV") || strings.Contains(conditions, "crashed"))
}

var saysEnd = regexp.MustCompile(`with an error|last line|end(s|ed) before`)

// withEarly adds to a cause that a program has failed early. The cause may be
// empty.
func (s *session) withEarly(text, name string) string {
	p := s.named(name)
	who := s.inWords(name)
	if who == name {
		who = "the " + name
	}
	silent := p.stderr() == ""
	if silent && strings.Contains(text, "last line") {
		text = ""
	}
	crashed := bySignal(p.status())
	switch {
	case text == "" && crashed:
		return who + " crashes before it has attached a segment: a call has failed and was not checked, or " +
			"there is a mistake at its start"
	case text == "" && silent:
		return who + " ends with an error, and does not say which"
	case text == "":
		return who + " ends with an error: see its last line"
	case saysEnd.MatchString(text):
		return text
	case crashed:
		return text + "; or " + who + " crashes before that"
	case silent:
		return text + "; or " + who + " ends with an error before that"
	}
	return text + "; or another error: see its last line"
}

// An offence is what a program has done to the grader's processes, or to the
// machine. It is the student's fault, whatever the script was doing.
type offence struct{ seen, likely string }

// findOffence looks for an offence before the sandbox ends.
func (s *session) findOffence() {
	run := s.lab
	if run.crowded(); run.offence.seen != "" {
		return
	}
	for name, p := range s.programs() {
		if isPeer(name) {
			p.settle()
		}
		if run.crowded() { // so all processes were killed
			return
		}
		if isPeer(name) && !p.signalled && slices.Contains(deadly, p.status()) {
			run.offence = offence{s.inWords(name + " " + ending(p.status())),
				"the program kills processes that it has not started, as with kill(-1, SIGKILL)"}
		}
	}
}

// settle waits for a process that is about to end, so that its status is known.
func (p *process) settle() {
	if pid := p.cmd.Process.Pid; !p.within(0) && (!runs(pid) || willEnd(pid)) {
		p.within(untilTime)
	}
}

// isKilled tells whether a process has got SIGKILL, and has not run since. See
// SigPnd in proc_pid_status(5).
func isKilled(pid int) bool {
	for _, pending := range []string{"SigPnd", "ShdPnd"} {
		if set, _ := strconv.ParseUint(statusField(pid, pending), 16, 64); set&(1<<(unix.SIGKILL-1)) != 0 {
			return true
		}
	}
	return false
}

// deadly are the signals that a peer does not survive.
var deadly = []string{"KILL", "TERM", "INT", "HUP", "QUIT", "ABRT"}

// crowded tells whether the sandbox was full of processes. Its process 1 has ended
// then, and the kernel kills the others.
func (run *labRun) crowded() bool {
	if run.offence.seen == "" && run.box != nil {
		if n := run.box.crowd(); n > 0 {
			run.offence = offence{fmt.Sprintf("the program has started %d processes and threads, and the limit is %d",
				n, sandboxProcesses), withoutEnd}
			run.sub.bombs.Add(1)
		}
	}
	return run.offence.seen != ""
}

const withoutEnd = "it starts processes without end: a child goes on in the loop that calls fork, " +
	"or the program starts itself again"

// machineLoad is the load average of the last minute. See proc_loadavg(5).
func machineLoad() float64 {
	text, _ := os.ReadFile("/proc/loadavg")
	word, _, _ := strings.Cut(string(text), " ")
	load, _ := strconv.ParseFloat(word, 64)
	return load
}

// overload says how large the load is, if it is so large that a correct program may
// come too late.
func overload(load float64, processors int) string {
	if load <= float64(8*processors) {
		return ""
	}
	return fmt.Sprintf("load %.0f on %d CPUs", load, processors)
}

// contentConditions look at what a program has done, and not at what it does.
var contentConditions = strings.Fields("segment segments size mode attached creator user int32 int64 letters text " +
	"semaphores number value last stdout stderr printed key semmode list link values stores unchanged")

var namesHang = regexp.MustCompile(`\b(hangs?|waits?|ends?|runs?|stops?|stopped|loops?|sleeps?|locks?|locked|goes on|for ever|again and again|see \d\d/)`)

// ofContent tells whether a cause says nothing of a program that still runs.
func (c cause) ofContent() bool {
	for _, condition := range c.conditions {
		word, _, _ := strings.Cut(strings.TrimPrefix(condition, "!"), " ")
		if !slices.Contains(contentConditions, word) {
			return false
		}
	}
	return !c.sure && !namesHang.MatchString(c.text)
}

// fail ends the script: the student's program has done something wrong.
func (s *session) fail(ts *testscript.TestScript, format string, args ...any) {
	s.lab.failure = s.inWords(strings.ReplaceAll(strings.TrimSpace(fmt.Sprintf(format, args...)), "\n", "; "))
	ts.Fatalf("%s", s.lab.failure)
}

// inWords replaces the names that the script gave to programs by words. The
// student has not read the script.
func (s *session) inWords(text string) string {
	for name := range s.programs() {
		text = strings.ReplaceAll(text, name, nameInWords(name))
	}
	return text
}

func nameInWords(name string) string {
	first, rest, _ := strings.Cut(name, "-")
	rest = strings.ReplaceAll(rest, "-", " ")
	switch first {
	case "the":
		return "the grader's " + rest
	case "our":
		return "our " + rest
	case "first", "second", "third", "next":
		return "the " + first + " " + rest
	}
	return name
}

// isPeer tells whether a name is a peer's: only these begin with "the-".
func isPeer(name string) bool { return strings.HasPrefix(name, "the-") }

// evidence says what a program has printed, and how it ended. For a peer it is
// empty, unless a step has failed.
func (s *session) evidence(name string, p *process) string {
	if isPeer(name) {
		if answer := lastLine(p.stdout()); strings.HasPrefix(answer, "error: ") {
			return s.inWords(fmt.Sprintf("%s: %s", name, answer))
		}
		return ""
	}
	return s.inWords(fmt.Sprintf("%s %s\n  stdout: %s\n  stderr: %s", name, ending(p.status()),
		elide(readable(p.stdout())), elide(readable(p.stderr()))))
}

// commonCauses are those in testdata/LESSON/lab/causes: they may explain the
// failure of any script of the lab. Those that say "surely" come before the
// script's own.
func commonCauses(l *lab, values map[string]string) (causes []cause) {
	text, _ := os.ReadFile(filepath.Join("testdata", l.lesson, "lab", "causes"))
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		rest, likely := strings.CutPrefix(line, "likely ")
		rest, sure := strings.CutPrefix(rest, "surely ")
		if !likely && !sure {
			continue
		}
		rest = os.Expand(rest, func(name string) string { return values[name] })
		if words, err := quotedWords(rest); err == nil && len(words) > 0 {
			causes = append(causes, cause{words[0], words[1:], sure})
		}
	}
	return causes
}

// quotedWords splits a line at spaces, as testscript does. Text in quotes is not
// split, and two quotes within it stand for one.
func quotedWords(line string) (words []string, err error) {
	word, quoted, started := "", false, false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\'' && quoted && i+1 < len(line) && line[i+1] == '\'':
			word += "'"
			i++
		case c == '\'':
			quoted, started = !quoted, true
		case c == ' ' && !quoted:
			if started {
				words = append(words, word)
			}
			word, started = "", false
		default:
			word, started = word+string(c), true
		}
	}
	if quoted {
		return nil, errors.New("a quote is not closed")
	}
	if started {
		words = append(words, word)
	}
	return words, nil
}

// A labCommand is a command of a lab's scripts: how it is used, how many
// arguments it needs at least, and what it does.
type labCommand struct {
	usage string
	least int
	do    func(s *session, ts *testscript.TestScript, neg bool, args []string)
}

// moreCommands are the commands that only some labs need.
var moreCommands = map[string]labCommand{}

// labCommands are the commands of a lab's scripts.
func labCommands() map[string]command {
	usages := map[string]labCommand{
		"start":   {"start NAME [-hold=POINT,...] [-stdin=FILE] PROGRAM [ARG...]", 2, plain((*session).startInLab)},
		"finish":  {"finish NAME STATUS[|STATUS...] [WITHIN]", 2, plain((*session).finishInLab)},
		"signal":  {"signal [-parent|-children] NAME SIGNAL", 2, plain((*session).signalInLab)},
		"feed":    {"feed NAME FILE", 2, plain((*session).feed)},
		"eof":     {"eof NAME", 1, plain((*session).eof)},
		"output":  {"output NAME FILE [-raw|-late]", 2, plain((*session).outputIs)},
		"hold":    {"hold NAME [LINE]", 1, plain((*session).hold)},
		"release": {"release NAME [POINT]", 1, plain((*session).release)},
		"see":     {"see CONDITION", 1, (*session).see},
		"await":   {"await [-within=TIME] CONDITION", 1, (*session).await},
		"likely":  {"likely TEXT [CONDITION...]", 1, plain((*session).likely)},
		"tell":    {"tell [-later] NAME COMMAND [ARG...]", 2, plain((*session).tell)},
	}
	maps.Copy(usages, moreCommands)
	commands := map[string]command{}
	for name, c := range usages {
		commands[name] = func(ts *testscript.TestScript, neg bool, args []string) {
			if neg && name != "see" && name != "await" || len(args) < c.least {
				ts.Fatalf("usage: %s", c.usage)
			}
			s := ts.Value("session").(*session)
			if name == "likely" && !s.lab.grouping {
				s.lab.causes = nil // a new group of them
			}
			s.lab.grouping = name == "likely"
			c.do(s, ts, neg, args)
		}
	}
	return commands
}

func plain(do func(*session, *testscript.TestScript, []string)) func(*session, *testscript.TestScript, bool, []string) {
	return func(s *session, ts *testscript.TestScript, _ bool, args []string) { do(s, ts, args) }
}

// likely names the cause of what fails next, if its conditions hold then. A
// new group of such lines takes the place of the one before.
func (s *session) likely(ts *testscript.TestScript, args []string) {
	c := cause{text: os.Expand(args[0], ts.Getenv)} // testscript expands no variable in quotes
	for _, condition := range args[1:] {
		condition = os.Expand(condition, ts.Getenv)
		words, err := quotedWords(strings.TrimPrefix(condition, "!"))
		if err == nil {
			_, _, err = s.look(words)
		}
		if err != nil {
			ts.Fatalf("%s: %v", condition, err)
		}
		c.conditions = append(c.conditions, condition)
	}
	s.lab.causes = append(s.lab.causes, c)
}

func (s *session) holds(c cause) bool {
	for _, condition := range c.conditions {
		rest, not := strings.CutPrefix(condition, "!")
		words, err := quotedWords(rest)
		if err != nil {
			return false
		}
		if is, _, err := s.look(words); err != nil || is == not {
			return false
		}
	}
	return true
}

// startInLab starts a program of the student in the sandbox, or ours if it is
// called our-NAME, or a peer of the grader.
func (s *session) startInLab(ts *testscript.TestScript, args []string) {
	name, run := args[0], s.lab
	if s.running[name] != nil {
		ts.Fatalf("%s is running already", name)
	}
	delete(run.finished, name)
	args = args[1:]
	var h *holder
	if points, given := option(&args, "-hold="); given {
		var err error
		h, err = newHolder(run.sub.lab, points)
		ts.Check(err)
	}
	file, input := option(&args, "-stdin=")
	var stdin, keyboard *os.File
	if input || args[0] == "peer" {
		stdin, keyboard = s.openInput(ts, file)
		defer stdin.Close() // only the program may have this end of the pipe
	}
	program, ours := strings.CutPrefix(args[0], "our-")
	ours = ours || run.sub.dir == ""
	if isPeer(name) != (program == "peer") {
		ts.Fatalf("the name of a peer begins with \"the-\", and no other program's does")
	}
	var p *process
	var err error
	switch {
	case program == "peer":
		p, err = run.box.start(nil, built, stdin, "peer")
	case !slices.Contains(run.sub.lab.programs, program):
		ts.Fatalf("%s is no program of lab %s", program, run.sub.lab.number)
	case ours:
		path := run.sub.ours(program)
		p, err = run.box.start(h, filepath.Dir(path), stdin, append([]string{filepath.Base(path)}, args[1:]...)...)
	default:
		p, err = run.box.start(h, "", stdin, append([]string{filepath.Join(run.sub.lab.number, program)}, args[1:]...)...)
	}
	if why := startError(""); errors.As(err, &why) {
		run.cause = why.likely()
		s.fail(ts, "%s", string(why))
	}
	ts.Check(err)
	p.keyboard = keyboard
	p.judged = program != "peer" && !strings.HasPrefix(args[0], "our-")
	s.running[name] = p
}

// waitUntil looks again and again until something is so, or patience or the script's
// time has run out. While the kernel takes a program apart, or gives it no processor,
// its time does not run out.
func (s *session) waitUntil(patience time.Duration, seen func() bool) bool {
	run := s.lab
	patience = min(patience, run.left)
	starved := s.starved()
	for exit := run.script.ending; ; {
		if seen() {
			return true
		}
		if patience <= 0 {
			more := max(0, min(s.starved()-starved, exit))
			patience, run.left = patience+more, run.left+more
			exit, starved = exit-more, starved+more
		}
		ending := patience <= 0 && exit > 0 && s.exiting()
		if patience <= 0 && !ending || run.crowded() {
			run.late = !seen() // it may have become so since
			return !run.late
		}
		// While the whole machine stops, the program's time does not run out.
		before := time.Now()
		if ending {
			time.Sleep(20 * tick) // afterwards its parent may go on
			exit -= time.Since(before)
			continue
		}
		time.Sleep(tick)
		took := min(time.Since(before), 5*tick)
		patience -= took
		run.left -= took
	}
}

// starved is how long the threads of the script's programs have waited for a
// processor. On a busy machine the kernel may leave one waiting for seconds. See
// /proc/PID/schedstat in the kernel's sched-stats.rst.
func (s *session) starved() (sum time.Duration) {
	for _, p := range s.running {
		for _, pid := range tree(p.cmd.Process.Pid) {
			threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
			for _, file := range threads {
				var ran, waited time.Duration
				text, _ := os.ReadFile(file)
				fmt.Sscan(string(text), &ran, &waited)
				sum += waited
			}
		}
	}
	return sum
}

// exiting tells whether the kernel is taking a process of the script apart.
// Its mount namespace goes with it. On a busy machine that can take 10 s: see
// synchronize_rcu_expedited in the kernel's namespace_unlock.
func (s *session) exiting() bool {
	for _, p := range s.running {
		pid := p.cmd.Process.Pid // if it has ended, the grader is about to notice
		if !p.within(0) && (!runs(pid) || slices.ContainsFunc(tree(pid), willEnd)) {
			return true
		}
	}
	return false
}

// willEnd tells whether a process will have ended, however long that takes.
func willEnd(pid int) bool { return isExiting(pid) || runs(pid) && isKilled(pid) }

// isExiting tells whether all threads of a process have begun to exit, or are killed,
// and it has not become a zombie. See proc_pid_stat(5).
func isExiting(pid int) bool {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	gone := 0
	for _, task := range tasks {
		fields := statFields(task)
		if len(fields) < 7 {
			gone++ // it has ended since
			continue
		}
		const pfExiting = 4 // PF_EXITING in <linux/sched.h>
		thread, _ := strconv.Atoi(filepath.Base(filepath.Dir(task)))
		if flags, _ := strconv.Atoi(fields[6]); flags&pfExiting == 0 && !isKilled(thread) {
			return false
		}
		if fields[0] == "Z" {
			gone++
		}
	}
	return gone < len(tasks)
}

// finishInLab waits for a program's end and checks how it ended: with one of
// these statuses. "fail" stands for any status but 0, "error" for 1 to 125, and
// "any" for all.
func (s *session) finishInLab(ts *testscript.TestScript, args []string) {
	p, within := s.process(ts, args[0]), s.lab.left
	if len(args) > 2 {
		var err error
		within, err = time.ParseDuration(args[2])
		ts.Check(err)
	}
	if !s.waitUntil(within, func() bool { return p.within(0) }) {
		s.lab.hangs = !isPeer(args[0])
		s.fail(ts, "%s is still running%s; %s", args[0], s.doing(p), s.lastWords(p))
	}
	delete(s.running, args[0])
	s.lab.finished[args[0]] = p
	if !isPeer(args[0]) {
		fmt.Fprint(ts.Stdout(), p.stdout())
		fmt.Fprint(ts.Stderr(), p.stderr())
	}
	got := p.status()
	if p.panicked() && got == "2" {
		s.fail(ts, "%s crashed; %s", args[0], s.lastWords(p))
	}
	if p.expected = isStatus(got, args[1]); p.expected {
		return
	}
	s.fail(ts, "%s %s; %s", args[0], ending(got), s.lastWords(p))
}

// isStatus tells whether a program that has ended did so in one of these ways.
func isStatus(got, wanted string) bool {
	for _, want := range strings.Split(wanted, "|") {
		n, _ := strconv.Atoi(got)
		if want == got || want == "any" || want == "fail" && got != "0" || want == "error" && n >= 1 && n <= 125 {
			return true
		}
	}
	return false
}

// bySignal tells whether the status of a program that has ended is a signal.
func bySignal(status string) bool { return strings.Trim(status, "0123456789") != "" }

func ending(status string) string {
	switch {
	case status == "running":
		return "is still running"
	case !bySignal(status):
		return "ended with exit status " + status
	}
	return "was ended by SIG" + status
}

// doing names the system calls in which a program's threads wait.
func (s *session) doing(p *process) string {
	if calls := waitsIn(p.cmd.Process.Pid); len(calls) > 0 {
		return ", in " + strings.Join(calls, " and ")
	}
	return ""
}

// lastWords quotes the last line that a program has printed, and the first one of
// its standard error, which may say more.
func (s *session) lastWords(p *process) string {
	for i, text := range []string{p.stderr(), p.stdout()} {
		if text = strings.TrimSpace(text); text != "" {
			lines := strings.Split(text, "\n")
			first, last := short(lines[0]), short(lines[len(lines)-1])
			if i == 0 && first != last && !strings.HasPrefix(lines[0], "Traceback") {
				return fmt.Sprintf("its first line is %s, and its last %s", first, last)
			}
			return "its last line is " + last
		}
	}
	return "it has printed nothing"
}

// short quotes a text. If it is long, it has no middle, or only says how often each
// character is repeated.
func short(text string) string {
	if len(text) <= 60 {
		return strconv.Quote(text)
	}
	how := runLengths(text)
	if how == "" {
		how = fmt.Sprintf("%q…", text[:40])
	}
	return fmt.Sprintf("%s (%d bytes)", how, len(text))
}

// runLengths describes a text of a few long runs, such as 512 times 'B', 511 times 'A'. For
// another text it is empty.
func runLengths(text string) string {
	const long, most = 5, 8 // equal characters that are counted; parts
	var parts []string
	rest := "" // what is in no long run
	add := func() {
		switch len(rest) {
		case 0:
		case 1:
			parts = append(parts, fmt.Sprintf("%q", rest[0]))
		default:
			parts = append(parts, strconv.Quote(rest))
		}
		rest = ""
	}
	for len(text) > 0 && len(parts) < most && len(rest) < 20 {
		n := 1
		for n < len(text) && text[n] == text[0] {
			n++
		}
		if n < long || text[0] > '~' {
			rest += text[:n]
		} else {
			add()
			parts = append(parts, fmt.Sprintf("%d times %q", n, text[0]))
		}
		text = text[n:]
	}
	if text != "" || len(rest) >= 20 {
		return ""
	}
	add()
	return strings.Join(parts, ", ")
}

// signalInLab sends a signal to a program and its children, as a terminal does,
// or only to the program, or only to its children.
func (s *session) signalInLab(ts *testscript.TestScript, args []string) {
	to := ""
	if strings.HasPrefix(args[0], "-") {
		to, args = args[0], args[1:]
	}
	sig := parseSignal(ts, args[1])
	p := s.process(ts, args[0])
	if p.within(0) {
		return
	}
	p.signalled = true
	pids := tree(p.cmd.Process.Pid)
	p.noteChildren(pids[1:])
	switch to {
	case "-parent":
		ts.Check(p.cmd.Process.Signal(sig))
		return
	case "-children":
		for _, pid := range pids[1:] {
			unix.Kill(pid, sig)
		}
		return
	}
	if err := unix.Kill(-p.cmd.Process.Pid, sig); err != nil && err != unix.ESRCH {
		ts.Check(p.cmd.Process.Signal(sig))
	}
}

// feed writes a file into the standard input of a program that was started
// with -stdin=, and eof closes it.
func (s *session) feed(ts *testscript.TestScript, args []string) {
	p := s.process(ts, args[0])
	if p.keyboard == nil {
		ts.Fatalf("start %s with -stdin=", args[0])
	}
	text := ts.ReadFile(args[1])
	p.keyboard.SetWriteDeadline(time.Now().Add(s.lab.left))
	if _, err := p.keyboard.WriteString(text); err != nil {
		s.fail(ts, "%s does not read its standard input: %v; %s", args[0], err, s.lastWords(p))
	}
}

func (s *session) eof(ts *testscript.TestScript, args []string) {
	if p := s.process(ts, args[0]); p.keyboard != nil {
		p.keyboard.Close()
		p.keyboard = nil
	}
}

// outputIs compares what a program printed on standard output with a file.
// In the file $NAME stands for a variable, <n> for a number, <pid> for the
// program's process id.
func (s *session) outputIs(ts *testscript.TestScript, args []string) {
	p := s.named(args[0])
	if p == nil {
		ts.Fatalf("%s was not started", args[0])
	}
	want := ts.ReadFile(args[1])
	raw := len(args) > 2 && args[2] == "-raw" // byte by byte, without variables
	if !raw {
		want = strings.ReplaceAll(want, "<pid>", strconv.Itoa(p.pid))
		want = os.Expand(want, ts.Getenv)
	}
	c := p.captured[0]
	c.lock.Lock()
	got, size, sum := string(c.text), int(c.size), c.sum.Sum(nil)
	c.lock.Unlock()
	if len(args) > 2 && args[2] == "-late" {
		want = withoutMissed(got, want)
	}
	if wanted := sha256.Sum256([]byte(want)); size == len(want) && bytes.Equal(sum, wanted[:]) {
		return
	}
	if raw {
		at := 0
		for at < min(len(got), len(want)) && got[at] == want[at] {
			at++
		}
		switch {
		case at == len(got) && size == len(got):
			s.fail(ts, "%s printed %d bytes, of %d; the rest is missing: %s", args[0], size, len(want), short(want[at:]))
		case at == len(got):
			s.fail(ts, "%s printed %d bytes, of %d; the first %d are the same, and later ones are not kept",
				args[0], size, len(want), at)
		case at == len(want):
			s.fail(ts, "%s printed %d bytes, of %d; too much is: %s", args[0], size, len(want), short(got[at:]))
		}
		s.fail(ts, "%s printed %d bytes, of %d; they are the same up to byte %d, where there is %s instead of %s",
			args[0], size, len(want), at, short(got[at:min(at+16, len(got))]), short(want[at:min(at+16, len(want))]))
	}
	gotLines, wantLines := strings.SplitAfter(got, "\n"), strings.SplitAfter(want, "\n")
	for i, w := range wantLines {
		if i >= len(gotLines) {
			break
		}
		pattern := `\A` + strings.ReplaceAll(regexp.QuoteMeta(w), "<n>", `\d+`) + `\z`
		if g := gotLines[i]; !regexp.MustCompile(pattern).MatchString(g) {
			switch {
			case g == "":
				s.fail(ts, "%s stopped after line %d of its output; line %d is missing: %s",
					args[0], i, i+1, short(w))
			case w == "":
				s.fail(ts, "%s printed more than it should, from line %d on: %s", args[0], i+1, short(g))
			}
			s.fail(ts, "line %d of the output of %s is %s, not %s", i+1, args[0], short(g), short(w))
		}
	}
}

// withoutMissed leaves out up to two blocks, of three lines each, that a reader
// has missed because it came late, or because the machine is busy. It never
// leaves out the last block.
func withoutMissed(got, want string) (seen string) {
	missed := 0
	for {
		lines := strings.SplitAfterN(want, "\n", 4)
		if len(lines) < 4 || !strings.HasPrefix(lines[3], lines[0]) {
			return seen + want // the last block, and the end
		}
		block := lines[0] + lines[1] + lines[2]
		if missed < 2 && !strings.HasPrefix(got, seen+block) {
			missed++
		} else {
			seen += block
		}
		want = lines[3]
	}
}

// hold stops a program when it prints something, or, with a line, when it prints
// something after that line. release lets the program go on. It also releases
// the calls that are held.
func (s *session) hold(ts *testscript.TestScript, args []string) {
	p, room := s.process(ts, args[0]), 0
	if len(args) > 1 {
		room = len(strings.ReplaceAll(args[1], "<pid>", strconv.Itoa(p.pid))) + 1
	}
	ts.Check(p.captured[0].holdOutput(room))
}

func (s *session) release(ts *testscript.TestScript, args []string) {
	p, point := s.named(args[0]), ""
	if len(args) > 1 {
		point = args[1]
	}
	switch {
	case p == nil:
		ts.Fatalf("%s was not started", args[0])
	case p.holder != nil:
		p.holder.release(point)
	case point != "":
		ts.Fatalf("start %s with -hold=%s", args[0], point)
	}
	if point == "" {
		p.captured[0].releaseOutput()
	}
}

// programs are all that the script has started and not replaced: first those whose
// end it has waited for.
func (s *session) programs() iter.Seq2[string, *process] {
	return func(yield func(string, *process) bool) {
		for _, programs := range []map[string]*process{s.lab.finished, s.running} {
			for name, p := range programs {
				if !yield(name, p) {
					return
				}
			}
		}
	}
}

// named is a program that runs or has run.
func (s *session) named(name string) *process {
	if p := s.running[name]; p != nil {
		return p
	}
	return s.lab.finished[name]
}

// see checks that something is so; ! see that it is not.
func (s *session) see(ts *testscript.TestScript, neg bool, args []string) {
	is, state, err := s.look(args)
	ts.Check(err)
	if is == neg {
		s.fail(ts, "%s", state)
	}
}

// await waits until something is so, as long as a program of the script runs and
// the script has time.
func (s *session) await(ts *testscript.TestScript, neg bool, args []string) {
	var state string
	patience, limit := s.lab.left, s.lab.script.limit
	if within, ok := strings.CutPrefix(args[0], "-within="); ok {
		var err error
		patience, err = time.ParseDuration(within)
		ts.Check(err)
		limit, args = patience, args[1:]
	}
	alone := 0 // for how many ticks only peers have run
	ok := s.waitUntil(patience, func() bool {
		if alone++; !s.allEnded() {
			alone = 0
		}
		ended := alone > s.lab.script.alone
		is, now, err := s.look(args)
		ts.Check(err)
		if state = now; is == neg && ended {
			s.fail(ts, "%s%s", state, s.everybody())
		}
		return is != neg
	})
	if !ok {
		for name, p := range s.running {
			s.lab.silent = s.lab.silent || !isPeer(name) && !p.within(0) && p.stdout()+p.stderr() == ""
		}
		s.fail(ts, "after %v %s%s", limit, state, s.everybody())
	}
}

func (s *session) allEnded() bool {
	for _, p := range s.running {
		if !p.within(0) && (p.told == 0 || p.answers() < p.told) { // a peer without a step does nothing
			return false
		}
	}
	for _, p := range s.lab.finished { // a child may outlive its parent
		if p.childrenRun() > 0 {
			return false
		}
	}
	return true
}

// everybody says what each program does, after a semicolon.
func (s *session) everybody() string {
	var all []string
	for name, p := range s.running {
		text := name + " " + ending(p.status())
		if p.status() == "running" {
			text = name + " is running" + s.doing(p)
		}
		if isPeer(name) { // leave out a peer that has nothing to do
			if p.status() == "running" && p.answers() >= p.told {
				continue
			}
			all = append(all, text)
			continue
		}
		all = append(all, text+", "+s.lastWords(p))
	}
	slices.Sort(all)
	return strings.Join(append([]string{""}, all...), "; ")
}
