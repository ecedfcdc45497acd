//go:build linux

package shm_test

import (
	"cmp"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// The grader: go test -lab DIR grades the programs in DIR/01, DIR/03 and so
// on. testdata/README.md explains it to instructors.

var (
	labDir = flag.String("lab", "", "grade the submission in this `directory`, "+
		"which has programs such as 01/writer")
	labsDir = flag.String("labs", "", "grade each folder of this `directory` "+
		"as a submission")
	onlyLabs    = flag.String("only", "", "grade only these `labs`, such as 01,03")
	resultsFile = flag.String("results", "", "write the results to this `file`, in "+
		"the form that Gradescope reads; with -labs it is a directory")
	csvFile = flag.String("csv", "", "with -labs: write the marks to this `file`")
	bundle  = flag.String("bundle", "", "make this `directory`, which grades "+
		"on a machine without Go: DIR/labgrade -lab SUBMISSION")
	verbose = flag.Bool("v", false, "print everything that was printed")
)

// graderFlags are the flags that ask for the grader. Some, such as -only,
// have no meaning alone.
var graderFlags = []string{"lab", "labs", "only", "results", "csv", "bundle", "assignment", "variant"}

const (
	allPassed  = 0
	notAll     = 1
	graderFail = 2 // or wrong usage

	buildTime   = 5 * time.Minute
	stagedBytes = 256 << 20
	stagedFiles = 10_000
)

// grading tells whether the flags ask for the grader.
func grading() bool {
	return bundled != "" || slices.ContainsFunc(graderFlags, isSet)
}

// bundled is the directory of the bundle from which this program was started, or
// empty.
var bundled = func() string {
	self, err := os.Executable()
	if err != nil || filepath.Base(self) != "labgrade" {
		return ""
	}
	return filepath.Dir(self)
}()

// useGraderUsage replaces the long help of package testing if the flags are the
// grader's, or look like them. The error comes after the usage.
func useGraderUsage() {
	theirs := func(arg string) bool {
		name, isFlag := strings.CutPrefix(strings.Replace(arg, "--", "-", 1), "-")
		name, _, _ = strings.Cut(name, "=")
		return isFlag && slices.ContainsFunc(graderFlags, func(f string) bool {
			return strings.HasPrefix(name, f) || len(name) > 2 && strings.HasPrefix(f, name)
		})
	}
	if bundled == "" && !slices.ContainsFunc(os.Args[1:], theirs) {
		return
	}
	var wrong strings.Builder // the error, which package flag prints before the usage
	flag.CommandLine.SetOutput(&wrong)
	flag.Usage = func() {
		graderUsage()
		if text := strings.TrimSpace(wrong.String()); text != "" {
			fmt.Fprintln(os.Stderr, "grader:", text)
		}
	}
}

func graderUsage() {
	command := "go test"
	if bundled != "" {
		command = "labgrade"
	}
	fmt.Fprintf(os.Stderr, "usage: %[1]s -lab DIR [-only 01,03] [-v] [-results FILE] [-variant N]\n"+
		"       %[1]s -labs DIR [-csv FILE] [-results DIR] [-only 01,03] [-variant N]\n"+
		"       %[1]s -assignment [-only 03] [-variant N]\n", command)
}

// startedIn is the working directory before fromBundle, or empty.
var startedIn string

// fromBundle makes the paths of the flags absolute, and finds what the grader
// needs in the bundle.
func fromBundle() error {
	startedIn, _ = os.Getwd()
	for _, path := range []*string{labDir, labsDir, resultsFile, csvFile} {
		if *path != "" {
			absolute, err := filepath.Abs(*path)
			if err != nil {
				return err
			}
			*path = absolute
		}
	}
	built = filepath.Join(bundled, "programs")
	// When package os first starts a process, it tests the kernel with another
	// child. That child must not become process 1 of a sandbox.
	return errors.Join(os.Chdir(bundled), exec.Command("programs/lock-page").Run())
}

// makeBundle copies everything that the grader needs to a directory.
func makeBundle(dir string) error {
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s is not empty", dir)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	err := os.CopyFS(filepath.Join(dir, "programs"), os.DirFS(built))
	for _, l := range labs {
		err = errors.Join(err,
			os.CopyFS(filepath.Join(dir, "testdata", l.lesson, "lab"), os.DirFS(filepath.Join("testdata", l.lesson, "lab"))),
			os.MkdirAll(filepath.Join(dir, l.lesson), 0o755))
		page, e := os.ReadFile(filepath.Join(l.lesson, "ASSIGNMENT.md"))
		err = errors.Join(err, e, os.WriteFile(filepath.Join(dir, l.lesson, "ASSIGNMENT.md"), page, 0o644))
	}
	binary, e := os.ReadFile("/proc/self/exe")
	return errors.Join(err, e, os.WriteFile(filepath.Join(dir, "labgrade"), binary, 0o755))
}

// gradingContext is done when the grader gets a signal.
var gradingContext = context.Background()

// gradeMain is what TestMain does when it grades. It returns the exit status.
func gradeMain() int {
	wrong := func(err error) int {
		fmt.Fprintln(os.Stderr, "grader:", err)
		return graderFail
	}
	for _, dir := range []*string{labDir, labsDir, bundle} {
		if strings.HasPrefix(*dir, "-") {
			graderUsage()
			return wrong(fmt.Errorf("a directory is missing before %s", *dir))
		}
	}
	if flag.NArg() > 0 {
		graderUsage()
		return wrong(fmt.Errorf("stray argument %q", flag.Arg(0)))
	}
	chosen, err := chooseLabs(*onlyLabs)
	if err != nil {
		return wrong(err)
	}
	switch {
	case *assignment:
		if chosen == nil {
			chosen = labs
		}
		for _, l := range chosen {
			page, err := assignmentOf(l, *variant)
			if err != nil {
				return wrong(err)
			}
			fmt.Print(page)
		}
		return allPassed
	case *bundle != "":
		if err := makeBundle(*bundle); err != nil {
			return wrong(err)
		}
		return allPassed
	case *labDir == "" && *labsDir == "":
		graderUsage()
		return wrong(errors.New("-lab DIR is missing: the directory to grade"))
	}
	if *labDir != "" && *labsDir != "" || *csvFile != "" && *labsDir == "" {
		return wrong(errors.New("-lab grades one submission, -labs many; -csv is only for -labs"))
	}
	tmp, err := os.MkdirTemp("", "shm-by-example-grader-") // removed at the end
	if err != nil {
		return wrong(err)
	}
	defer os.RemoveAll(tmp)
	os.Chmod(tmp, 0o711)
	os.Setenv("TMPDIR", tmp)
	var stop func()
	gradingContext, stop = signal.NotifyContext(gradingContext, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	if *labsDir != "" { // after a signal it still writes the marks so far
		if err := gradeAll(*labsDir); err != nil {
			return wrong(err)
		}
		return allPassed
	}
	over := context.AfterFunc(gradingContext, func() {
		os.RemoveAll(tmp)
		if bundled == "" && os.Getenv(builtVariable) == "" {
			os.RemoveAll(built)
		}
		os.Exit(wrong(context.Cause(gradingContext)))
	})
	defer over() // runs before stop, which ends the context
	g, err := gradeOne(*labDir, chosen)
	if err != nil {
		return wrong(err)
	}
	g.print()
	if *resultsFile != "" {
		if err := g.writeJSON(*resultsFile); err != nil {
			return wrong(err)
		}
	}
	return g.status()
}

// chooseLabs are the labs of a list such as 01,03. An empty list is all.
func chooseLabs(list string) (chosen []*lab, err error) {
	for _, word := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' }) {
		i := slices.IndexFunc(labs, func(l *lab) bool { return l.number == word || l.lesson == word })
		if i < 0 {
			return nil, fmt.Errorf("-only %s: there are labs %s", word, labNumbers())
		}
		chosen = append(chosen, labs[i])
	}
	return chosen, nil
}

func labNumbers() string {
	var numbers []string
	for _, l := range labs {
		numbers = append(numbers, l.number)
	}
	return strings.Join(numbers, " ")
}

// A grade is the result of one submission.
type grade struct {
	dir      string
	verdicts []verdict
	message  string // why there are no verdicts
	took     time.Duration
}

// gradeOne grades a submission, in the labs that are chosen. If none are chosen,
// it grades those for which the submission has a folder.
func gradeOne(dir string, chosen []*lab) (*grade, error) {
	start := time.Now()
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is no directory", dir)
	}
	if err != nil {
		return nil, err
	}
	g := &grade{dir: dir}
	defer func() { g.took = time.Since(start) }()
	if chosen == nil {
		for _, l := range labs {
			if _, err := os.Stat(filepath.Join(dir, l.number)); err == nil {
				chosen = append(chosen, l)
			}
		}
	}
	if chosen == nil {
		g.message = fmt.Sprintf("nothing to grade: %s has no folder named %s", dir,
			strings.Join(strings.Fields(labNumbers()), ", "))
		return g, nil
	}
	if !slices.ContainsFunc(chosen, func(l *lab) bool { return isDir(filepath.Join(dir, l.number)) }) {
		g.message = fmt.Sprintf("there is no folder %s", chosen[0].number)
		for _, pattern := range []string{"*/", "*/*/"} {
			if found, _ := filepath.Glob(filepath.Join(dir, pattern+chosen[0].number)); len(found) > 0 {
				name, _ := filepath.Rel(dir, found[0])
				g.message += ", but " + name
				break
			}
		}
	}
	staged, err := os.MkdirTemp("", "shm-by-example-submission-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(staged)
	if err := stage(dir, staged); err != nil {
		g.message = err.Error()
		return g, nil
	}
	buildFailed, err := buildSubmission(staged)
	if err != nil {
		return nil, err
	}
	var scripts []*labScript
	subs := map[*lab]*submission{}
	for _, l := range chosen {
		more, err := readLab(l)
		if err != nil {
			return nil, err
		}
		scripts = append(scripts, more...)
		subs[l] = &submission{lab: l, dir: staged, absent: absent(staged, l, buildFailed), variant: *variant}
	}
	if buildFailed != "" {
		note(buildFailed)
	}
	g.verdicts = judgeAll(scripts, func(s *labScript) verdict { return subs[s.lab].judge(s) })
	if text := g.overloaded(); text != "" {
		note(text)
	}
	slices.SortStableFunc(g.verdicts, func(a, b verdict) int {
		return cmp.Or(cmp.Compare(a.script.lab.number, b.script.lab.number),
			cmp.Compare(slices.Index(tiers, a.script.tier), slices.Index(tiers, b.script.tier)),
			cmp.Compare(a.script.name, b.script.name))
	})
	return g, nil
}

// overloaded says how many checks have failed because something came too late, while
// the machine was overloaded. The program may be right.
func (g *grade) overloaded() string {
	n, load := 0, ""
	for _, v := range g.verdicts {
		if v.load != "" && (v.status == "failed" || v.status == "error") {
			n++
			load = cmp.Or(load, v.load)
		}
	}
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("the machine was overloaded (%s) when it was too late for %d checks: grade again", load, n)
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// judgeAll runs several scripts at a time, because they wait most of the time.
func judgeAll(scripts []*labScript, judge func(*labScript) verdict) []verdict {
	verdicts := make([]verdict, len(scripts))
	atOnce := make(chan bool, 8)
	if !haveWorlds {
		atOnce = make(chan bool, 1)
	}
	var all sync.WaitGroup
	var progress sync.Mutex
	done := 0
	for i, s := range scripts {
		atOnce <- true
		all.Go(func() {
			defer func() { <-atOnce }()
			verdicts[i] = judge(s)
			progress.Lock()
			defer progress.Unlock()
			done++
			sayProgress(done, len(scripts))
		})
	}
	all.Wait()
	return verdicts
}

// sayProgress shows at a terminal how many checks are done. The line is erased at
// the end.
func sayProgress(done, all int) {
	if _, err := unix.IoctlGetTermios(int(os.Stderr.Fd()), unix.TCGETS); err != nil || *labDir == "" {
		return
	}
	fmt.Fprintf(os.Stderr, "\r%d of %d checks done", done, all)
	if done == all {
		fmt.Fprint(os.Stderr, "\r\x1b[K")
	}
}

// stage copies a submission to a directory that only its own programs can see.
func stage(from, to string) error {
	files, bytes := 0, int64(0)
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if path == to { // the copy itself lies in the submission
			return fs.SkipDir
		}
		target := filepath.Join(to, name)
		if files++; files > stagedFiles {
			return fmt.Errorf("the submission has more than %d files", stagedFiles)
		}
		switch {
		case d.IsDir():
			err = os.MkdirAll(target, 0o755)
			return errors.Join(err, os.Chmod(target, 0o755))
		case d.Type()&fs.ModeSymlink != 0:
			link, err := os.Readlink(path)
			return errors.Join(err, os.Symlink(link, target))
		case !d.Type().IsRegular():
			return nil // a FIFO or a socket cannot be run
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if bytes += info.Size(); bytes > stagedBytes {
			return fmt.Errorf("the submission has more than %d MiB", stagedBytes>>20)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, text, info.Mode().Perm()&0o555|0o644)
	})
}

// buildSubmission runs the submission's own build, if it has one.
func buildSubmission(staged string) (failed string, err error) {
	if info, err := os.Lstat(filepath.Join(staged, "build")); err != nil || !info.Mode().IsRegular() {
		return "", nil
	}
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // so the namespaces end with this goroutine
		result <- func() error {
			dir, err := os.MkdirTemp("", "shm-by-example-build-")
			if err != nil {
				return err
			}
			defer os.RemoveAll(dir)
			if haveWorlds {
				if err := enterWorld(); err != nil {
					return err
				}
			}
			box, err := newSandbox(dir, staged, true)
			if err != nil {
				return err
			}
			defer box.end(untilTime)
			if haveWorlds { // a compiler needs more room than a program
				options := fmt.Sprintf("mode=1777,size=%d", sandboxBuild)
				if err := unix.Mount("tmp", dir, "tmpfs", unix.MS_REMOUNT|unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
					return err
				}
			}
			if box.uid != 0 {
				filepath.WalkDir(staged, func(path string, _ fs.DirEntry, _ error) error {
					return os.Lchown(path, box.uid, box.uid)
				})
			}
			p, err := box.start(nil, "", nil, "build")
			if why := startError(""); errors.As(err, &why) {
				failed = string(why)
				return nil
			} else if err != nil {
				return err
			}
			if !p.within(buildTime) {
				failed = fmt.Sprintf("build was still running after %v", buildTime)
			} else if p.status() != "0" {
				failed = fmt.Sprintf("build %s: %s", ending(p.status()),
					strings.TrimSpace(elide(p.stderr()+p.stdout())))
			}
			return nil
		}()
	}()
	return failed, <-result
}

