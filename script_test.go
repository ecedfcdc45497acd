//go:build linux

package shm_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

const (
	scriptTime = 3 * time.Minute  // then it hangs
	untilTime  = 20 * time.Second // how long an "until" waits
)

// TestContract runs the scripts that any implementation of the programs must
// pass, in any language: no flags, the default keys, a private room. With
// -programs DIR the programs found there are judged in place of ours.
func TestContract(t *testing.T) {
	t.Parallel()
	if *programs != "" {
		mustReplace(t)
	}
	t.Logf("the room is of kind %q; empty means that there is none", privateRoom())
	for _, lesson := range lessons() {
		scripts, _ := filepath.Glob("testdata/" + lesson + "/contract/*.txtar")
		path := []string{filepath.Join(built, lesson)}
		if *programs != "" {
			path = replacements(t, lesson)
			if path == nil {
				continue
			}
		}
		for _, script := range scripts {
			t.Run(scriptName(lesson, script), func(t *testing.T) {
				j := job{Script: script, Path: path, Room: privateRoom(), Contract: true}
				if j.Room == shared {
					lockDefaultKeys(t) // one at a time
				} else {
					t.Parallel()
				}
				j.test(t)
			})
		}
	}
}

// TestScripts runs our own scripts, which use flags and break things, each
// with keys of its own.
func TestScripts(t *testing.T) {
	t.Parallel()
	for _, lesson := range lessons() {
		scripts, _ := filepath.Glob("testdata/" + lesson + "/*.txtar")
		for _, script := range scripts {
			t.Run(scriptName(lesson, script), func(t *testing.T) {
				t.Parallel()
				job{
					Script: script,
					Path:   []string{filepath.Join(built, lesson)},
					Update: *update,
				}.test(t)
			})
		}
	}
}

func scriptName(lesson, script string) string {
	return lesson + "/" + strings.TrimSuffix(filepath.Base(script), ".txtar")
}

// lockDefaultKeys takes a lock that every copy of this suite on the machine
// respects, whoever runs it, until the test is over.
func lockDefaultKeys(t *testing.T) {
	f, err := os.Open("/dev/shm") // there for everybody, and never created
	if err == nil {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		t.Fatalf("locking /dev/shm: %v", err)
	}
	t.Cleanup(func() { f.Close() })
}

// replacements is the PATH on which a lesson's programs are those that
// -programs has and, for the rest, ours; nil if it has none of the lesson.
func replacements(t *testing.T, lesson string) (path []string) {
	mains, err := mainPackages(lesson)
	if err != nil {
		t.Fatal(err)
	}
	for _, main := range mains {
		file, err := filepath.Abs(filepath.Join(*programs, main))
		if err != nil {
			t.Fatal(err)
		}
		if main == "./"+lesson {
			file = filepath.Join(file, lesson) // built like ours
		}
		info, err := os.Stat(file)
		if err == nil && info.Mode().IsRegular() {
			if info.Mode()&0o111 == 0 {
				t.Fatalf("%s is not executable", file)
			}
			path = append(path, filepath.Dir(file))
		}
	}
	if path != nil {
		path = append(path, filepath.Join(built, lesson))
	}
	return path
}

// mustReplace fails the test if -programs has nothing to judge.
func mustReplace(t *testing.T) {
	for _, lesson := range lessons() {
		if replacements(t, lesson) != nil {
			return
		}
	}
	t.Fatalf("-programs %s: no program of ours has a namesake there, such as "+
		"%[1]s/01-shm-write-read/writer", *programs)
}

// doScript runs one script and returns the job's exit status.
func (j job) doScript() (status int) {
	text, err := os.ReadFile(j.Script)
	if err == nil {
		err = lint(string(text))
	}
	if err != nil {
		fmt.Printf("FAIL: %s: %v\n", j.Script, err)
		return failed
	}
	s := &session{job: j, running: map[string]*process{}}
	t := &scriptT{}
	done := make(chan bool)
	go func() {
		defer close(done)
		testscript.RunT(t, testscript.Params{
			Files:               []string{j.Script},
			Setup:               j.setup,
			Cmds:                s.commands(),
			Condition:           condition,
			RequireExplicitExec: true,
			RequireUniqueNames:  true,
			UpdateScripts:       j.Update,
			Deadline:            time.Now().Add(scriptTime),
		})
	}()
	<-done
	return s.end(t.status)
}

func (j job) setup(env *testscript.Env) error {
	path := append(j.Path, os.Getenv("PATH"))
	env.Setenv("PATH", strings.Join(path, ":"))
	for i, name := range []string{"KEY", "KEY2", "KEY3"} {
		env.Setenv(name, fmt.Sprintf("%#x", ownKey(os.Getpid(), i)))
	}
	env.Setenv("NAME", ownName(os.Getpid()))
	many := 10_000_000 // times that a mutex is locked in about half a second
	if raceEnabled() {
		many /= 20
	}
	env.Setenv("MANY", fmt.Sprint(many))
	env.Setenv("TWICE", fmt.Sprint(2*many))
	env.Setenv("ONEMORE", fmt.Sprint(many+1))
	env.Setenv("ESC", "\x1b")
	return nil
}

var (
	background = regexp.MustCompile(`(?m)^[^#\n]*\bexec\b.*&\w*&?\s*$`)
	starts     = regexp.MustCompile(`(?m)^(?:\[[^\n]*\] *)?start (\w+)`)
	sleeps     = regexp.MustCompile(`(?m)^[^#\n]*\bsleep\b`)
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

// scriptT is the testscript.T of a job: it prints, and notes the outcome.
type scriptT struct{ status int }

func (t *scriptT) Run(_ string, f func(testscript.T)) { f(t) }
func (t *scriptT) Parallel()                          {}
func (t *scriptT) Verbose() bool                      { return false }
func (t *scriptT) Log(args ...any)                    { fmt.Print(elide(fmt.Sprintln(args...))) }

func (t *scriptT) FailNow() {
	t.status = failed
	runtime.Goexit()
}

func (t *scriptT) Fatal(args ...any) {
	fmt.Println(args...)
	t.FailNow()
}

func (t *scriptT) Skip(args ...any) {
	fmt.Println(args...)
	t.status = skipped
	runtime.Goexit()
}
