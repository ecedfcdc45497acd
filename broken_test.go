//go:build linux

package shm_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// TestBroken proves that the scripts can fail. Each file in a broken folder
// says how to break one of our programs, which script is to catch it, and
// by what words. To build so many programs takes a while: unless -run asks
// for it, or -long, it is a few of each lesson.
func TestBroken(t *testing.T) {
	t.Parallel()
	all := *long || isSet("test.run")
	for _, lesson := range lessons() {
		files, _ := filepath.Glob("testdata/" + lesson + "/broken/*.txtar")
		for i, file := range files {
			t.Run(scriptName(lesson, file), func(t *testing.T) {
				if !all && i%16 != 0 {
					t.Skip("with -run TestBroken, or -long")
				}
				b := readBroken(t, file)
				j := job{Script: "testdata/" + lesson + "/" + b.script + ".txtar"}
				fault, isFault := strings.CutPrefix(b.script, "fault ")
				if isFault && !*long {
					t.Skip("with -long")
				}
				if strings.HasPrefix(b.script, "contract/") {
					j.Room, j.Contract = privateRoom(), true
				}
				if j.Contract && j.Room == shared {
					lockDefaultKeys(t)
				} else {
					t.Parallel()
				}
				changed := b.build(t, lesson)
				j.Path = []string{filepath.Join(changed, lesson),
					filepath.Join(built, lesson)}
				if isFault {
					j = faultNamed(fault).job(changed, built)
					j.Until = true
				}
				status, printed := j.run()
				switch {
				case status == skipped:
					t.Skip(printed)
				case status == passed:
					t.Errorf("%s did not notice: %s\n%s", b.script, b.what, printed)
				case !b.reason.MatchString(printed):
					t.Errorf("%s failed, but not with %q\n%s", b.script, b.reason, printed)
				}
			})
		}
	}
}

// builders has room for as many builds at once as there are CPUs.
var builders = make(chan bool, runtime.NumCPU())

// broken is a txtar archive: its comment says what is wrong and has a line
// each for the file to change, the script, and what the script must say; its
// files "old" and "new" are the change. The script may be a fault: "fault
// killed/01-reader".
type broken struct {
	what, file, script string
	program            string // the only one to build; may be empty
	reason             *regexp.Regexp
	old, new           string
}

var header = regexp.MustCompile(`(?m)^(file|script|reason|program): (.*)\n`)

func readBroken(t *testing.T, file string) (b broken) {
	a, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Files) != 2 || a.Files[0].Name != "old" || a.Files[1].Name != "new" {
		t.Fatalf("%s: want the files old and new", file)
	}
	fields := map[string]string{}
	for _, m := range header.FindAllStringSubmatch(string(a.Comment), -1) {
		fields[m[1]] = m[2]
	}
	b.what = header.ReplaceAllString(string(a.Comment), "")
	b.file, b.script, b.program = fields["file"], fields["script"], fields["program"]
	b.reason = regexp.MustCompile(fields["reason"])
	b.old = strings.TrimSuffix(string(a.Files[0].Data), "\n")
	b.new = strings.TrimSuffix(string(a.Files[1].Data), "\n")
	if b.file == "" || b.script == "" || fields["reason"] == "" || b.what == "" {
		t.Fatalf("%s: want file, script, reason and an explanation", file)
	}
	return b
}

// build builds the program that is changed, or all of the lesson if it is not
// clear which are, with the change laid over the source.
func (b broken) build(t *testing.T, lesson string) (dir string) {
	if !strings.HasPrefix(b.script, "contract/") { // those take long: at once
		builders <- true
		defer func() { <-builders }()
	}
	text, err := os.ReadFile(b.file)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), b.old); n != 1 {
		t.Fatalf("%s has this %d times, not once:\n%s", b.file, n, b.old)
	}
	dir = t.TempDir()
	os.Chmod(filepath.Dir(dir), 0o755) // some scripts run programs as nobody
	changed := filepath.Join(dir, filepath.Base(b.file))
	err = os.WriteFile(changed, []byte(strings.Replace(string(text), b.old, b.new, 1)), 0o644)
	if err != nil {
		t.Fatal(err)
	}
	original, err := filepath.Abs(b.file)
	if err != nil {
		t.Fatal(err)
	}
	mains, err := mainPackages(lesson)
	if err != nil {
		t.Fatal(err)
	}
	if b.program != "" {
		mains = []string{"./" + filepath.Join(lesson, b.program)}
	} else if own := "./" + filepath.Dir(b.file); slices.Contains(mains, own) {
		mains = []string{own}
	}
	overlay, err := json.Marshal(map[string]map[string]string{
		"Replace": {original: changed},
	})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o644)
	}
	if err == nil {
		err = build(dir, lesson, mains, "-overlay",
			filepath.Join(dir, "overlay.json"))
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
