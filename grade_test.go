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
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

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
		return fmt.Errorf("%s is not empty: remove it, or name another directory", dir)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	err := os.CopyFS(filepath.Join(dir, "programs"), os.DirFS(built))
	for _, l := range labs {
		scripts := filepath.Join("testdata", l.lesson, "lab")
		err = errors.Join(err, os.CopyFS(filepath.Join(dir, scripts), os.DirFS(scripts)),
			os.RemoveAll(filepath.Join(dir, scripts, "wrong")), // they are nearly solutions
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
	verdicts []verdict
	notes    []string // on the whole submission, such as why there are no verdicts
	took     time.Duration
}

// gradeOne grades a submission, in the labs that are chosen. If none are chosen,
// it grades those for which the submission has a folder after its build.
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
	g := &grade{}
	defer func() { g.took = time.Since(start) }()
	staged, err := os.MkdirTemp("", "shm-by-example-submission-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(staged)
	if err := stage(dir, staged); err != nil {
		g.notes = append(g.notes, err.Error())
		return g, nil
	}
	buildFailed, err := buildSubmission(staged)
	if err != nil {
		return nil, err
	}
	if buildFailed != "" {
		g.notes = append(g.notes, buildFailed)
	}
	if chosen == nil {
		for _, l := range labs {
			if isDir(filepath.Join(staged, l.number)) {
				chosen = append(chosen, l)
			}
		}
	}
	if chosen == nil {
		g.notes = append(g.notes, fmt.Sprintf("nothing to grade: %s has no folder named %s%s", dir,
			strings.ReplaceAll(labNumbers(), " ", ", "), elsewhere(staged, labs...)))
		return g, nil
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
	g.verdicts = judgeAll(scripts, func(s *labScript) verdict { return subs[s.lab].judge(s) })
	if text := g.overloaded(); text != "" {
		g.notes = append(g.notes, text)
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

// elsewhere names a folder of a lab that lies deeper in the submission.
func elsewhere(staged string, labs ...*lab) string {
	for _, l := range labs {
		for _, deeper := range []string{"*", "*/*"} {
			if found, _ := filepath.Glob(filepath.Join(staged, deeper, l.number)); len(found) > 0 {
				name, _ := filepath.Rel(staged, found[0])
				return ", but " + name
			}
		}
	}
	return ""
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
	} else if ofWindows(filepath.Join(staged, "build")) {
		return "build cannot be started: " + windowsEnd, nil
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
				text := strings.TrimSpace(elide(readable(p.stderr() + p.stdout())))
				failed = fmt.Sprintf("build %s: %s", ending(p.status()), text)
				if why := cmp.Or(buildError.FindString(text), lastLine(text)); why != text {
					failed = fmt.Sprintf("build %s: %s\n%s", ending(p.status()), why, text)
				}
			}
			return nil
		}()
	}()
	return failed, <-result
}

// buildError is a line that says why a build has failed. Others may be warnings.
var buildError = regexp.MustCompile(`.*(\berror(\[\w+\])?:|undefined reference).*`)

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
				text += fmt.Sprintf(": there is no folder %s%s", l.number, elsewhere(staged, l))
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
				likely = "your build failed; the note on it says why"
			}
			why[program] = absence{text, likely}
		case info.IsDir():
			why[program] = absence{fmt.Sprintf("%s/%s is a folder, not a program", l.number, program),
				"a folder has the program's name; put the program itself there"}
		case info.Mode().IsRegular() && info.Mode()&0o111 == 0:
			why[program] = absence{fmt.Sprintf("%s/%s is not executable: chmod +x %[1]s/%[2]s", l.number, program),
				"the file may not be executed: chmod +x; an archive or a copy may have lost this permission"}
		case info.Mode().IsRegular() && ofWindows(path):
			why[program] = absence{fmt.Sprintf("%s/%s cannot be started: %s", l.number, program, windowsEnd),
				fmt.Sprintf("the file was written on Windows; give it line ends of Unix: sed -i 's/\\r$//' %s/%s", l.number, program)}
		}
	}
	return why
}

