//go:build linux

package shm_test

import (
	"encoding/json"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestStructure holds every lesson to what a numbered directory is: it has a
// README, scripts of both kinds and broken programs, every package says what
// it is for, every Go file is for Linux only and fits the width of a screen,
// and imports nothing from outside the lesson but golang.org/x/sys/unix.
func TestStructure(t *testing.T) {
	for _, lesson := range lessons() {
		for _, pattern := range []string{
			lesson + "/README.md",
			"testdata/" + lesson + "/*.txtar",
			"testdata/" + lesson + "/contract/*.txtar",
			"testdata/" + lesson + "/broken/*.txtar",
		} {
			if files, _ := filepath.Glob(pattern); len(files) == 0 {
				t.Errorf("%s is missing", pattern)
			}
		}
	}
	documented := map[string]bool{}
	for _, file := range sources(t) {
		lesson, _, _ := strings.Cut(file, "/")
		numbered := slices.Contains(lessons(), lesson)
		if numbered && filepath.Ext(file) != ".go" && file != lesson+"/README.md" {
			t.Errorf("%s: unexpected; data belongs in testdata", file)
		}
		if filepath.Ext(file) != ".go" {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if first, _, _ := strings.Cut(string(text), "\n"); first != "//go:build linux" &&
			!strings.HasPrefix(first, "//go:build linux && ") {
			t.Errorf("%s does not begin with //go:build linux", file)
		}
		if !numbered {
			if strings.Contains(file, "/") {
				t.Errorf("%s: code is in the numbered directories only", file)
			}
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, text, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.Dir(file)
		documented[dir] = documented[dir] || parsed.Doc != nil
		for _, spec := range parsed.Imports {
			path, _ := strconv.Unquote(spec.Path.Value)
			if !allowedImport(path, lesson) {
				t.Errorf("%s imports %s", file, path)
			}
		}
		for i, line := range strings.Split(string(text), "\n") {
			if width := len([]rune(strings.ReplaceAll(line, "\t", "    "))); width > 80 {
				t.Errorf("%s:%d: %d columns, 80 are shown", file, i+1, width)
			}
		}
		if lines := strings.Count(string(text), "\n"); filepath.Base(file) == "main.go" && lines > 145 {
			t.Errorf("%s: %d lines, 145 can be read in a lecture", file, lines)
		}
	}
	for dir, ok := range documented {
		if !ok {
			t.Errorf("%s: no package comment", dir)
		}
	}
}

// TestLinks holds the links of the READMEs to files that exist.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#]+)[^)]*\)`)
	for _, file := range readmes() {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), m[1])); err != nil {
				t.Errorf("%s: %v", file, err)
			}
		}
	}
}

// readmes are the READMEs, the one at the root first: it takes longest.
func readmes() []string {
	files, _ := filepath.Glob("*/README.md")
	return append([]string{"README.md"}, files...)
}

func allowedImport(path, lesson string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".") || path == "golang.org/x/sys/unix" ||
		strings.HasPrefix(path, "example.com/shm-by-example/"+lesson+"/")
}

// TestStandsAlone builds each lesson as if there were nothing else: no other
// lesson, and no module in go.mod but golang.org/x/sys. An overlay hides the
// rest; a copy would have to be compiled anew in each run.
func TestStandsAlone(t *testing.T) {
	t.Parallel()
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	xsys := regexp.MustCompile(`golang\.org/x/sys v\S+`).Find(mod)
	alone := fmt.Appendf(nil,
		"module example.com/shm-by-example\n\ngo 1.26.0\n\nrequire %s\n", xsys)
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, lesson := range lessons() {
		t.Run(lesson, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			instead := map[string]string{}
			for _, file := range sources(t) {
				if !strings.HasPrefix(file, lesson+"/") && file != "go.sum" {
					instead[filepath.Join(root, file)] = "" // it is not there
				}
			}
			instead[filepath.Join(root, "go.mod")] = filepath.Join(dir, "go.mod")
			overlay, err := json.Marshal(map[string]any{"Replace": instead})
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o644)
			}
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, "go.mod"), alone, 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
			// It compiles, as go build does, but links nothing.
			cmd := exec.Command("go", "list", "-export", "-overlay",
				filepath.Join(dir, "overlay.json"), "./"+lesson+"/...")
			if text, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %v\n%s", cmd, err, text)
			}
		})
	}
}

// TestCopies holds the copies of the files in the lessons' ipc directories
// alike, and but for the package clause those of pair_test.go.
func TestCopies(t *testing.T) {
	files, _ := filepath.Glob("*/ipc/*.go")
	if len(files) == 0 {
		t.Fatal("no ipc directories")
	}
	for _, file := range sources(t) {
		if filepath.Base(file) == "pair_test.go" {
			files = append(files, file)
		}
	}
	clause := regexp.MustCompile(`(?m)^package \w+$`)
	first := map[string]string{} // by base name
	for _, file := range files {
		other, known := first[filepath.Base(file)]
		if !known {
			first[filepath.Base(file)] = file
			continue
		}
		a, err := os.ReadFile(other)
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Base(file) == "pair_test.go" {
			a, b = clause.ReplaceAll(a, nil), clause.ReplaceAll(b, nil)
		}
		if string(a) != string(b) {
			t.Errorf("%s and %s differ: they are copies", other, file)
		}
	}
}