// An absence says why a program cannot be run: what was seen, and what is likely.
type absence struct{ seen, likely string }

// absent says why programs of a lab cannot be run.
func absent(staged string, l *lab, buildFailed string) map[string]absence {
	why := map[string]absence{}
	for _, program := range l.programs {
		path := filepath.Join(staged, l.number, program)
		info, err := os.Lstat(path)
		switch {
		case err != nil:
			text := fmt.Sprintf("%s/%s is missing", l.number, program)
			if entries, err := os.ReadDir(filepath.Dir(path)); err != nil {
				text += fmt.Sprintf(": there is no folder %s", l.number)
			} else if len(entries) == 0 {
				text += fmt.Sprintf(": %s is empty", l.number)
			} else {
				var names []string
				for _, e := range entries[:min(len(entries), 8)] {
					names = append(names, e.Name())
				}
				text += fmt.Sprintf("; in %s there is %s", l.number, strings.Join(names, ", "))
			}
			likely := "the file has another name, or the program was not built"
			if buildFailed != "" {
				likely = "your build failed; see the note at the end"
			}
			why[program] = absence{text, likely}
		case info.IsDir():
			why[program] = absence{fmt.Sprintf("%s/%s is a folder, not a program", l.number, program),
				"a folder has the program's name; put the program itself there"}
		case info.Mode().IsRegular() && info.Mode()&0o111 == 0:
			why[program] = absence{fmt.Sprintf("%s/%s is not executable: chmod +x %[1]s/%[2]s", l.number, program),
				"the file may not be executed: chmod +x; an archive or a copy may have lost this permission"}
		}
	}
	return why
}

