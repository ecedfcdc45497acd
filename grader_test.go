//go:build linux

package shm_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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
				if script.tier != "basic" || script.limit > 30*time.Second {
					needWorlds(t) // without worlds all scripts together take minutes
				}
				v := make(chan verdict)
				go func() { v <- sub.judge(script) }()
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

// TestGraderNoStart grades programs that end at once with an error. They get no
// points, whatever a check is about, and the cause of a mistake in the language is
// that mistake.
func TestGraderNoStart(t *testing.T) {
	needWorlds(t)
	t.Parallel()
	const text = "#!/bin/sh\necho 'SyntaxError: invalid syntax' >&2\nexit 1\n"
	for _, l := range labs {
		a := &txtar.Archive{}
		for _, program := range l.programs {
			a.Files = append(a.Files, txtar.File{Name: l.number + "/" + program, Data: []byte(text)})
		}
		sub := &submission{lab: l, dir: unpack(t, a)}
		scripts, err := readLab(l)
		if err != nil {
			t.Fatal(err)
		}
		for _, script := range scripts {
			script.limit, script.alone = min(script.limit, 10*time.Second), 20 // ours would wait for a minute
			t.Run(script.name, func(t *testing.T) {
				t.Parallel()
				v := make(chan verdict)
				go func() { v <- sub.judge(script) }()
				switch v := <-v; {
				case v.status == "skipped":
					t.Skip(v.seen)
				case v.status != "failed" || !strings.HasPrefix(v.likely, "a mistake in the language"):
					t.Errorf("%s%s", v.feedback(), v.printed)
				}
			})
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

// TestWrong proves that the grader notices mistakes of students, and names the
// cause. Each file in a folder lab/wrong is a submission with one bug, or a
// change to a program of ours. It says which script, or scripts, must fail, and
// what is likely. Without -run or -long the test uses one file of each lab.
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
				fields := wrongFields(a)
				if fields["bug"] == "" || fields["script"] == "" || fields["likely"] == "" {
					t.Fatalf("%s: want bug, script and likely", file)
				}
				if matchesAnything(regexp.MustCompile(fields["likely"])) {
					t.Fatalf("%s: likely matches anything", file)
				}
				sub := &submission{lab: l}
				if a.Files[0].Name == "old" {
					sub.changed = buildWrong(t, l, a, fields)
				} else {
					sub.dir = unpack(t, a)
					sub.absent = absent(sub.dir, l, "")
				}
				for _, script := range strings.Fields(fields["script"]) {
					t.Run(script, func(t *testing.T) {
						t.Parallel()
						v := sub.judge(findScript(t, l, script))
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
			})
		}
	}
}

// wrongFields are the lines at the beginning of an archive of lab/wrong.
func wrongFields(a *txtar.Archive) map[string]string {
	fields := map[string]string{}
	for _, m := range wrongHeader.FindAllStringSubmatch(string(a.Comment), -1) {
		fields[m[1]] = m[2]
	}
	return fields
}

// buildWrong builds programs of ours with the change of an archive.
func buildWrong(t *testing.T, l *lab, a *txtar.Archive, fields map[string]string) (dir string) {
	b := broken{what: fields["bug"], file: fields["file"], program: fields["program"],
		old: strings.TrimSuffix(string(a.Files[0].Data), "\n"),
		new: strings.TrimSuffix(string(a.Files[1].Data), "\n")}
	return b.build(t, l.lesson)
}

// unpack makes a submission from an archive, and builds it.
func unpack(t *testing.T, a *txtar.Archive) (dir string) {
	dir = write(t, a)
	failed, err := buildSubmission(dir)
	if err != nil || failed != "" {
		t.Fatal(err, failed)
	}
	return dir
}

// write makes the files of an archive. Scripts are executable.
func write(t *testing.T, a *txtar.Archive) (dir string) {
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
	return dir
}

// TestSandbox runs programs that do what they should not. Each gets a verdict in
// time, harms no other program, and leaves nothing.
func TestSandbox(t *testing.T) {
	needWorlds(t)
	t.Parallel()
	const limit, grace = 3 * time.Second, 20 * time.Second // an idle machine needs 5 s of grace
	finished := "start w writer\nfinish w 0\n! see stdout w .\n"
	withPeer := "start the-peer peer\ntell the-peer make 1 1\nstart w writer\nfinish w 0\ntell the-peer remove 1\n"
	for name, c := range map[string]struct{ writer, script, seen string }{
		"fine":                {"#!/bin/sh\nexit 0\n", finished, ""},
		"hangs":               {"#!/bin/sh\nexec tail -f /dev/null\n", finished, "still running"},
		"forks":               {"#!/bin/sh\nwhile :; do tail -f /dev/null & done\n", finished, "has started [0-9]+ processes.*starts processes without end"},
		"forks-and-ends":      {"#!/bin/sh\ni=0; while [ $i -lt 400 ]; do i=$((i+1)); tail -f /dev/null & done\nexit 0\n", withPeer, "starts processes without end"},
		"floods":              {"#!/bin/sh\nexec yes\n", finished, "still running"},
		"daemon":              {"#!/bin/sh\ntail -f /dev/null &\nexit 0\n", finished, ""},
		"kills":               {"#!/bin/sh\nkill -9 $PPID\nkill -9 1\nexit 0\n", finished, "SIGKILL"}, // $PPID is 0, so it kills its own process group
		"kills-all":           {"#!/bin/sh\nkill -9 -1\nexit 0\n", finished, ""},
		"kills-peer":          {"#!/bin/sh\nkill -9 -1\nexit 0\n", withPeer, "the grader's peer was ended by SIGKILL.*kills processes"},
		"kills-idle-peer":     {"#!/bin/sh\nkill -9 -1\nexit 0\n", "start the-peer peer\n" + finished, "the grader's peer was ended by SIGKILL"},
		"crashes":             {"#!/bin/sh\nkill -SEGV $$\n", finished, "SIGSEGV"},
		"large-file":          {"#!/bin/sh\nyes > f\n", finished, "ended|SIG"},
		"writes-outside":      {"#!/bin/sh\nfor d in / /etc /usr /var/tmp /root $HERE; do (echo > $d/x-$$) 2>/dev/null && echo $d; done\nexit 0\n", finished, ""},
		"writes-program":      {"#!/bin/sh\n(echo > $0) 2>/dev/null && echo yes\nexit 0\n", finished, ""},
		"looks-around":        {"#!/bin/sh\nfor f in HERE/* BUILT/*; do [ -e $f ] && echo $f; done\nexit 0\n", finished, ""},
		"network":             {"#!/bin/sh\ngrep : /proc/net/dev | grep -v lo:\nexit 0\n", finished, ""},
		"processes":           {"#!/bin/sh\nfor p in /proc/[0-9]*; do case ${p#/proc/} in 1|$$) ;; *) echo $p;; esac; done\nexit 0\n", finished, ""},
		"no-interpreter":      {"echo\n", finished, "needs an interpreter line"},
		"no-such-interpreter": {"#!/no/such\n", finished, "the interpreter that writer names"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			here, err := os.Getwd()
			if err != nil {
				t.Fatal(err)
			}
			dir, file := t.TempDir(), filepath.Join(t.TempDir(), "x.txtar")
			text := strings.NewReplacer("HERE", here, "BUILT", built).Replace(c.writer)
			os.Mkdir(filepath.Join(dir, "01"), 0o755)
			os.Chmod(dir, 0o755)
			patience := limit
			if strings.HasPrefix(name, "forks") { // until it has started enough processes
				patience = scriptTime
			}
			header := fmt.Sprintf("# points: 1\n# tier: basic\n# limit: %v\n\n# Fine.\nlikely x\n", patience)
			if err := errors.Join(os.WriteFile(filepath.Join(dir, "01/writer"), []byte(text), 0o755),
				os.WriteFile(file, []byte(header+c.script), 0o644)); err != nil {
				t.Fatal(err)
			}
			script, err := readLabScript(labs[0], file)
			if err != nil {
				t.Fatal(err)
			}
			v := (&submission{lab: labs[0], dir: dir}).judge(script)
			switch {
			case v.took > patience+grace:
				t.Errorf("took %v\n%s%s", v.took, v.feedback(), v.printed)
			case c.seen == "" && v.status != "passed",
				c.seen != "" && (v.status != "failed" || !regexp.MustCompile(c.seen).MatchString(v.seen+"; "+v.likely)):
				t.Errorf("%s%s", v.feedback(), v.printed)
			}
			if len(v.printed) > 2*outputKept {
				t.Errorf("%d bytes were kept", len(v.printed))
			}
			if v.sandbox == "" {
				t.Fatal("it was not run in a sandbox")
			}
			environments, _ := filepath.Glob("/proc/[0-9]*/environ")
			for _, file := range environments {
				if text, _ := os.ReadFile(file); strings.Contains(string(text), v.sandbox) {
					t.Errorf("a process is left: %s", file)
				}
			}
			if _, err := os.Stat(v.sandbox); err == nil {
				t.Errorf("%s is left", v.sandbox)
			}
		})
	}
}

