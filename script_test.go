//go:build linux

package shm_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/rogpeppe/go-internal/txtar"
	"golang.org/x/sys/unix"
)

// TestScripts runs our own scripts, which use flags and break things.
func TestScripts(t *testing.T) {
	needWorlds(t)
	t.Parallel()
	for _, lesson := range lessons() {
		t.Run(lesson, func(t *testing.T) {
			t.Parallel()
			params := scriptParams([]string{filepath.Join(built, lesson)})
			params.Dir = "testdata/" + lesson
			testscript.Run(t, params)
		})
	}
}

// scriptParams has a script run with these directories first on its PATH, in
// a world of its own.
func scriptParams(path []string) testscript.Params {
	path = append(path, built, os.Getenv("PATH"))
	return testscript.Params{
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       *update,
		Cmds:                commands(),
		Condition:           condition,
		Setup: func(env *testscript.Env) error {
			w, err := newWorld(env.T())
			if err != nil {
				return err
			}
			s := &session{world: w, running: map[string]*process{},
				attached: map[string][]byte{}}
			env.Values["session"] = s
			env.Defer(func() { s.end(env.T()) })
			many := 10_000_000 // times that a mutex is locked in about half a second
			if raceEnabled() {
				many /= 20
			}
			for name, value := range map[string]any{
				"PATH": strings.Join(path, ":"),
				"KEY":  fmt.Sprintf("%#x", scriptKey), "KEY2": fmt.Sprintf("%#x", scriptKey+1),
				"KEY3": fmt.Sprintf("%#x", scriptKey+2), "NAME": scriptName, "ESC": "\x1b",
				"MANY": many, "TWICE": 2 * many, "ONEMORE": many + 1,
			} {
				env.Setenv(name, fmt.Sprint(value))
			}
			return nil
		},
	}
}

var (
	background = regexp.MustCompile(`(?m)^[^#\n]*\bexec\b.*&\w*&?\s*$`)
	starts     = regexp.MustCompile(`(?m)^(?:\[[^\n]*\] *)?start (\w+)`)
	sleeps     = regexp.MustCompile(`(?m)^(?:\[[^\n]*\] *)?(?:! )?(?:exec|start|status) [^\n]*\bsleep\b`)
)

// lint refuses what makes a script pass or fail for no good reason: a program
// in the background whose end nobody looks at, and a sleep.
func lint(script string) error {
	script, _, _ = strings.Cut(script, "\n-- ") // the files are no commands
	if line := background.FindString(script); line != "" {
		return fmt.Errorf("%q: use start and finish, which look at the exit status", line)
	}
	for _, m := range starts.FindAllStringSubmatch(script, -1) {
		finish := regexp.MustCompile(`(?m)^(?:\[[^\n]*\] *)?finish ` + m[1] + `\b`)
		if !finish.MatchString(script) {
			return fmt.Errorf("starts %s and never waits for it: finish %[1]s STATUS", m[1])
		}
	}
	if line := sleeps.FindString(script); line != "" {
		return fmt.Errorf("%q: use until, and name what it waits for", line)
	}
	return nil
}

var (
	builtIn = regexp.MustCompile(`(?m)^(?:! )?(stdout|stderr|cmp|cmpenv|exec|exists|grep)\b`)
	anyway  = regexp.MustCompile(`(?m)^likely (?:\S+|'(?:[^']|'')*')$`)
)

// lintLab refuses what would take a student's fault for the grader's, and a
// script that knows no cause. A script may end while its programs run: the
// sandbox kills them, and how they end is looked at where it counts.
func lintLab(script string) error {
	script, _, _ = strings.Cut(script, "\n-- ")
	if m := builtIn.FindStringSubmatch(script); m != nil {
		return fmt.Errorf("%s does not say in a student's words what was seen: use output or see", m[1])
	}
	if !anyway.MatchString(script) {
		return errors.New("no likely line without a condition")
	}
	if line := sleeps.FindString(script); line != "" && !strings.Contains(line, "call ") {
		return fmt.Errorf("%q: use await, and name what it waits for", line)
	}
	return lintComments(script)
}

var (
	comments = regexp.MustCompile(`(?m)^#.*(?:\n#.*)*`)
	dangling = regexp.MustCompile(`^(?:The same|So|Then|It|Its|Nor|They|These|This|That|Nothing|Now|Meanwhile)\b`)
	aProgram = regexp.MustCompile(`(?i)\b(?:program|process(?:es)?|writer|reader|builder|walker|parent|child|yours?|ours?)s?\b`)
)