// score adds up the points of one tier, or of all, and the points that could be
// had.
func (g *grade) score(l *lab, tier string) (points, most float64) {
	for _, v := range g.verdicts {
		if (l == nil || v.script.lab == l) && (tier == "" || v.script.tier == tier) &&
			v.status != "skipped" && v.status != "error" {
			points += v.points
			most += v.script.points
		}
	}
	return points, most
}

func (g *grade) status() int {
	points, most := g.score(nil, "")
	for _, v := range g.verdicts {
		if v.status == "error" {
			return graderFail
		}
	}
	if g.message != "" || points < most {
		return notAll
	}
	return allPassed
}

func number(n float64) string { return strconv.FormatFloat(n, 'f', -1, 64) }

// feedback is what a student reads about one script.
func (v verdict) feedback() string {
	name := v.script.name + "  " + v.script.tier
	text := fmt.Sprintf("%s  %s of %s", name, number(v.points), number(v.script.points))
	switch v.status {
	case "passed":
		return text + "\n"
	case "skipped":
		return fmt.Sprintf("%s  skipped: %s\n", name, v.seen)
	case "error":
		return fmt.Sprintf("%s  not graded, because of a fault of the grader: %s\n", name, v.seen)
	}
	if v.absent { // print has said it once
		return text + "  (missing)\n"
	}
	return fmt.Sprintf("%s\n  seen:     %s\n  expected: %s\n  likely:   %s\n", text, v.seen, v.expected, v.likely)
}

