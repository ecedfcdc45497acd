//go:build linux

package shm_test

import (
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
		if !strings.HasPrefix(string(text), "//go:build linux\n") {
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
		if lines := strings.Count(string(text), "\n"); filepath.Base(file) == "main.go" && lines > 120 {
			t.Errorf("%s: %d lines, 120 can be read in a lecture", file, lines)
		}
	}
	for dir, ok := range documented {
		if !ok {
			t.Errorf("%s: no package comment", dir)
		}
	}
}

func allowedImport(path, lesson string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".") || path == "golang.org/x/sys/unix" ||
		strings.HasPrefix(path, "example.com/shm-by-example/"+lesson+"/")
}

// TestStandsAlone copies each lesson into an empty module of the same path
// and builds it there, with nothing but golang.org/x/sys.
func TestStandsAlone(t *testing.T) {
	t.Parallel()
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	sum, err := os.ReadFile("go.sum")
	if err != nil {
		t.Fatal(err)
	}
	xsys := regexp.MustCompile(`golang\.org/x/sys v\S+`).Find(mod)
	alone := fmt.Appendf(nil,
		"module example.com/shm-by-example\n\ngo 1.26.0\n\nrequire %s\n", xsys)
	for _, lesson := range lessons() {
		t.Run(lesson, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.CopyFS(filepath.Join(dir, lesson), os.DirFS(lesson)); err != nil {
				t.Fatal(err)
			}
			for name, text := range map[string][]byte{"go.mod": alone, "go.sum": sum} {
				if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.Command("go", "build", "-o", os.DevNull, "./...")
			cmd.Dir = dir
			if text, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %v\n%s", cmd, err, text)
			}
		})
	}
}

// TestCopies holds the copies of the files in the lessons' ipc directories
// alike.
func TestCopies(t *testing.T) {
	files, _ := filepath.Glob("*/ipc/*.go")
	if len(files) == 0 {
		t.Fatal("no ipc directories")
	}
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
		if string(a) != string(b) {
			t.Errorf("%s and %s differ: they are copies", other, file)
		}
	}
}
