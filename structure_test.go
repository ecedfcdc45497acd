//go:build linux

package shm_test

import (
	"bytes"
	"fmt"
	"go/ast"
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
// README, scripts and broken programs, every package says what
// it is for, every Go file is for Linux only and fits the width of a screen,
// and imports nothing from outside the lesson but golang.org/x/sys/unix.
func TestStructure(t *testing.T) {
	for _, lesson := range lessons() {
		for _, pattern := range []string{
			lesson + "/README.md",
			"testdata/" + lesson + "/*.txtar",
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
		if numbered && filepath.Ext(file) != ".go" && file != lesson+"/README.md" &&
			file != lesson+"/ASSIGNMENT.md" {
			t.Errorf("%s: unexpected; data belongs in testdata", file)
		}
		if filepath.Ext(file) != ".go" {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !regexp.MustCompile(`^//go:build linux( && .*)?\n`).Match(text) {
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
			if path, _ := strconv.Unquote(spec.Path.Value); !allowedImport(path, lesson) {
				t.Errorf("%s imports %s", file, path)
			}
		}
		for i, line := range strings.Split(string(text), "\n") {
			if width := len([]rune(strings.ReplaceAll(line, "\t", "    "))); width > 80 {
				t.Errorf("%s:%d: %d columns, 80 are shown", file, i+1, width)
			}
		}
		lines := bytes.Count(text, []byte("\n"))
		if filepath.Base(file) == "main.go" && lines > 145 {
			t.Errorf("%s: %d lines, 145 can be read in a lecture", file, lines)
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

// TestCallsVisible parses each program and finds in it
// the calls that the table in the lesson's README names. The table has a row
// for each C call, and names the Go call in its second column: `unix.Mmap` in
// every main.go; `reader: unix.Mmap`, or `unix.Mmap`, in `reader`, in that of
// reader/; `main: unix.Mmap` in that of the lesson's own directory; or
// `stat.go: unix.Mmap` in a file that the README reads with the student. For semaphores x/sys has no functions:
// those of lesson 03's package transfer count, too.
func TestCallsVisible(t *testing.T) {
	row := regexp.MustCompile("(?m)^\\| `[^|]*` \\| `(?:([\\w/.]+): )?((?:unix|transfer)\\.\\w+)[^`]*`(?:, in `([\\w/.]+)`)?[^|]*\\|")
	for _, lesson := range lessons() {
		text, err := os.ReadFile(lesson + "/README.md")
		if err != nil {
			t.Fatal(err)
		}
		mains, err := mainPackages(lesson)
		if err != nil {
			t.Fatal(err)
		}
		rows := row.FindAllStringSubmatch(string(text), -1)
		if len(rows) == 0 {
			t.Errorf("%s/README.md has no table of calls", lesson)
		}
		for _, m := range rows {
			in := mains
			if place := m[1] + m[3]; place != "" {
				in = []string{"./" + filepath.Join(lesson, strings.TrimPrefix(place, "main"))}
			}
			for _, dir := range in {
				file := filepath.Join(dir, "main.go")
				if strings.HasSuffix(dir, ".go") {
					file = dir
				}
				if !uses(t, file, m[2]) {
					t.Errorf("%s does not call %s, which the README's table names", file, m[2])
				}
			}
		}
	}
}

// uses tells whether a file has an expression such as unix.Mmap.
func uses(t *testing.T, file, name string) (found bool) {
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(parsed, func(n ast.Node) bool {
		s, ok := n.(*ast.SelectorExpr)
		if ok {
			x, isName := s.X.(*ast.Ident)
			found = found || isName && x.Name+"."+s.Sel.Name == name
		}
		return true
	})
	return found
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
	alone := "module example.com/shm-by-example\n\ngo 1.26.0\n\nrequire " + string(xsys) + "\n"
	for _, lesson := range lessons() {
		t.Run(lesson, func(t *testing.T) {
			t.Parallel()
			instead := map[string]string{"go.mod": alone}
			for _, file := range sources(t) {
				if !strings.HasPrefix(file, lesson+"/") && file != "go.sum" && file != "go.mod" {
					instead[file] = "" // it is not there
				}
			}
			// It compiles, as go build does, but links nothing.
			cmd := exec.Command("go", "list", "-test", "-export", "-overlay",
				overlay(t, t.TempDir(), instead), "./"+lesson+"/...")
			if text, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %v\n%s", cmd, err, text)
			}
		})
	}
}

// TestLinks holds the links of the READMEs, and of the assignments, to files
// that exist.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#]+)[^)]*\)`)
	assignments, _ := filepath.Glob("0*/ASSIGNMENT.md")
	for _, file := range append(append(readmes(), "testdata/README.md"), assignments...) {
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

// readmes are the READMEs that are run, the one at the root first: it takes
// longest.
func readmes() []string {
	files, _ := filepath.Glob("0*/README.md")
	return append([]string{"README.md"}, files...)
}

// TestFaultTable holds the table of faults in testdata/README.md to what there
// is: each script and test that it names, each fault in it, and for each row a
// broken program that one of its scripts or tests notices.
func TestFaultTable(t *testing.T) {
	text, err := os.ReadFile("testdata/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Faults\n")
	section, _, _ = strings.Cut(section, "\n## ")
	noticed := map[string]bool{} // by what, a broken program
	files, _ := filepath.Glob("testdata/*/broken/*.txtar")
	for _, file := range files {
		script := readBroken(t, file).script
		if name, ok := strings.CutPrefix(script, "fault "); ok {
			noticed["TestFaults/"+name] = true
		} else {
			noticed[strings.Split(file, "/")[1]+"/"+script] = true
		}
	}
	below := func(name, shown string) bool {
		return name == shown || strings.HasPrefix(name, shown+"/")
	}
	shown := map[string]bool{}
	rows := 0
	for line := range strings.Lines(section) {
		if !strings.HasPrefix(line, "| ") {
			continue
		}
		rows++
		cells := strings.Split(line, " | ")
		names := regexp.MustCompile("`([^` ]+/[^` ]+)`").FindAllStringSubmatch(cells[len(cells)-1], -1)
		proven := rows == 1 // the heading
		for _, m := range names {
			for by := range noticed {
				proven = proven || below(by, m[1])
			}
			_, err := os.Stat("testdata/" + m[1] + ".txtar")
			found := err == nil
			for _, f := range faults() {
				if below("TestFaults/"+f.name, m[1]) {
					found, shown[f.name] = true, true
				}
			}
			if !found {
				t.Errorf("there is no %s", m[1])
			}
		}
		if !proven {
			t.Errorf("no broken program shows that this can fail: %s", line)
		}
	}
	if rows < 15 {
		t.Errorf("the table has %d rows", rows)
	}
	for _, f := range faults() {
		if !shown[f.name] {
			t.Errorf("the table does not name TestFaults/%s", f.name)
		}
	}
}

// TestStatements holds the lessons' tables of statements complete. Each of
// the 53 statements has one row, which names tests of the same number in the
// same lesson. Every test has a row. Where a statement is wrong, the row says
// what is true.
func TestStatements(t *testing.T) {
	wrong := []int{2, 4, 5, 8, 12, 16, 20, 21, 30, 31, 32, 36, 45, 51, 53}
	row := regexp.MustCompile(`(?m)^\| (\d+) \| (.+) \| (.+) \| (.*) \|$`)
	testName := regexp.MustCompile("`(TestStatement\\w+)`")
	testFunc := regexp.MustCompile(`(?m)^func (TestStatement\w+)\(`)
	rows := map[int]int{}
	for _, lesson := range lessons() {
		unnamed := map[string]bool{} // tests that no row names
		files, _ := filepath.Glob(lesson + "/*_test.go")
		for _, file := range files {
			text, _ := os.ReadFile(file)
			for _, m := range testFunc.FindAllSubmatch(text, -1) {
				unnamed[string(m[1])] = true
			}
		}
		text, _ := os.ReadFile(lesson + "/README.md")
		_, table, _ := strings.Cut(string(text), "## What the tutorial states\n")
		for _, m := range row.FindAllStringSubmatch(table, -1) {
			var n int
			fmt.Sscan(m[1], &n)
			rows[n]++
			isTrue := strings.HasPrefix(m[3], "true") || len(m[3]) < 10
			if slices.Contains(wrong, n) && isTrue {
				t.Errorf("%s: statement %d does not say what is true", lesson, n)
			}
			names := testName.FindAllStringSubmatch(m[4], -1)
			if len(names) == 0 {
				t.Errorf("%s: statement %d has no test", lesson, n)
			}
			for _, name := range names {
				prefix := fmt.Sprintf("TestStatement%02d", n)
				if !unnamed[name[1]] || !strings.HasPrefix(name[1], prefix) {
					t.Errorf("%s: statement %d: no test %s", lesson, n, name[1])
				}
				delete(unnamed, name[1])
			}
		}
		for name := range unnamed {
			t.Errorf("%s/README.md does not name %s", lesson, name)
		}
	}
	for n := range 53 {
		rows[n+1]--
	}
	for n, tooMany := range rows {
		if tooMany != 0 {
			t.Errorf("statement %d: %+d rows too many", n, tooMany)
		}
	}
}

// TestPatterns holds the READMEs and assignments to patterns of go test -run
// that match something. Without a match go test says "ok", and a student who
// has broken a program learns that nothing noticed.
func TestPatterns(t *testing.T) {
	command := regexp.MustCompile("go test ([^`\n#]*?-run [^`\n#]*)")
	files, _ := filepath.Glob("0*/ASSIGNMENT.md")
	for _, file := range append(append(readmes(), "testdata/README.md"), files...) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range command.FindAllStringSubmatch(string(text), -1) {
			args := strings.Fields(strings.ReplaceAll(m[1], "'", ""))
			dir, patterns := args[len(args)-1], []string{}
			for i, arg := range args[:len(args)-1] {
				if arg == "-run" && args[i+1] != "^$" || arg == "-bench" {
					patterns = append(patterns, args[i+1])
				}
				if arg == "-count" { // -count 20 .
					dir = args[len(args)-1]
				}
			}
			tests := testsOf(t, dir)
			for _, pattern := range alternatives(patterns) {
				if !slices.ContainsFunc(tests, func(name string) bool { return selects(pattern, name) }) {
					t.Errorf("%s: go test %s: %s matches no test", file, m[1], pattern)
				}
			}
		}
	}
}

// alternatives writes Test(A|B)/01 as TestA/01 and TestB/01: each must match.
func alternatives(patterns []string) (all []string) {
	group := regexp.MustCompile(`\(([^()]*)\)`)
	for _, pattern := range patterns {
		at := group.FindStringSubmatchIndex(pattern)
		if at == nil {
			all = append(all, pattern)
			continue
		}
		for one := range strings.SplitSeq(pattern[at[2]:at[3]], "|") {
			all = append(all, alternatives([]string{pattern[:at[0]] + one + pattern[at[1]:]})...)
		}
	}
	return all
}

// testsOf lists the tests and benchmarks of a package, or of those of a pattern
// that ends with "...". At the root they are listed with what they run.
func testsOf(t *testing.T, dir string) (names []string) {
	below := strings.HasSuffix(dir, "...")
	dir = filepath.Clean(strings.TrimSuffix(dir, "..."))
	function := regexp.MustCompile(`(?m)^func ((?:Test|Benchmark)\w+)\(`)
	for _, file := range sources(t) {
		in, err := filepath.Match(dir, filepath.Dir(file))
		if !strings.HasSuffix(file, "_test.go") || err != nil {
			continue
		}
		first, _, _ := strings.Cut(file, "/")
		inFirst, _ := filepath.Match(dir, first)
		if in || below && (dir == "." || inFirst) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range function.FindAllSubmatch(text, -1) {
				names = append(names, string(m[1]))
			}
		}
	}
	if dir != "." {
		return names
	}
	for test, files := range map[string]string{"TestScripts": "*", "TestLabs": "lab/*",
		"TestBroken": "broken/*", "TestWrong": "lab/wrong/*"} {
		found, _ := filepath.Glob("testdata/0*/" + files + ".txtar")
		for _, file := range found {
			lesson := strings.Split(file, "/")[1]
			name := strings.TrimSuffix(filepath.Base(file), ".txtar")
			if strings.HasPrefix(files, "lab/") {
				lesson = lesson[:2]
			}
			names = append(names, test+"/"+lesson+"/"+name)
		}
	}
	return names
}

// selects tells whether go test -run runs a test: each part of the pattern
// matches that part of its name.
func selects(pattern, name string) bool {
	parts := strings.Split(name, "/")
	for i, want := range strings.Split(pattern, "/") {
		if i >= len(parts) || !regexp.MustCompile(want).MatchString(parts[i]) {
			return false
		}
	}
	return true
}