// TestStuck lets a script hang. The script is ended, and it is the grader's fault.
func TestStuck(t *testing.T) {
	needWorlds(t)
	t.Parallel()
	file := filepath.Join(t.TempDir(), "x.txtar")
	text := "# points: 1\n# tier: basic\n# limit: 1s\n\n# Fine.\nexec tail -f /dev/null\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	script, err := readLabScript(labs[0], file)
	if err != nil {
		t.Fatal(err)
	}
	script.hung = 100 * time.Millisecond
	if v := (&submission{lab: labs[0]}).judge(script); v.status != "error" || !strings.Contains(v.seen, "hung") {
		t.Errorf("%s%s", v.feedback(), v.printed)
	}
}

// TestSlowEnd lets processes take too long to end, as on an overloaded machine. A
// script that has failed is judged, and only one that has not is the grader's fault.
func TestSlowEnd(t *testing.T) {
	needWorlds(t)
	t.Parallel()
	for command, result := range map[string][2]string{
		"finish w 0":         {"failed", "it hangs: it does not end; or the size is wrong"},
		"await status w 0":   {"failed", "the size is wrong; or it hangs"},
		"! await status w 0": {"error"},
	} {
		want, hint := result[0], result[1]
		dir := unpack(t, txtar.Parse([]byte("-- 01/writer --\n#!/bin/sh\nexec tail -f /dev/null\n")))
		file := filepath.Join(t.TempDir(), "x.txtar")
		text := "# points: 1\n# tier: basic\n# limit: 1s\n\n# Fine.\nlikely 'the size is wrong'\nstart w writer\n" + command + "\n"
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		script, err := readLabScript(labs[0], file)
		if err != nil {
			t.Fatal(err)
		}
		script.ending = -1
		var v verdict
		for range 10 { // perhaps the sandbox has ended before the first look at it
			if v = (&submission{lab: labs[0], dir: dir}).judge(script); v.status == want {
				break
			}
		}
		if v.status != want || want == "failed" && !strings.HasPrefix(v.likely, hint) {
			t.Errorf("%s: %s\n%s%s", command, v.status, v.feedback(), v.printed)
		}
	}
}