const windowsEnd = "its first line has a line end of Windows (CR LF)"

var windowsLine = regexp.MustCompile(`^#! *(\S*/env +)?\S+\r\n`)

// ofWindows tells whether a file is a script that names an interpreter with a CR at
// its end. Linux never finds it. After an argument some interpreters accept a CR.
func ofWindows(file string) bool {
	text, _ := os.ReadFile(file)
	return windowsLine.Match(text)
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
	if len(g.verdicts) == 0 || points < most {
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
	if v.absent { // absences says it once
		return text + "  (not started)\n"
	}
	return fmt.Sprintf("%s\n  seen:     %s\n  expected: %s\n  likely:   %s\n", text, v.seen, v.expected, v.likely)
}

// absences say, once for each program of a lab, or of all, why it cannot be run.
func (g *grade) absences(l *lab) (all []string) {
	for _, v := range g.verdicts {
		text := fmt.Sprintf("%s\n  likely:   %s", v.seen, v.likely)
		if v.absent && (l == nil || v.script.lab == l) && !slices.Contains(all, text) {
			all = append(all, text)
		}
	}
	return all
}

func (g *grade) print() {
	for _, l := range labs {
		if !slices.ContainsFunc(g.verdicts, func(v verdict) bool { return v.script.lab == l }) {
			continue
		}
		for _, text := range g.absences(l) {
			fmt.Println(text)
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
	for _, text := range slices.Concat(g.notes, notes) {
		fmt.Println("note:", text)
	}
}

// readable quotes and shortens lines with bytes that are no text.
func readable(text string) string {
	var b strings.Builder
	from, to := 0, 0 // such lines
	quote := func() {
		if binary, ended := strings.CutSuffix(text[from:to], "\n"); ended {
			b.WriteString(short(binary) + "\n")
		} else if binary != "" {
			b.WriteString(short(binary))
		}
	}
	special := func(r rune) bool { return r != '\n' && r != '\t' && !unicode.IsGraphic(r) }
	for line := range strings.Lines(text) {
		if utf8.ValidString(line) && !strings.ContainsFunc(line, special) {
			quote()
			b.WriteString(line)
			from = to + len(line)
		}
		to += len(line)
	}
	quote()
	return b.String()
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
	Extra    extra        `json:"extra_data"`
}

// extra is for the table of marks.
type extra struct {
	Remark     string `json:"remark"`
	Overloaded bool   `json:"overloaded"` // grade again
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
	r := results{Seconds: g.took.Round(time.Millisecond).Seconds(), Tests: []testResult{}}
	r.Score, r.MaxScore = g.score(nil, "")
	said := slices.Concat(g.notes, g.absences(nil))
	r.Output = strings.Join(append(said, notes...), "\n")
	for i, text := range said {
		said[i], _, _ = strings.Cut(text, "\n")
	}
	r.Extra = extra{strings.Join(said, "; "), g.overloaded() != ""}
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
	var lines []*line
	within := false // there are submissions
	for _, e := range entries {
		if path := filepath.Join(dir, e.Name()); isDir(path) && !strings.HasPrefix(e.Name(), ".") {
			lines = append(lines, &line{name: e.Name()})
			within = within || isSubmission(path)
		}
	}
	if isSubmission(dir) && !within {
		return fmt.Errorf("%s looks like one submission: use -lab", dir)
	} else if len(lines) == 0 {
		return fmt.Errorf("%s has no folders", dir)
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
	numbers := gradeLines(lines, dir, work)
	if *onlyLabs == "" { // a lab counts for all if any submission has a folder for it
		*onlyLabs = strings.Join(numbers, ",")
		gradeLines(slices.DeleteFunc(slices.Clone(lines), func(l *line) bool {
			return len(labsOf(l)) == len(numbers)
		}), dir, work)
	}
	head := []string{"submission"}
	for _, n := range numbers {
		head = append(head, n)
		for _, tier := range tiers {
			head = append(head, n+" "+tier)
		}
	}
	rows := [][]string{append(head, "points", "of", "remark")}
	failed, overloaded := context.Cause(gradingContext), 0
	for _, l := range lines {
		row := []string{l.name}
		for _, n := range numbers {
			row = append(row, number(l.result.points(n, "")))
			for _, tier := range tiers {
				row = append(row, number(l.result.points(n, tier)))
			}
		}
		row = append(row, number(l.result.Score), number(l.result.MaxScore), l.result.Extra.Remark)
		if l.result.Extra.Overloaded {
			overloaded++
		}
		if l.err != nil { // its points are not known
			for i := range row[1:] {
				row[1+i] = ""
			}
			row[len(row)-1] = "not graded: " + l.err.Error()
		} else if l.result.Errors > 0 {
			l.err = fmt.Errorf("%d scripts could not be graded", l.result.Errors)
			row[len(row)-1] = l.err.Error()
		}
		if l.err != nil && l.err != context.Cause(gradingContext) {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", l.name, l.err))
		}
		rows = append(rows, row)
	}
	printTable(rows)
	if overloaded > 0 {
		fmt.Printf("%d of %d submissions have a remark that the machine was overloaded\n", overloaded, len(lines))
	}
	if marks != nil {
		failed = errors.Join(failed, csv.NewWriter(marks).WriteAll(rows))
	}
	return failed
}

// isSubmission tells whether a directory has a folder of a lab, or a build.
func isSubmission(dir string) bool {
	info, err := os.Stat(filepath.Join(dir, "build"))
	return err == nil && info.Mode().IsRegular() ||
		slices.ContainsFunc(labs, func(l *lab) bool { return isDir(filepath.Join(dir, l.number)) })
}

// A line of the table of marks is that of one submission.
type line struct {
	name   string
	result results
	err    error // why it was not graded
}

// gradeLines grades some submissions, several at a time. It returns the labs of all.
func gradeLines(lines []*line, dir, work string) (numbers []string) {
	atOnce := make(chan bool, max(2, runtime.NumCPU()))
	if !haveWorlds {
		atOnce = make(chan bool, 1)
	}
	var all sync.WaitGroup
	for _, l := range lines {
		atOnce <- true
		all.Go(func() {
			defer func() { <-atOnce }()
			l.result, l.err = gradeApart(filepath.Join(dir, l.name), filepath.Join(work, l.name))
			if len(l.result.Tests) > 0 {
				fmt.Fprintf(os.Stderr, "%s: %s of %s\n", l.name, number(l.result.Score), number(l.result.MaxScore))
			}
		})
	}
	all.Wait()
	return labsOf(lines...)
}

// labsOf are the labs in which any of these submissions was graded.
func labsOf(lines ...*line) (numbers []string) {
	for _, l := range lines {
		for _, t := range l.result.Tests {
			numbers = append(numbers, t.Tags[0])
		}
	}
	slices.Sort(numbers)
	return slices.Compact(numbers)
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

// gradeApart grades a submission in another process. It writes the results to
// file.json, and what it prints to file.txt.
func gradeApart(dir, file string) (r results, err error) {
	if err := context.Cause(gradingContext); err != nil {
		return r, err
	}
	self, err := os.Executable()
	if err != nil {
		return r, err
	}
	os.Remove(file + ".json") // of an earlier time
	args := []string{"-lab=" + dir, "-results=" + file + ".json", fmt.Sprintf("-variant=%d", *variant)}
	if *onlyLabs != "" {
		args = append(args, "-only="+*onlyLabs)
	}
	cmd := exec.CommandContext(gradingContext, self, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C reaches this process first
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.Env = append(os.Environ(), builtVariable+"="+built, hideVariable+"="+filepath.Dir(dir))
	text, err := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); err != nil && code != notAll && code != graderFail {
		err = fmt.Errorf("%w: %s", err, lastLine(string(text)))
	} else if content, e := os.ReadFile(file + ".json"); e != nil { // it says why
		err = errors.New(lastLine(string(text)))
	} else {
		err = json.Unmarshal(content, &r)
	}
	if err = errors.Join(err, os.WriteFile(file+".txt", text, 0o644)); err != nil {
		err = cmp.Or(context.Cause(gradingContext), err)
	}
	return r, err
}
