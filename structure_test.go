//go:build linux

package shm_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestStructure checks the rules for a lesson. It has a README, scripts and broken
// programs. Every package says what it is for. Every Go file is for Linux only,
// fits the width of a screen, and imports nothing from outside the lesson but the
// standard library and golang.org/x/sys/unix. testdata/README.md lists these rules.
func TestStructure(t *testing.T) {
	folders, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range folders {
		if d.IsDir() && !slices.Contains(lessons(), d.Name()) {
			t.Errorf("testdata/%s: there is no lesson %[1]s, so no test uses this folder", d.Name())
		}
	}
	var wrong []string
	before := "README.md" // it must have a link to this lesson
	for _, lesson := range lessons() {
		wrong = append(wrong, missing(lesson)...)
		wrong = append(wrong, unlinked(lesson, before)...)
		before = lesson + "/README.md"
		wrong = append(wrong, wrongHeadings(before, readText(before))...)
	}
	documented := map[string]bool{}
	for _, file := range sources(t) {
		if lesson, _, _ := strings.Cut(file, "/"); slices.Contains(lessons(), lesson) {
			wrong = append(wrong, wrongFile(lesson, file, documented)...)
		} else if filepath.Ext(file) == ".go" && strings.Contains(file, "/") {
			wrong = append(wrong, file+": code is in the numbered directories only")
		}
		if text := readText(file); filepath.Ext(file) == ".go" && !forLinux.MatchString(text) {
			wrong = append(wrong, file+" does not begin with //go:build linux")
		}
	}
	for dir, ok := range documented {
		if !ok {
			wrong = append(wrong, dir+": no package comment")
		}
	}
	for _, what := range wrong {
		t.Error(what)
	}
}

var forLinux = regexp.MustCompile(`^//go:build linux( && .*)?\n`)

// readText is the text of a file. If there is no such file, it is empty.
func readText(file string) string {
	text, _ := os.ReadFile(file)
	return string(text)
}

// isLab tells whether a lesson is a lab, too.
func isLab(lesson string) bool {
	scripts, _ := filepath.Glob("testdata/" + lesson + "/lab/*.txtar")
	return len(scripts) > 0
}

// missing lists the files that a lesson must have, and does not have.
func missing(lesson string) (wrong []string) {
	patterns := []string{lesson + "/README.md", "testdata/" + lesson + "/*.txtar",
		"testdata/" + lesson + "/broken/*.txtar"}
	if isLab(lesson) {
		patterns = append(patterns, lesson+"/ASSIGNMENT.md")
	}
	for _, pattern := range patterns {
		if files, _ := filepath.Glob(pattern); len(files) == 0 {
			wrong = append(wrong, pattern+" is missing")
		}
	}
	return wrong
}

// unlinked lists the READMEs of a lesson to which no link leads. Two lead to the
// lesson's own: from the root README, and from the lesson before.
func unlinked(lesson, before string) (wrong []string) {
	own := lesson + "/README.md"
	for _, from := range []string{"README.md", before} {
		if !strings.Contains(readText(from), own+")") {
			wrong = append(wrong, from+" has no link to "+own)
		}
	}
	for _, file := range lessonREADMEs(lesson)[1:] {
		if inside := strings.TrimPrefix(file, lesson+"/"); !strings.Contains(readText(own), "]("+inside) {
			wrong = append(wrong, own+" has no link to "+inside)
		}
	}
	return wrong
}

// headings are those of a lesson's README, in this order. It may also have others.
var headings = []string{"Run it", "What just happened", "The code, step by step", "Predict, then break it",
	"What the tutorial gets wrong", "Questions", "What another program must know", "Look and clean up",
	"What the tutorial states", "Next"}

// notRequired are headings that a lesson may do without.
var notRequired = []string{"What the tutorial gets wrong", "Look and clean up", "What the tutorial states"}

var headingLine = regexp.MustCompile(`(?m)^## (.*)$`)