// TestBombs starts a submission that forks without end no more after some scripts.
func TestBombs(t *testing.T) {
	needWorlds(t)
	t.Parallel()
	dir := unpack(t, txtar.Parse([]byte("-- 06/offsets --\n#!/bin/sh\nwhile :; do tail -f /dev/null & done\n")))
	sub := &submission{lab: labs[4], dir: dir}
	script := findScript(t, labs[4], "output")
	script.limit = scriptTime // a busy machine takes long to start so many
	for n := range mostBombs + 2 {
		v := make(chan verdict)
		go func() { v <- sub.judge(script) }()
		got := <-v
		if started := !strings.Contains(got.seen, "not started"); started != (n < mostBombs) ||
			got.status != "failed" || got.likely != withoutEnd {
			t.Errorf("after %d scripts: %s", n, got.feedback())
		}
	}
}

// TestOverload shows when the load of a machine is too large to grade.
func TestOverload(t *testing.T) {
	for _, c := range []struct {
		load       float64
		processors int
		want       string
	}{{0.5, 1, ""}, {16, 2, ""}, {17, 2, "load 17 on 2 CPUs"}, {200, 64, ""}, {995.4, 2, "load 995 on 2 CPUs"}} {
		if got := overload(c.load, c.processors); got != c.want {
			t.Errorf("overload(%v, %d) = %q, want %q", c.load, c.processors, got, c.want)
		}
	}
	g := &grade{verdicts: []verdict{{status: "passed", load: "no"}, {status: "failed", load: "load 20 on 2 CPUs"},
		{status: "error", load: "load 30 on 2 CPUs"}, {status: "failed"}}}
	if got, want := g.overloaded(), "the machine was overloaded (load 20 on 2 CPUs) when it was too late for 2 checks: grade again"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestShort shows how a long text is quoted: a block that is half old and half new
// must not look like a whole one.
func TestShort(t *testing.T) {
	times := strings.Repeat
	for text, want := range map[string]string{
		"":                                    `""`,
		times("a", 60):                        `"` + times("a", 60) + `"`,
		`"` + times("B", 1023) + `"`:          `'"', 1023 times 'B', '"' (1025 bytes)`,
		`"` + times("B", 512) + times("A", 9): `'"', 512 times 'B', 9 times 'A' (522 bytes)`,
		times("A", 60) + "BC\n":               `60 times 'A', "BC\n" (63 bytes)`,
		times("AB", 40):                       `"` + times("AB", 20) + `"… (80 bytes)`,
		times("AAAAABBBBB", 9):                `"` + times("AAAAABBBBB", 4) + `"… (90 bytes)`,
		times("\xff", 70):                     `"` + times(`\xff`, 40) + `"… (70 bytes)`,
	} {
		if got := short(text); got != want {
			t.Errorf("short(%q) = %s, want %s", text, got, want)
		}
	}
}

// TestAbsent shows what is said of programs that cannot be started.
func TestAbsent(t *testing.T) {
	for name, c := range map[string]struct {
		make func(dir string) error
		want string
	}{
		"nothing":        {func(dir string) error { return nil }, "writer is missing: there is no folder 01"},
		"empty":          {func(dir string) error { return os.Mkdir(dir+"/01", 0o755) }, "01 is empty"},
		"folder":         {func(dir string) error { return os.MkdirAll(dir+"/01/writer", 0o755) }, "is a folder"},
		"not-executable": {func(dir string) error { os.Mkdir(dir+"/01", 0o755); return os.WriteFile(dir+"/01/writer", nil, 0o644) }, "chmod [+]x 01/writer"},
		"elsewhere":      {func(dir string) error { return os.MkdirAll(dir+"/me/01", 0o755) }, "there is no folder 01, but me/01"},
		"windows": {func(dir string) error {
			os.Mkdir(dir+"/01", 0o755)
			return os.WriteFile(dir+"/01/writer", []byte("#!/usr/bin/env python3\r\n"), 0o755)
		}, `CR LF`},
		"other-name": {func(dir string) error {
			os.Mkdir(dir+"/01", 0o755)
			return os.WriteFile(dir+"/01/Writer.py", nil, 0o755)
		}, "there is Writer.py"},
	} {
		dir := t.TempDir()
		if err := c.make(dir); err != nil {
			t.Fatal(err)
		}
		if got := absent(dir, labs[0], "")["writer"].seen; !regexp.MustCompile(c.want).MatchString(got) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		likely := absent(dir, labs[0], "")["writer"].likely
		if (name == "not-executable") != strings.Contains(likely, "may not be executed") || likely == "" {
			t.Errorf("%s: likely %q", name, likely)
		}
	}
}

// TestGraderStatus shows how the grader ends, as another process: with 1 if
// not all points are reached, and with 2 if it could not grade.
func TestGraderStatus(t *testing.T) {
	needWorlds(t)
	t.Parallel()
	empty, one := t.TempDir(), write(t, txtar.Parse([]byte("-- 06/Offsets --\n-- build --\n")))
	built := write(t, txtar.Parse([]byte("-- build --\n#!/bin/sh\nmkdir 06\n")))
	table := filepath.Join(t.TempDir(), "marks.csv")
	for range 10 { // the end of its own context must not look like a signal
		for args, want := range map[string]struct {
			status int
			text   string
		}{
			"-lab=" + empty:                      {notAll, "nothing to grade"},
			"-lab=" + built:                      {notAll, "06 is empty"},
			"-lab=" + empty + "/not-there":       {graderFail, "no such file or directory"},
			"-labs=" + empty:                     {graderFail, "has no folders"},
			"-labs=" + one + " -csv=" + table:    {graderFail, "looks like one submission: use -lab"},
			"-bundle=" + one:                     {graderFail, "is not empty: remove it"},
			"-assignment -only=06 -variant=-1":   {graderFail, "want a number from 0"},
			"-assignment -only=06 -variant=nine": {graderFail, "want a number from 0"},
			"-assignment -only=06 -variant=9":    {allPassed, "(variant 9)"},
		} {
			if got, text := grader(strings.Fields(args)...); got != want.status || !strings.Contains(text, want.text) {
				t.Fatalf("%s: status %d, want %d:\n%s", args, got, want.status, text)
			}
		}
	}
	if _, err := os.Stat(table); err == nil {
		t.Error("there is a table of one submission")
	}
}

// grader runs the grader as another process.
func grader(args ...string) (status int, text string) {
	cmd := graderCommand(args...)
	output, _ := cmd.CombinedOutput()
	return cmd.ProcessState.ExitCode(), string(output)
}

func graderCommand(args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), builtVariable+"="+built)
	return cmd
}