func (g *grade) print() {
	if g.message != "" {
		fmt.Println(g.message)
	}
	for _, l := range labs {
		if _, most := g.score(l, ""); most == 0 && !slices.ContainsFunc(g.verdicts,
			func(v verdict) bool { return v.script.lab == l }) {
			continue
		}
		said := map[string]bool{}
		for _, v := range g.verdicts {
			if v.script.lab == l && v.absent && !said[v.seen] {
				said[v.seen] = true
				fmt.Printf("%s\n  likely:   %s\n", v.seen, v.likely)
			}
		}
		for _, v := range g.verdicts {
			if v.script.lab != l {
				continue
			}
			fmt.Print(v.feedback())
			if *verbose || testing.Verbose() {
				fmt.Println(indent(v.printed))
			}
		}
		var parts []string
		for _, tier := range tiers {
			points, most := g.score(l, tier)
			parts = append(parts, fmt.Sprintf("%s %s of %s", tier, number(points), number(most)))
		}
		points, most := g.score(l, "")
		fmt.Printf("lab %s: %s: %s of %s points\n\n", l.number, strings.Join(parts, ", "),
			number(points), number(most))
	}
	for _, text := range notes {
		fmt.Println("note:", text)
	}
}

func indent(text string) string {
	return "    " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n    ")
}