// wrongHeadings says which headings are missing in a lesson's README, and whether
// their order is wrong.
func wrongHeadings(file, text string) (wrong []string) {
	var got, want []string
	for _, m := range headingLine.FindAllStringSubmatch(text, -1) {
		if slices.Contains(headings, m[1]) {
			got = append(got, m[1])
		}
	}
	for _, h := range headings {
		if slices.Contains(got, h) {
			want = append(want, h)
		} else if !slices.Contains(notRequired, h) {
			wrong = append(wrong, fmt.Sprintf("%s has no heading %q", file, h))
		}
	}
	if !slices.Equal(got, want) {
		wrong = append(wrong, fmt.Sprintf("%s: the headings must be in this order: %q", file, want))
	}
	return wrong
}

// wrongFile says which rules a file of a lesson breaks. It notes whether the package
// has a comment.
func wrongFile(lesson, file string, documented map[string]bool) (wrong []string) {
	complain := func(format string, args ...any) {
		wrong = append(wrong, file+fmt.Sprintf(format, args...))
	}
	if filepath.Ext(file) != ".go" {
		if file == lesson+"/ASSIGNMENT.md" {
			if !isLab(lesson) {
				complain(": only a lab has an assignment, and testdata/%s/lab has no scripts", lesson)
			}
		} else if !slices.Contains(lessonREADMEs(lesson), file) {
			complain(": unexpected; data belongs in testdata")
		}
		return wrong
	}
	text := readText(file)
	parsed, err := parser.ParseFile(token.NewFileSet(), file, text, parser.ParseComments)
	if err != nil {
		return []string{err.Error()}
	}
	dir := filepath.Dir(file)
	documented[dir] = documented[dir] || parsed.Doc != nil
	for _, spec := range parsed.Imports {
		if path, _ := strconv.Unquote(spec.Path.Value); !allowedImport(path, lesson) {
			complain(" imports %s", path)
		}
	}
	for i, line := range strings.Split(text, "\n") {
		if width := len([]rune(strings.ReplaceAll(line, "\t", "    "))); width > 80 {
			complain(":%d: %d columns, 80 are shown", i+1, width)
		}
	}
	if lines := strings.Count(text, "\n"); filepath.Base(file) == "main.go" && lines > 145 {
		complain(": %d lines, 145 can be read in a lecture", lines)
	}
	return wrong
}

// TestHeadings shows that a README with other headings is noticed.
func TestHeadings(t *testing.T) {
	const good = "# x\n## Run it\n## What just happened\n## The code, step by step\n## Predict, then break it\n" +
		"## Questions\n## What another program must know\n## The tool\n## Next\n"
	for _, c := range []struct{ old, new, want string }{
		{"# x\n", "# y\n", ""},
		{"## Next\n", "## What the tutorial states\n## Next\n", ""},
		{"## Questions\n", "", `no heading "Questions"`},
		{"## Run it\n", "## Run\n", `no heading "Run it"`},
		{"## Run it\n## What just happened\n", "## What just happened\n## Run it\n", "in this order"},
		{"## Next\n", "## Next\n## What the tutorial states\n", "in this order"},
		{"## Next\n", "## Next\n## Next\n", "in this order"},
	} {
		got := strings.Join(wrongHeadings("x", strings.Replace(good, c.old, c.new, 1)), "\n")
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%q instead of %q gives %q, want %q", c.new, c.old, got, c.want)
		}
	}
}

func allowedImport(path, lesson string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".") || path == "golang.org/x/sys/unix" ||
		strings.HasPrefix(path, "example.com/shm-by-example/"+lesson+"/")
}

// TestCallsVisible parses each program, and looks in it for the calls that the
// table in the lesson's README names. The table has a row for each C call, and
// names the Go call in its second column: `unix.Mmap` is in every main.go,
// `reader: unix.Mmap`, or `unix.Mmap`, in `reader`, in that of reader/,
// `main: unix.Mmap` in that of the lesson's own directory, and `stat.go:
// unix.Mmap` in that file. x/sys has no functions for semaphores, so those of
// lesson 03's package transfer count, too. If the Go code makes no such call, the
// row names the function or file that takes its place.
func TestCallsVisible(t *testing.T) {
	for _, lesson := range lessons() {
		mains, err := mainPackages(lesson)
		if err != nil {
			t.Fatal(err)
		}
		for i, file := range lessonREADMEs(lesson) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if i > 0 && !strings.Contains(string(text), callsHeading) {
				continue // only the lesson's own must have a table
			}
			for _, wrong := range callsMissing(lesson, string(text), mains) {
				t.Errorf("%s: %s", file, wrong)
			}
		}
	}
}