// TestGraderTable shows the table of marks: a line for each submission, with the
// points of each tier, the same sum that could be had, and what a student must
// correct first.
func TestGraderTable(t *testing.T) {
	needWorlds(t)
	t.Parallel()
	a := txtar.Parse([]byte(`
-- fails/06/offsets --
#!/bin/sh
echo no >&2; exit 1
-- ours/build --
#!/bin/sh
mkdir 06 && cp ours 06/offsets && chmod +x 06/offsets
-- bad-build/build --
#!/bin/sh
echo 'x.c:1: warning: many'; echo 'x.c:2: error: no'; echo 'x.c:3: warning: more'; exit 1
-- mode/06/offsets --
-- misplaced/me/06/offsets --
`))
	ours, err := os.ReadFile(filepath.Join(built, "06-offsets/06-offsets"))
	if err != nil {
		t.Fatal(err)
	}
	a.Files = append(a.Files, txtar.File{Name: "ours/ours", Data: ours})
	points, err := variantPoints(labs[4])
	if err != nil {
		t.Fatal(err)
	}
	const variant, missing = 12, "06/offsets is missing: there is no folder 06"
	dir, results := write(t, a), t.TempDir()
	table := filepath.Join(results, "marks.csv")
	status, printed := grader("-labs="+dir, "-csv="+table, "-results="+results, fmt.Sprintf("-variant=%d", variant))
	if status != allPassed {
		t.Fatalf("status %d\n%s", status, printed)
	}
	text, err := os.ReadFile(table)
	if err != nil {
		t.Fatal(err)
	}
	want := regexp.MustCompile(fmt.Sprintf(`^submission,06,06 basic,06 interop,06 robust,points,of,remark
bad-build,0,0,0,0,0,(\d+),build ended with exit status 1: x.c:2: error: no; %s
fails,\d+,0,0,\d+,\d+,(\d+),(?:(?:the machine|programs) .*)?
misplaced,0,0,0,0,0,(\d+),"%[1]s, but me/06"
mode,0,0,0,0,0,(\d+),06/offsets is not executable: chmod \+x 06/offsets
ours,([1-9]\d*),(\d+),(\d+),(\d+),(\d+),(\d+),(?:(?:the machine|programs) .*)?
$`, missing)).FindStringSubmatch(string(text))
	if want == nil {
		t.Fatalf("the table is\n%s", text)
	}
	var n [11]int
	for i := range n[1:] {
		n[i+1], _ = strconv.Atoi(want[i+1])
	}
	of := []string{want[1], want[2], want[3], want[4], want[10]}
	if canAsk() {
		of = append(of, number(points["basic"]+points["interop"]+points["robust"]))
	}
	if n[5] != n[6]+n[7]+n[8] || n[5] != n[9] || len(slices.Compact(of)) != 1 {
		t.Errorf("the sums are wrong, or not all can get the points of the variant:\n%s", text)
	}
	for file, want := range map[string]string{
		"mode.json":     `"output": "06/offsets is not executable: chmod +x 06/offsets\n`,
		"mode.txt":      "06/offsets is not executable: chmod +x 06/offsets\n",
		"bad-build.txt": "x.c:3: warning: more",
		"fails.txt":     "lab 06: basic 0 of",
	} {
		if text, _ := os.ReadFile(filepath.Join(results, file)); !strings.Contains(string(text), want) {
			t.Errorf("%s does not say %q:\n%s", file, want, text)
		}
	}
}

