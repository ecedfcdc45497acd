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

// scriptParams are the parameters of testscript for a script with these
// directories first on its PATH. The script runs in a world of its own.
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
			many := 10_000_000 // so often a mutex can be locked in about half a second
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

// lint refuses what could make a script pass or fail without a reason: a program
// in the background whose end the script does not check, and a sleep.
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

// lintLab refuses commands whose failure would count as a fault of the grader, and
// a script that knows no cause. A lab's script may end while its programs run: the
// sandbox kills them.
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

// lintComments checks that a student can understand each comment above a check
// alone: it is a sentence, refers to no other one, and names the program.
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

// TestLint checks all scripts with lint and lintLab.
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

// A recorder takes the place of a testing.T. It notes the result of a script.
type recorder struct {
	printed         strings.Builder
	failed, skipped bool
	limit           time.Duration // after this time the script hangs
	kill            func()        // kills all programs of the script
	stuck           string        // the stacks of a script that hangs, which may still write to printed
}

// record runs a script, and notes its result.
func record(file string, path []string) *recorder {
	r := new(recorder)
	params := scriptParams(path)
	params.Files = []string{file}
	testscript.RunT(r, params)
	return r
}

func (r *recorder) Run(_ string, do func(testscript.T)) {
	done := make(chan bool)
	go func() { // the script's world ends with this goroutine and its thread
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
		select { // give the script time to clean up
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

// TestBroken proves that the scripts can fail. Each file in a broken folder says
// how to break one of our programs, which script must notice this, and what it
// must print. Building so many programs takes a while. So without -run or -long
// the test builds one of each lesson. Only -long causes the faults.
func TestBroken(t *testing.T) {
	needWorlds(t)
	t.Parallel()
	all := *long || isSet("test.run")
	for _, lesson := range lessons() {
		files, _ := filepath.Glob("testdata/" + lesson + "/broken/*.txtar")
		for i, file := range files {
			b := readBroken(t, file)
			b.changedText(t) // fails if the file is out of date
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

// recordLab runs a script of a lab on our programs, one of which is broken.
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

// noticed checks that the script has failed, and for the right reason.
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

// broken is a txtar archive. Its comment says what is wrong. It also has a line for
// the file to change, one for the script, and one for what the script must print.
// The files "old" and "new" are the change. testdata/README.md shows an example.
type broken struct {
	archive            string // the name of the archive
	what, file, script string
	program            string // the only program to build; may be empty
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
	if matchesAnything(b.reason) && fields["reason"] != "" {
		return b, fmt.Errorf("%s: the reason %q matches any failure", file, fields["reason"])
	}
	b.old = strings.TrimSuffix(string(a.Files[0].Data), "\n")
	b.new = strings.TrimSuffix(string(a.Files[1].Data), "\n")
	if b.file == "" || b.script == "" || fields["reason"] == "" || b.what == "" {
		return b, fmt.Errorf("%s: want lines file:, script: and reason:, and an explanation", file)
	}
	return b, b.scriptExists()
}

// matchesAnything tells whether a regular expression matches any output of a script
// that has failed. Such a reason proves nothing.
func matchesAnything(re *regexp.Regexp) bool {
	return re.MatchString("") || re.MatchString("?") || re.MatchString("FAIL: x.txtar:1: ?\n")
}

// scriptExists checks that the script exists. For testscript a script that does
// not exist has failed.
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

// changedText is the text of the file after the change.
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

// build builds the program that the change is in, or all programs of the lesson if
// it is in a package. An overlay puts the change over the source.
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

// overlay writes a file for the flag -overlay of go build. With it go build sees
// these texts instead of the files. A file with an empty text does not exist.
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

// condition tells whether this process can do what a script needs. It tries the
// thing itself, and does not look at the uid: root in a container can often do
// little.
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
	case "limited": // a limit of 0 forbids to lock a page
		return !tries(nil, "sh", "-c", "ulimit -l 0; exec "+filepath.Join(built, "lock-page")), nil
	case "namespaces": // run a program in IPC, PID and mount namespaces
		return tries(nil, "unshare", "--ipc", "--pid", "--fork", "--mount-proc", "true"), nil
	case "unshare": // be alone with one's System V objects
		return tries(nil, "unshare", "-Ur", "--ipc", "true"), nil
	case "race": // the tests and the programs are built with -race
		return raceEnabled(), nil
	case "strace": // trace a program and make its calls fail
		return tries(nil, "strace", "-o", "/dev/null", "true"), nil
	case "sysctl": // lower the limits of this IPC namespace
		text, err := os.ReadFile("/proc/sys/kernel/shmmni")
		if err == nil {
			err = os.WriteFile("/proc/sys/kernel/shmmni", text, 0)
		}
		return err == nil && haveWorlds, nil
	case "setpriv": // take capabilities away from a program
		cmd := exec.Command("true")
		withFewRights(cmd)
		return cmd.Run() == nil, nil
	case "pidns": // run a program in a PID namespace of its own
		cmd := exec.Command("true")
		inPIDNamespace(cmd)
		return cmd.Run() == nil, nil
	case "seccomp": // be asked about the calls of a program, from Linux 5.5 on
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
	started, err := watch(cmd, func(call) outcome { return outcome{} })
	if err == nil {
		err = cmd.Start()
		started()
	}
	return err == nil && cmd.Wait() == nil
})