// TestCallsVisibleRefuses shows that a wrong table of calls is noticed.
func TestCallsVisibleRefuses(t *testing.T) {
	const lesson = "01-shm-write-read"
	mains := []string{"./" + lesson + "/writer"}
	const good = "| `shmdt(p)` | `unix.SysvShmDetach` | detaches it |\n"
	for rows, want := range map[string]string{
		"":   "has no table of calls",
		good: "",
		good + "| `munmap(p)` | `unix.Munmap` | unmaps it |\n":               "writer/main.go does not call unix.Munmap",
		good + "| `munmap(p)` | `reader: unix.Munmap` | unmaps it |\n":       "reader/main.go does not call unix.Munmap",
		good + "| `munmap(p)` | `raeder: unix.SysvShmDetach` | as above |\n": "no such file",
		good + "| `munmap(p)` | unix.Munmap | unmaps it |\n":                 "not understood",
		good + "| `eventfd2(0, 0)` | `unix.SysvShmDetach` | as above |\n":    "eventfd2: add the call to watched",
		good + "| munmap | `unix.Munmap` | unmaps it |\n":                    "not understood",
		good + "| `munmap(p)` | `unix.Munmap` |\n":                           "not understood",
		good + "| `munmap(p)` | `unmapAll` | unmaps it |\n":                  "no code of the lesson has unmapAll",
		good + "| `munmap(p)` | in `unmap.go` | unmaps it |\n":               "the lesson has no file unmap.go",
		good + "| `x` | `shared.Complete.Load()`, in `main.go` | loads |\n":  "",
		"| `x` | `shared.Complete.Load()` | loads it |\n":                    "names no call",
	} {
		text := "Text.\n"
		if rows != "" {
			text += "\n" + callsHeading + "\n|---|---|---|\n" + rows + "\nMore.\n"
		}
		got := strings.Join(callsMissing(lesson, text, mains), "\n")
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s\ngives %q, want %q", rows, got, want)
		}
	}
}

const (
	callsHeading = "| C | Go | what it does |"
	callsForm    = "want a table of at least one call, with columns that look like this:\n" +
		callsHeading + "\n|---|---|---|\n" +
		"| `shmdt(mem)` | `unix.SysvShmDetach` | detaches it |\n" +
		"`unix.X` is looked for in every main.go of the lesson, `reader: unix.X` in that of reader/, " +
		"`main: unix.X` in that of the lesson's directory, `stat.go: unix.X` in that file. " +
		"Any other `name` is looked for in all code of the lesson"
)

var (
	codeSpan = regexp.MustCompile("`([^`]*)`")
	callSpan = regexp.MustCompile("^`(?:([\\w/.]+): )?((?:unix|transfer)\\.\\w+)[^`]*`(?:, in `([a-z/]+)`)?")
	cCall    = regexp.MustCompile("`(\\w+)\\(")
	goName   = regexp.MustCompile(`[A-Za-z_][\w.]*`)
)