// results is the form that Gradescope reads. In addition it has the cause and the
// evidence for each script.
type results struct {
	Score    float64      `json:"score"`
	MaxScore float64      `json:"max_score"`
	Seconds  float64      `json:"execution_time"`
	Output   string       `json:"output,omitempty"`
	Errors   int          `json:"grader_errors"` // scripts that could not be graded
	Tests    []testResult `json:"tests"`
}

type testResult struct {
	Name       string            `json:"name"`
	Score      float64           `json:"score"`
	MaxScore   float64           `json:"max_score"`
	Status     string            `json:"status"`
	Output     string            `json:"output"`
	Visibility string            `json:"visibility"`
	Tags       []string          `json:"tags"`
	Extra      map[string]string `json:"extra_data"`
}

func (g *grade) writeJSON(file string) error {
	r := results{Output: g.message, Seconds: g.took.Round(time.Millisecond).Seconds(), Tests: []testResult{}}
	r.Score, r.MaxScore = g.score(nil, "")
	for _, text := range notes {
		r.Output = strings.TrimSpace(r.Output + "\n" + text)
	}
	for _, v := range g.verdicts {
		if v.status == "error" {
			r.Errors++
		} else if v.status == "skipped" { // a skipped check has not failed
			r.Output = strings.TrimSpace(r.Output + "\n" + strings.TrimSpace(v.feedback()))
			continue
		}
		t := testResult{Name: v.script.name, Score: v.points, MaxScore: v.script.points,
			Status: v.status, Output: v.feedback(), Visibility: "visible",
			Tags: []string{v.script.lab.number, v.script.tier}, Extra: map[string]string{
				"seen": v.seen, "expected": v.expected, "likely": v.likely,
				"evidence": v.printed}}
		if v.status != "passed" && v.status != "failed" {
			t.Status, t.MaxScore = "failed", 0 // Gradescope has no status "error"
		}
		r.Tests = append(r.Tests, t)
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}

// gradeAll grades each folder of a directory, in a process of its own. So no
// submission can disturb another.
func gradeAll(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var marks io.WriteCloser
	if *csvFile != "" { // try first: otherwise the marks of an hour could be lost
		if marks, err = os.Create(*csvFile); err != nil {
			return err
		}
		defer marks.Close()
	}
	work, err := os.MkdirTemp("", "shm-by-example-labs-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	if *resultsFile != "" {
		work = *resultsFile
		if err := os.MkdirAll(work, 0o755); err != nil {
			return err
		}
	}
	if *onlyLabs == "" { // the labs for which any submission has a folder
		var any []string
		for _, l := range labs {
			if found, _ := filepath.Glob(filepath.Join(dir, "*", l.number)); len(found) > 0 {
				any = append(any, l.number)
			}
		}
		*onlyLabs = strings.Join(any, ",")
	}
	type line struct {
		name   string
		result results
		err    error
	}
	var lines []*line
	atOnce := make(chan bool, max(2, runtime.NumCPU()))
	if !haveWorlds {
		atOnce = make(chan bool, 1)
	}
	var all sync.WaitGroup
	for _, e := range entries {
		if !isDir(filepath.Join(dir, e.Name())) || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		l := &line{name: e.Name()}
		lines = append(lines, l)
		atOnce <- true
		all.Go(func() {
			defer func() { <-atOnce }()
			if l.err = context.Cause(gradingContext); l.err != nil {
				return
			}
			l.result, l.err = gradeApart(filepath.Join(dir, e.Name()), filepath.Join(work, e.Name()+".json"))
			fmt.Fprintf(os.Stderr, "%s: %s of %s\n", l.name, number(l.result.Score), number(l.result.MaxScore))
		})
	}
	all.Wait()
	if len(lines) == 0 {
		return fmt.Errorf("%s has no folders", dir)
	}
	var numbers []string // of the labs of all submissions
	for _, l := range lines {
		for _, t := range l.result.Tests {
			if !slices.Contains(numbers, t.Tags[0]) {
				numbers = append(numbers, t.Tags[0])
			}
		}
	}
	slices.Sort(numbers)
	slices.SortFunc(lines, func(a, b *line) int { return cmp.Compare(a.name, b.name) })
	var failed error
	head := []string{"submission"}
	for _, n := range numbers {
		head = append(head, n)
		for _, tier := range tiers {
			head = append(head, n+" "+tier)
		}
	}
	rows := [][]string{append(head, "points", "of", "remark")}
	for _, l := range lines {
		row := []string{l.name}
		for _, n := range numbers {
			row = append(row, number(l.result.points(n, "")))
			for _, tier := range tiers {
				row = append(row, number(l.result.points(n, tier)))
			}
		}
		remark := strings.ReplaceAll(l.result.Output, "\n", "; ")
		if l.err != nil {
			remark = "not graded: " + l.err.Error()
		} else if l.result.Errors > 0 {
			l.err = fmt.Errorf("%d scripts could not be graded", l.result.Errors)
			remark = l.err.Error()
		}
		if l.err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", l.name, l.err))
		}
		rows = append(rows, append(row, number(l.result.Score), number(l.result.MaxScore), remark))
	}
	printTable(rows)
	if marks != nil {
		failed = errors.Join(failed, csv.NewWriter(marks).WriteAll(rows))
	}
	return failed
}

// points are those of a lab, in one of its tiers, or in all.
func (r results) points(lab, tier string) (points float64) {
	for _, t := range r.Tests {
		if t.Tags[0] == lab && (tier == "" || t.Tags[1] == tier) {
			points += t.Score
		}
	}
	return points
}

func printTable(rows [][]string) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	w.Flush()
}

// gradeApart grades a submission in another process.
func gradeApart(dir, file string) (r results, err error) {
	self, err := os.Executable()
	if err != nil {
		return r, err
	}
	args := []string{"-lab=" + dir, "-results=" + file, fmt.Sprintf("-variant=%d", *variant)}
	if *onlyLabs != "" {
		args = append(args, "-only="+*onlyLabs)
	}
	cmd := exec.CommandContext(gradingContext, self, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.Env = append(os.Environ(), builtVariable+"="+built, hideVariable+"="+filepath.Dir(dir))
	text, err := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); err != nil && code != notAll && code != graderFail {
		return r, fmt.Errorf("%w: %s", err, lastLine(string(text)))
	}
	content, e := os.ReadFile(file)
	if e != nil {
		return r, fmt.Errorf("%s", lastLine(string(text)))
	}
	return r, json.Unmarshal(content, &r)
}