// lintComments holds that each comment above a check is a sentence that can be
// read alone, as a student does: it refers to no other, and names the program.
func lintComments(script string) error {
	for _, comment := range comments.FindAllString(heading.ReplaceAllString(script, ""), -1) {
		text := strings.Join(strings.Fields(strings.ReplaceAll(comment, "#", "")), " ")
		switch {
		case dangling.MatchString(text):
			return fmt.Errorf("%q: name what this is about; a student reads only this comment", text)
		case !aProgram.MatchString(text):
			return fmt.Errorf("%q: name the program that does it", text)
		case !strings.HasSuffix(text, "."):
			return fmt.Errorf("%q: a whole sentence is wanted", text)
		}
	}
	return nil
}

// TestLint holds all scripts to that.
func TestLint(t *testing.T) {
	files, _ := filepath.Glob("testdata/*/*.txtar")
	inLabs, _ := filepath.Glob("testdata/*/lab/*.txtar")
	if len(files) == 0 || len(inLabs) == 0 {
		t.Fatal("no scripts found")
	}
	for _, file := range append(files, inLabs...) {
		text, err := os.ReadFile(file)
		if inLab := slices.Contains(inLabs, file); err == nil && inLab {
			err = lintLab(string(text))
		} else if err == nil {
			err = lint(string(text))
		}
		if err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// A recorder is a test of testscript's that does not count: it notes what
// becomes of a script.
type recorder struct {
	printed         strings.Builder
	failed, skipped bool
	limit           time.Duration // after it the script hangs: it is the grader's fault
	kill            func()        // kills all of its programs
	stuck           string        // what it did then; the fields above are still its own
}

// record runs a script, and notes what becomes of it.
func record(file string, path []string) *recorder {
	r := new(recorder)
	params := scriptParams(path)
	params.Files = []string{file}
	testscript.RunT(r, params)
	return r
}

func (r *recorder) Run(_ string, do func(testscript.T)) {
	done := make(chan bool)
	go func() { // whose thread ends with the script's world
		defer close(done)
		defer func() {
			if p := recover(); p != nil {
				r.failed = true
				fmt.Fprintf(&r.printed, "panic: %v\n%s", p, debug.Stack())
			}
		}()
		do(r)
	}()
	select {
	case <-done:
	case <-time.After(cmp.Or(r.limit, 8*time.Minute)):
		stacks := make([]byte, 1<<20)
		r.stuck = string(stacks[:runtime.Stack(stacks, true)])
		if r.kill == nil {
			panic("a script hangs:\n" + r.stuck)
		}
		r.kill()
		select { // so it can clean up
		case <-done:
		case <-time.After(untilTime):
		}
	}
}

func (r *recorder) Parallel()       {}
func (r *recorder) Verbose() bool   { return false }
func (r *recorder) Failed() bool    { return r.failed }
func (r *recorder) Skipped() bool   { return r.skipped }
func (r *recorder) Log(args ...any) { fmt.Fprintln(&r.printed, args...) }
func (r *recorder) FailNow()        { r.failed = true; runtime.Goexit() }
func (r *recorder) Fatal(args ...any) {
	r.Log(args...)
	r.FailNow()
}
func (r *recorder) Errorf(format string, args ...any) {
	r.failed = true
	r.Log(fmt.Sprintf(format, args...))
}
func (r *recorder) Skip(args ...any) {
	r.skipped = true
	r.Log(args...)
	runtime.Goexit()
}

// TestBroken proves that the scripts can fail. Each file in a broken folder
// says how to break one of our programs, which script is to catch it, and
// by what words. To build so many programs takes a while: without -run or
// -long it is one of each lesson, and no fault without -long.
func TestBroken(t *testing.T) {
	needWorlds(t)
	t.Parallel()
	all := *long || isSet("test.run")
	for _, lesson := range lessons() {
		files, _ := filepath.Glob("testdata/" + lesson + "/broken/*.txtar")
		for i, file := range files {
			b := readBroken(t, file)
			b.changedText(t) // or it is out of date, and nobody sees it
			fault, isFault := strings.CutPrefix(b.script, "fault ")
			if !all && i > 0 || isFault && !*long {
				continue
			}
			t.Run(lesson+"/"+strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
				t.Parallel()
				changed := b.build(t, lesson)
				path := []string{filepath.Join(changed, lesson), filepath.Join(built, lesson)}
				if isFault {
					checkNoticed(t, b, causeBroken(t, fault, []string{changed, built}))
					return
				}
				if name, inLab := strings.CutPrefix(b.script, "lab/"); inLab {
					checkNoticed(t, b, recordLab(t, lesson, name, changed))
					return
				}
				checkNoticed(t, b, record("testdata/"+lesson+"/"+b.script+".txtar", path))
			})
		}
	}
}

// recordLab has a script of a lab judge our programs, one of which is broken.
func recordLab(t *testing.T, lesson, name, changed string) *recorder {
	l := labs[slices.IndexFunc(labs, func(l *lab) bool { return l.lesson == lesson })]
	v := (&submission{lab: l, changed: changed}).judge(findScript(t, l, name))
	r := &recorder{failed: v.status == "failed" || v.status == "error", skipped: v.status == "skipped"}
	r.printed.WriteString(v.feedback() + v.printed)
	return r
}

func checkNoticed(t *testing.T, b broken, r *recorder) {
	printed := r.printed.String()
	if r.skipped {
		t.Skip(printed)
	} else if err := b.noticed(r.failed, printed); err != nil {
		t.Error(err)
	}
}

var failLine = regexp.MustCompile(`(?m)^.*FAIL: .*$`)

// noticed checks that the script has failed, and for the reason.
func (b broken) noticed(failed bool, printed string) error {
	if !failed {
		return fmt.Errorf("%s: %s did not notice: %s\n%s", b.archive, b.script, b.what, printed)
	} else if b.reason.MatchString(printed) {
		return nil
	}
	said := failLine.FindString(printed)
	if said == "" {
		said, _, _ = strings.Cut(printed, "\n")
	}
	return fmt.Errorf("%s\n%s: %s failed, but nothing that it printed matches the reason %q\n%s",
		said, b.archive, b.script, b.reason, printed)
}

// broken is a txtar archive: its comment says what is wrong and has a line
// each for the file to change, the script, and what the script must say; its
// files "old" and "new" are the change. testdata/README.md shows one.
type broken struct {
	archive            string // its own file
	what, file, script string
	program            string // the only one to build; may be empty
	reason             *regexp.Regexp
	old, new           string
}

var header = regexp.MustCompile(`(?m)^(file|script|reason|program): (.*)\n`)

func readBroken(t *testing.T, file string) broken {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b, err := parseBroken(file, text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// parseBroken reads an archive of testdata/LESSON/broken.
func parseBroken(file string, text []byte) (b broken, err error) {
	a := txtar.Parse(text)
	if len(a.Files) != 2 || a.Files[0].Name != "old" || a.Files[1].Name != "new" {
		return b, fmt.Errorf("%s: want the files old and new", file)
	}
	fields := map[string]string{}
	for _, m := range header.FindAllStringSubmatch(string(a.Comment), -1) {
		fields[m[1]] = m[2]
	}
	b.archive = file
	b.what = header.ReplaceAllString(string(a.Comment), "")
	b.file, b.script, b.program = fields["file"], fields["script"], fields["program"]
	if b.reason, err = regexp.Compile(fields["reason"]); err != nil {
		return b, fmt.Errorf("%s: reason: %w", file, err)
	}
	b.old = strings.TrimSuffix(string(a.Files[0].Data), "\n")
	b.new = strings.TrimSuffix(string(a.Files[1].Data), "\n")
	if b.file == "" || b.script == "" || fields["reason"] == "" || b.what == "" {
		return b, fmt.Errorf("%s: want lines file:, script: and reason:, and an explanation", file)
	}
	return b, b.scriptExists()
}

// scriptExists looks for the script: testscript takes one that does not exist
// for one that fails.
func (b broken) scriptExists() error {
	dir := filepath.Dir(filepath.Dir(b.archive)) // testdata/LESSON
	want := filepath.Join(dir, b.script+".txtar")
	if name, isFault := strings.CutPrefix(b.script, "fault "); isFault {
		want = "TestFaults/" + name
		if slices.ContainsFunc(faults(), func(f fault) bool { return f.name == name }) {
			return nil
		}
	} else if _, err := os.Stat(want); err == nil {
		return nil
	}
	return fmt.Errorf(`%s: script: there is no %s
write "script: NAME" for %s/NAME.txtar, "script: lab/NAME" for %[3]s/lab/NAME.txtar,
or "script: fault NAME" for TestFaults/NAME, such as "fault killed/01-writer-reader"`,
		b.archive, want, dir)
}

// changedText is the file with the change.
func (b broken) changedText(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(b.file)
	if err != nil {
		t.Fatalf("%s: %v", b.archive, err)
	}
	changed, err := b.change(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

func (b broken) change(text string) (string, error) {
	if n := strings.Count(text, b.old); n != 1 {
		return "", fmt.Errorf("%s: %s has the text of \"old\" %d times, and must have it once:\n%s",
			cmp.Or(b.archive, b.what), b.file, n, b.old)
	}
	return strings.Replace(text, b.old, b.new, 1), nil
}

// build builds the program that is changed, or all of the lesson if it is not
// clear which are, with the change laid over the source.
func (b broken) build(t *testing.T, lesson string) (dir string) {
	text := b.changedText(t)
	dir = t.TempDir()
	os.Chmod(filepath.Dir(dir), 0o755) // some scripts run programs as nobody
	mains, err := mainPackages(lesson)
	if err != nil {
		t.Fatal(err)
	}
	if b.program != "" {
		mains = []string{"./" + filepath.Join(lesson, b.program)}
	} else if own := "./" + filepath.Dir(b.file); slices.Contains(mains, own) {
		mains = []string{own}
	}
	overlay := overlay(t, dir, map[string]string{b.file: text})
	if err := build(dir, lesson, mains, "-overlay", overlay); err != nil {
		t.Fatal(err)
	}
	return dir
}

// overlay writes a file for the flag -overlay of go build: what these files
// of the repository are to contain instead. A file without text is not there.
func overlay(t *testing.T, dir string, instead map[string]string) (file string) {
	t.Helper()
	root, err := os.Getwd()
	replace := map[string]string{}
	for name, text := range instead {
		changed := ""
		if text != "" {
			changed = filepath.Join(dir, strings.ReplaceAll(name, "/", "-"))
			err = errors.Join(err, os.WriteFile(changed, []byte(text), 0o644))
		}
		replace[filepath.Join(root, name)] = changed
	}
	text, e := json.Marshal(map[string]any{"Replace": replace})
	file = filepath.Join(dir, "overlay.json")
	if err = errors.Join(err, e, os.WriteFile(file, text, 0o644)); err != nil {
		t.Fatal(err)
	}
	return file
}

// condition tells whether this process can do what a script needs. It tries,
// instead of looking at the uid: root in a container can often do little.
func condition(name string) (bool, error) {
	switch name {
	case "setuid": // run a program as another user
		return tries(&syscall.SysProcAttr{Credential: &syscall.Credential{
			Uid: 65534, Gid: 65534}}, "true"), nil
	case "chown": // give a segment to the user 65534
		id, err := unix.SysvShmGet(unix.IPC_PRIVATE, 1, 0o600)
		if err != nil {
			return false, err
		}
		defer unix.SysvShmCtl(id, unix.IPC_RMID, nil)
		var ds unix.SysvShmDesc
		if _, err = unix.SysvShmCtl(id, unix.IPC_STAT, &ds); err == nil {
			ds.Perm.Uid = 65534
			_, err = unix.SysvShmCtl(id, unix.IPC_SET, &ds)
		}
		return err == nil, nil
	case "setarch": // run a program without random addresses
		return tries(nil, "setarch", "-R", "true"), nil
	case "memlock": // lock a page of shared memory
		return tries(nil, filepath.Join(built, "lock-page")), nil
	case "limited": // be refused that, under a limit of 0
		return !tries(nil, "sh", "-c", "ulimit -l 0; exec "+filepath.Join(built, "lock-page")), nil
	case "namespaces": // run a program in IPC, PID and mount namespaces
		return tries(nil, "unshare", "--ipc", "--pid", "--fork", "--mount-proc", "true"), nil
	case "unshare": // be alone with one's System V objects
		return tries(nil, "unshare", "-Ur", "--ipc", "true"), nil
	case "race": // these tests, and so the programs, are built with -race
		return raceEnabled(), nil
	case "strace": // trace a program and make its calls fail
		return tries(nil, "strace", "-o", "/dev/null", "true"), nil
	case "sysctl": // lower the limits of this IPC namespace
		text, err := os.ReadFile("/proc/sys/kernel/shmmni")
		if err == nil {
			err = os.WriteFile("/proc/sys/kernel/shmmni", text, 0)
		}
		return err == nil && haveWorlds, nil
	case "setpriv": // take rights away for good
		cmd := exec.Command("true")
		withFewRights(cmd)
		return cmd.Run() == nil, nil
	case "pidns": // run a program in a PID namespace of its own
		cmd := exec.Command("true")
		inPIDNamespace(cmd)
		return cmd.Run() == nil, nil
	case "seccomp": // be asked about the calls of a program, Linux 5.5
		return canAsk(), nil
	}
	return false, fmt.Errorf("no such condition: %s", name)
}

func tries(attr *syscall.SysProcAttr, program string, args ...string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), scriptTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.SysProcAttr = attr
	return cmd.Run() == nil
}

var canAsk = sync.OnceValue(func() bool {
	ctx, cancel := context.WithTimeout(context.Background(), scriptTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "true")
	started, err := watch(cmd, func(call) fate { return fate{} })
	if err == nil {
		err = cmd.Start()
		started()
	}
	return err == nil && cmd.Wait() == nil
})