// callsMissing says what is wrong with the table of calls in a README.
func callsMissing(lesson, text string, mains []string) (wrong []string) {
	complain := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	_, table, _ := strings.Cut(text, "\n"+callsHeading+"\n")
	table, _, _ = strings.Cut(table, "\n\n")
	if table == "" {
		return []string{"has no table of calls; " + callsForm}
	}
	calls := 0
	for i, line := range strings.Split(table, "\n") {
		if i == 0 { // |---|
			continue
		}
		cells := strings.Split(strings.TrimSuffix(strings.TrimPrefix(line, "| "), " |"), " | ")
		if len(cells) != 3 || !codeSpan.MatchString(cells[0]) || !codeSpan.MatchString(cells[1]) {
			complain("this row of the table of calls is not understood:\n%s\n%s", line, callsForm)
			continue
		}
		goCell := cells[1]
		if m := callSpan.FindStringSubmatch(goCell); m != nil {
			calls++
			for _, c := range cCall.FindAllStringSubmatch(cells[0], -1) {
				if !hasFaults(c[1]) {
					complain("%s: add the call to watched in calls_test.go, so that faults are caused to it, "+
						"or to noFaults", c[1])
				}
			}
			goCell = goCell[len(m[0]):]
			in := mains
			if place := m[1] + m[3]; place != "" {
				in = []string{"./" + filepath.Join(lesson, strings.TrimPrefix(place, "main"))}
			}
			for _, dir := range in {
				file := filepath.Join(dir, "main.go")
				if strings.HasSuffix(dir, ".go") {
					file = dir
				}
				if ok, err := uses(file, m[2]); err != nil {
					complain("%s: %v", line, err)
				} else if !ok {
					complain("%s does not call %s, which the table of calls names", file, m[2])
				}
			}
		}
		for _, m := range codeSpan.FindAllStringSubmatch(goCell, -1) {
			if err := inLesson(lesson, m[1]); err != nil {
				complain("%s\n%v", line, err)
			}
		}
	}
	if calls == 0 {
		complain("the table of calls names no call; %s", callsForm)
	}
	return wrong
}

// noFaults are calls of the lessons to which no faults are caused: they change
// nothing that another process sees, or are only a hint.
var noFaults = []string{"munmap", "close", "madvise", "ftok"}

// hasFaults tells whether faults are caused to a C call. shm_open is the system call
// openat, and shm_unlink is unlinkat.
func hasFaults(call string) bool {
	for _, w := range watched {
		if strings.TrimSuffix(w.name, "at") == strings.TrimPrefix(call, "shm_") || w.name == call {
			return true
		}
	}
	return slices.Contains(noFaults, call)
}

// inLesson looks in a lesson for a file, or in its code for a name. Of a name such
// as m.lock or (*usage)(p) it takes the last part, unless the first one is unix.
func inLesson(lesson, span string) error {
	name := goName.FindString(span)
	last := name[strings.LastIndex(name, ".")+1:]
	found := errors.New("found")
	err := filepath.WalkDir(lesson, func(path string, _ fs.DirEntry, err error) error {
		if err == nil && filepath.Base(path) == name {
			return found
		} else if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return err
		}
		ok, err := uses(path, name)
		if err == nil && !ok && !strings.HasPrefix(name, "unix.") {
			ok, err = uses(path, last)
		}
		if ok {
			return found
		}
		return err
	})
	switch {
	case err == found:
		return nil
	case err == nil && strings.HasSuffix(name, ".go"):
		return fmt.Errorf("the lesson has no file %s", name)
	case err == nil:
		return fmt.Errorf("no code of the lesson has %s", name)
	}
	return err
}

// uses tells whether a file has a name such as lock, or an expression such as
// unix.Mmap.
func uses(file, name string) (found bool, err error) {
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		return false, err
	}
	ast.Inspect(parsed, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Ident:
			found = found || n.Name == name
		case *ast.SelectorExpr:
			x, isName := n.X.(*ast.Ident)
			found = found || isName && x.Name+"."+n.Sel.Name == name
		}
		return true
	})
	return found, nil
}

// TestStandsAlone builds each lesson without the others, and with no module in
// go.mod but golang.org/x/sys. An overlay hides the rest. (A copy of the lesson
// would have to be compiled again in each run.)
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
					instead[file] = "" // hides the file
				}
			}
			// This compiles, as go build does, but does not link.
			cmd := exec.Command("go", "list", "-test", "-export", "-overlay",
				overlay(t, t.TempDir(), instead), "./"+lesson+"/...")
			if text, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %v\n%s", cmd, err, text)
			}
		})
	}
}

// TestLinks checks that the links of the READMEs and assignments lead to files.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#]+)[^)]*\)`)
	assignments, _ := filepath.Glob("[0-9][0-9]-*/ASSIGNMENT.md")
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

