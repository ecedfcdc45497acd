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
// by what words.
func TestBroken(t *testing.T) {
	t.Parallel()
	for _, lesson := range lessons() {
		files, _ := filepath.Glob("testdata/" + lesson + "/broken/*.txtar")
		for _, file := range files {
			t.Run(scriptName(lesson, file), func(t *testing.T) {
				b := readBroken(t, file)
				j := job{Script: "testdata/" + lesson + "/" + b.script + ".txtar"}
				if strings.HasPrefix(b.script, "contract/") {
					j.Room, j.Contract = privateRoom(), true
				}
				if j.Contract && j.Room == shared {
					lockDefaultKeys(t)
				} else {
					t.Parallel()
				}
				j.Path = []string{filepath.Join(b.build(t, lesson), lesson),
					filepath.Join(built, lesson)}
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
// files "old" and "new" are the change.
type broken struct {
	what, file, script string
	reason             *regexp.Regexp
	old, new           string
}

var header = regexp.MustCompile(`(?m)^(file|script|reason): (.*)\n`)

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
	b.file, b.script = fields["file"], fields["script"]
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
	if own := "./" + filepath.Dir(b.file); slices.Contains(mains, own) {
		mains = []string{own}
	}
	overlay, err := json.Marshal(map[string]map[string]string{
		"Replace": {original: changed},
	})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o644)
	}
	if err == nil {
		err = build(dir, lesson, mains, "-ldflags=-w", "-overlay",
			filepath.Join(dir, "overlay.json"))
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
