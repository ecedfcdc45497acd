//go:build linux

package shm_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// TestLabs judges our own programs, which must get all points.
func TestLabs(t *testing.T) {
	t.Parallel()
	for _, l := range labs {
		scripts, err := readLab(l)
		if err != nil {
			t.Error(err)
			continue
		}
		sub := &submission{lab: l}
		for _, script := range scripts {
			t.Run(script.name, func(t *testing.T) {
				t.Parallel()
				v := make(chan verdict)
				go func() { v <- sub.judge(script) }() // its thread ends with the world
				switch v := <-v; v.status {
				case "passed":
				case "skipped":
					t.Skip(v.seen)
				default:
					t.Errorf("%s%s", v.feedback(), v.printed)
				}
			})
		}
	}
}

// TestLabPoints holds that each lab's tiers are worth 60, 20 and 20 points.
func TestLabPoints(t *testing.T) {
	for _, l := range labs {
		scripts, err := readLab(l)
		if err != nil {
			t.Error(err)
		}
		sum := map[string]float64{}
		for _, s := range scripts {
			sum[s.tier] += s.points
		}
		if sum["basic"] != 60 || sum["interop"] != 20 || sum["robust"] != 20 {
			t.Errorf("lab %s: the tiers are worth %v, not 60, 20 and 20", l.number, sum)
		}
	}
}

// findScript finds a script of a lab by its name.
func findScript(t *testing.T, l *lab, name string) *labScript {
	scripts, err := readLab(l)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range scripts {
		if s.name == l.number+"/"+name {
			return s
		}
	}
	t.Fatalf("lab %s has no script %s", l.number, name)
	return nil
}

var wrongHeader = regexp.MustCompile(`(?m)^(bug|script|likely|file|program): (.*)\n`)

// TestWrong proves that the grader notices what students do wrong, and names
// the cause. Each file in a folder lab/wrong is a submission with one bug, or
// a change to a program of ours, and says which script must fail and what is
// likely. Without -run or -long it is one of each lab.
func TestWrong(t *testing.T) {
	needWorlds(t)
	t.Parallel()
	for _, l := range labs {
		files, _ := filepath.Glob("testdata/" + l.lesson + "/lab/wrong/*.txtar")
		for i, file := range files {
			if i > 0 && !*long && !isSet("test.run") {
				continue
			}
			t.Run(l.number+"/"+strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
				t.Parallel()
				a, err := txtar.ParseFile(file)
				if err != nil {
					t.Fatal(err)
				}
				fields := map[string]string{}
				for _, m := range wrongHeader.FindAllStringSubmatch(string(a.Comment), -1) {
					fields[m[1]] = m[2]
				}
				if fields["bug"] == "" || fields["script"] == "" || fields["likely"] == "" {
					t.Fatalf("%s: want bug, script and likely", file)
				}
				sub := &submission{lab: l}
				if a.Files[0].Name == "old" {
					b := broken{what: fields["bug"], file: fields["file"], program: fields["program"],
						old: strings.TrimSuffix(string(a.Files[0].Data), "\n"),
						new: strings.TrimSuffix(string(a.Files[1].Data), "\n")}
					sub.changed = b.build(t, l.lesson)
				} else {
					sub.dir = unpack(t, a)
					sub.absent = absent(sub.dir, l)
				}
				v := sub.judge(findScript(t, l, fields["script"]))
				switch {
				case v.status == "skipped":
					t.Skip(v.seen)
				case v.status != "failed" || v.points != 0:
					t.Errorf("not noticed: %s\n%s%s", fields["bug"], v.feedback(), v.printed)
				case !regexp.MustCompile(fields["likely"]).MatchString(v.likely):
					t.Errorf("the cause is not %q\n%s%s", fields["likely"], v.feedback(), v.printed)
				}
			})
		}
	}
}

// unpack makes a submission of an archive, and builds it.
func unpack(t *testing.T, a *txtar.Archive) (dir string) {
	dir = t.TempDir()
	for _, f := range a.Files {
		path := filepath.Join(dir, f.Name)
		mode := os.FileMode(0o644)
		if line, _, _ := strings.Cut(string(f.Data), "\n"); strings.HasPrefix(line, "#!") {
			mode = 0o755
			words := strings.Fields(strings.TrimPrefix(line, "#!"))
			if _, err := exec.LookPath(words[len(words)-1]); err != nil {
				t.Skip(err)
			}
		}
		if strings.HasSuffix(f.Name, ".c") {
			if _, err := exec.LookPath("cc"); err != nil {
				t.Skip(err)
			}
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, f.Data, mode); err != nil {
			t.Fatal(err)
		}
	}
	failed, err := buildSubmission(dir)
	if err != nil || failed != "" {
		t.Fatal(err, failed)
	}
	return dir
}
