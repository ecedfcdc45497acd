//go:build linux

// Package shm_test starts the real programs of every lesson, side by side as
// a student does, and judges what they print, how they exit and what the
// kernel still holds afterwards. The scripts are in testdata; the README has
// a section on how to read and to write them.
package shm_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

var (
	programs = flag.String("programs", "", "`directory` of programs to take "+
		"the place of ours in the contract scripts, such as "+
		"DIR/01-shm-write-read/writer; nothing else is run")
	update = flag.Bool("update", false,
		"write what the programs printed into the scripts that compare it")

	// built is where the programs are: built/01-shm-write-read/writer.
	built string

	suite *testing.M // for a job that is a test
)

func TestMain(m *testing.M) {
	// Under nohup(1) SIGHUP is ignored, in all that is started here, too. What
	// is caught here is not ignored there.
	if signal.Ignored(unix.SIGHUP) {
		signal.Notify(make(chan os.Signal, 1), unix.SIGHUP)
	}
	if text := os.Getenv(jobVariable); text != "" {
		var j job
		if err := json.Unmarshal([]byte(text), &j); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		suite = m
		os.Exit(j.do())
	}
	flag.Parse()
	// Most scripts wait most of the time: crowd says how many run at once.
	if !isSet("test.parallel") {
		flag.Set("test.parallel", "200")
		if *long { // no script is to fail because all CPUs are busy
			flag.Set("test.parallel", "12")
		}
	}
	if *programs != "" && !isSet("test.run") {
		flag.Set("test.run", "^TestContract$")
	}
	os.Exit(runTests(m))
}

func isSet(name string) (set bool) {
	flag.Visit(func(f *flag.Flag) { set = set || f.Name == name })
	return set
}

func runTests(m *testing.M) int {
	// For all that is built here, by READMEs too: linking takes less time
	// without what only a debugger wants, and without a look at git.
	os.Setenv("GOFLAGS", os.Getenv("GOFLAGS")+" -ldflags=-w -buildvcs=false")
	dir, err := os.MkdirTemp("", "shm-by-example-")
	if err == nil {
		defer os.RemoveAll(dir)
		err = os.Chmod(dir, 0o755) // some scripts run programs as nobody
	}
	if err == nil {
		built = filepath.Join(dir, "bin")
		for _, lesson := range lessons() {
			mains, e := mainPackages(lesson)
			if e == nil {
				e = build(built, lesson, mains)
			}
			err = errors.Join(err, e)
		}
	}
	if err != nil {
		fmt.Println("FAIL: building the programs:", err)
		return 1
	}
	noteJob(os.Getpid()) // some tests make segments themselves
	status := m.Run()
	if left := jobsLeft(); len(left) > 0 {
		fmt.Println("FAIL: the run left", strings.Join(left, ", "))
		status = 1
	}
	return status
}

// lessons are the numbered directories.
func lessons() []string {
	dirs, _ := filepath.Glob("0[1-9]-*")
	return dirs
}

// build builds programs of a lesson: dir/LESSON/PROGRAM. One with main.go in
// the lesson's own directory has the lesson's name.
func build(dir, lesson string, mains []string, flags ...string) error {
	out := filepath.Join(dir, lesson)
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	args := append([]string{"build", "-o", out + "/"}, flags...)
	if raceEnabled() {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, mains...)...)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w\n%s", cmd, err, text)
	}
	return nil
}

// mainPackages lists the programs of a lesson, such as ./LESSON/writer.
func mainPackages(lesson string) (mains []string, err error) {
	err = filepath.WalkDir(lesson, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == "main.go" {
			mains = append(mains, "./"+filepath.Dir(path))
		}
		return err
	})
	if err == nil && len(mains) == 0 {
		err = fmt.Errorf("%s has no main.go", lesson)
	}
	return mains, err
}

// raceEnabled tells whether these tests were built with -race; the programs
// are then built so too.
func raceEnabled() bool {
	info, _ := debug.ReadBuildInfo()
	for _, s := range info.Settings {
		if s.Key == "-race" {
			return s.Value == "true"
		}
	}
	return false
}