// TestGraderInterrupted presses Ctrl-C while one submission is graded, and another
// has its marks. A submission that was not graded has no marks.
func TestGraderInterrupted(t *testing.T) {
	needWorlds(t)
	t.Parallel()
	dir := write(t, txtar.Parse([]byte("-- hangs/build --\n#!/bin/sh\n: > started\nexec tail -f /dev/null\n-- none/06/x --\n")))
	tmp, table := t.TempDir(), filepath.Join(t.TempDir(), "marks.csv")
	cmd := graderCommand("-labs="+dir, "-only=06", "-csv="+table)
	cmd.Env = append(cmd.Env, "TMPDIR="+tmp)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p, err := startCaptured(cmd)
	if err != nil {
		t.Fatal(err)
	}
	ready := eventually(scriptTime, func() bool {
		started, _ := filepath.Glob(tmp + "/*/*/*/started")
		return len(started) > 0 && strings.Contains(p.stderr(), "none: 0 of 100") || p.within(0)
	})
	unix.Kill(-cmd.Process.Pid, unix.SIGINT)
	if !ready || !p.within(scriptTime) || p.status() != "2" || lastLine(p.stderr()) != "grader: interrupt signal received" {
		t.Errorf("status %s\n%s%s", p.status(), p.stdout(), p.stderr())
	}
	want := "hangs,,,,,,,not graded: interrupt signal received\nnone,0,0,0,0,0,100,06/offsets is missing; in 06 there is x\n"
	if text, _ := os.ReadFile(table); !strings.HasSuffix(string(text), want) {
		t.Errorf("the table is\n%s\nnot\n%s", text, want)
	}
}