// TestCommands checks that the commands in the READMEs name tests and scripts that
// exist. If -run finds no test, go test passes.
func TestCommands(t *testing.T) {
	command := regexp.MustCompile(`go test [^\x60\n]*-run (?:'([^']+)'|(\S+))[^\x60\n]* (\.[\w./-]*)`)
	function := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	script := regexp.MustCompile(`^(?:Scripts|Labs)/(\d\d)\.\*/([\w-]+)$`)
	assignments, _ := filepath.Glob("[0-9][0-9]-*/ASSIGNMENT.md")
	commands := 0
	for _, file := range append(append(readmes(), "testdata/README.md"), assignments...) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range command.FindAllStringSubmatch(string(text), -1) {
			commands++
			run := m[1] + m[2]
			if run == "^$" { // for -bench
				continue
			}
			first, _, _ := strings.Cut(run, "/")
			if strings.HasPrefix(run, "(") {
				first, _, _ = strings.Cut(run, ")")
				first += ")"
			}
			named := regexp.MustCompile(first)
			dir := m[3]
			if dir == "./..." {
				dir = "*"
			}
			files, _ := filepath.Glob(filepath.Join(dir, "*_test.go"))
			if !slices.ContainsFunc(files, func(file string) bool {
				text, _ := os.ReadFile(file)
				return slices.ContainsFunc(function.FindAllStringSubmatch(string(text), -1),
					func(f []string) bool { return named.MatchString(f[1]) })
			}) {
				t.Errorf("%s: %s: no such test in %s", file, m[0], m[3])
			}
			if s := script.FindStringSubmatch(run); s != nil {
				scripts, _ := filepath.Glob("testdata/" + s[1] + "-*/" + s[2] + "*.txtar")
				inLab, _ := filepath.Glob("testdata/" + s[1] + "-*/lab/" + s[2] + "*.txtar")
				if len(scripts)+len(inLab) == 0 {
					t.Errorf("%s: %s: no such script", file, m[0])
				}
			}
		}
	}
	if commands < 20 {
		t.Errorf("found only %d commands", commands)
	}
}

// readmes are the READMEs that are run. The root's is the first, because it takes
// longest.
func readmes() []string {
	files := []string{"README.md"}
	for _, lesson := range lessons() {
		files = append(files, lessonREADMEs(lesson)...)
	}
	return files
}

// lessonREADMEs are those of a lesson, its own first: a directory in it that
// is a subject of its own has one, too.
func lessonREADMEs(lesson string) []string {
	inside, _ := filepath.Glob(lesson + "/*/README.md")
	return append([]string{lesson + "/README.md"}, inside...)
}

// TestFaultTable checks the table of faults in testdata/README.md. Each script and
// test that it names exists, and it names each fault. For each row there is a
// broken program that one of the row's scripts or tests notices.
func TestFaultTable(t *testing.T) {
	text, err := os.ReadFile("testdata/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Faults\n")
	section, _, _ = strings.Cut(section, "\n## ")
	noticed := map[string]bool{} // scripts and tests that notice a broken program
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
	shownBy := regexp.MustCompile("`([^` ]+/[^` ]+)`")
	rows := 0
	for line := range strings.Lines(section) {
		if !strings.HasPrefix(line, "| ") {
			continue
		}
		rows++
		cells := strings.Split(line, " | ")
		names := shownBy.FindAllStringSubmatch(cells[len(cells)-1], -1)
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
			t.Errorf("no broken program shows that the scripts of this row can fail: %s", line)
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

// TestStatements checks that the lessons' tables of statements are complete. Each
// of the 53 statements has one row, which names tests of the same number in the
// same lesson. Every test has a row. If a statement is wrong, the row says what is
// true.
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
		table := "" // of all READMEs of the lesson
		for _, file := range lessonREADMEs(lesson) {
			text, _ := os.ReadFile(file)
			_, states, _ := strings.Cut(string(text), "## What the tutorial states\n")
			table += states
		}
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
			t.Errorf("%s: no README names %s", lesson, name)
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