// TestReadable shows what a terminal gets of a program's output.
func TestReadable(t *testing.T) {
	for text, want := range map[string]string{
		"":                             "",
		"one\n\ttwo é ‘x’\n":           "one\n\ttwo é ‘x’\n",
		"a\n\x1b[31mred\nb":            "a\n\"\\x1b[31mred\"\nb",
		"a\r\n":                        "\"a\\r\"\n",
		"\xff":                         `"\xff"`,
		strings.Repeat("\x00\n", 9999): `"` + strings.Repeat(`\x00\n`, 20) + "\"… (19997 bytes)\n",
	} {
		if got := readable(text); got != want {
			t.Errorf("readable(%.20q) = %.99q, want %q", text, got, want)
		}
	}
}

// TestWillEnd shows which processes are not on the way to their end: one that runs,
// one that has ended, and a zombie.
func TestWillEnd(t *testing.T) {
	cmd := exec.Command("sleep", "1000") // SIGKILL stays in the ShdPnd of a zombie
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	cmd.Process.Kill()
	var info unix.Siginfo // a zombie from now on: it is not waited for
	if err := unix.Waitid(unix.P_PID, cmd.Process.Pid, &info, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	for what, pid := range map[string]int{"this process": os.Getpid(), "a zombie": cmd.Process.Pid, "no process": 1 << 22} {
		if willEnd(pid) {
			t.Errorf("%s (%d) is on the way to its end", what, pid)
		}
	}
}
