//go:build linux

package shm_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestREADMEs runs every console block of every README as it is written, in a
// copy of the sources, and compares what the README says is printed. See
// testdata/README.md for the notation.
func TestREADMEs(t *testing.T) {
	t.Parallel()
	for _, file := range readmes() {
		t.Run(file, func(t *testing.T) {
			if file != "README.md" {
				needWorlds(t)
			}
			testInWorld(t, func(*world) {
				if err := runREADME(t, file); err != nil {
					t.Errorf("%s:%v", file, err)
				}
			})
		})
	}
}

// runREADME runs the blocks of a README, one after the other.
func runREADME(t *testing.T, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	blocks, err := parseREADME(string(text))
	if err != nil {
		return err
	}
	dir, err := copyTree(t)
	if err != nil {
		return err
	}
	if err := buildAhead(dir, string(text)); err != nil {
		return err
	}
	for _, b := range blocks {
		if need := b.missing(); need != "" {
			t.Logf("line %d: not run: there is no %s here", b.line, need)
		} else if err := b.run(dir); err != nil {
			return err
		}
	}
	return nil
}

// copyTree makes a copy of the sources, in which a README may build. In a world
// the copy is mounted over the sources, so that go build finds in its cache what
// it has built before.
func copyTree(t *testing.T) (dir string, err error) {
	copied, err := filepath.EvalSymlinks(t.TempDir())
	for _, file := range sources(t) {
		text, e := os.ReadFile(file)
		to := filepath.Join(copied, file)
		err = errors.Join(err, e, os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, text, 0o644))
	}
	if err != nil || !haveWorlds {
		return copied, err
	}
	dir, err = os.Getwd()
	return dir, errors.Join(err, unix.Mount(copied, dir, "", unix.MS_BIND, ""))
}

// sources lists the files of the repository, apart from what is built.
func sources(t *testing.T) (files []string) {
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (path == ".git" || path == "bin") {
			return filepath.SkipDir
		}
		if d.Type().IsRegular() {
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

var (
	goRun   = regexp.MustCompile(`go run (\./[\w./-]+)`)
	goBuild = regexp.MustCompile(`go build -o bin/(\d\d)/`)
)

// buildAhead builds what a README will build. Otherwise two programs that "go run"
// must still link may start seconds apart on a busy machine. Programs for "go
// build" are copied from those of the scripts, and go build sees that they are up
// to date.
func buildAhead(dir, text string) error {
	for _, m := range goBuild.FindAllStringSubmatch(text, -1) {
		lesson, err := filepath.Glob(filepath.Join(built, m[1]+"-*"))
		bin := filepath.Join(dir, "bin", m[1])
		if _, e := os.Stat(bin); e == nil || err != nil || len(lesson) != 1 {
			continue
		}
		if err := os.CopyFS(bin, os.DirFS(lesson[0])); err != nil {
			return err
		}
	}
	for _, m := range goRun.FindAllStringSubmatch(text, -1) {
		cmd := exec.Command("go", "run", m[1], "-h")
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); !strings.Contains(string(out), "Usage") {
			return fmt.Errorf("%v: %v\n%s", cmd, err, out)
		}
	}
	return nil
}

// A block is a console block: what is typed at one or more terminals, and
// what appears there.
type block struct {
	line      int // where it begins in the README
	unordered bool
	needs     []string // programs without which it is not run
	steps     []*step
}

// A step is a prompt line and what follows it.
type step struct {
	line     int
	terminal int
	input    string // a command, or ^C, ^D or ↵, or nothing, to look once more
	output   []string
}

var (
	fence  = regexp.MustCompile("^```(\\w*) ?(.*)$")
	prompt = regexp.MustCompile(`^([1-9]?)\$(?: (.*))?$`)
)

func parseREADME(text string) (blocks []*block, err error) {
	var in *block
	other := false // in a block that is not marked console
	for i, line := range strings.Split(text, "\n") {
		m := fence.FindStringSubmatch(line)
		switch {
		case m != nil && (in != nil || other):
			in, other = nil, false
		case m != nil && m[1] == "console":
			in = &block{line: i + 1}
			blocks = append(blocks, in)
			for word := range strings.FieldsSeq(m[2]) {
				if need, ok := strings.CutPrefix(word, "needs="); ok {
					in.needs = append(in.needs, need)
				} else if word == "unordered" {
					in.unordered = true
				} else {
					return nil, fmt.Errorf("%d: console %s?", i+1, word)
				}
			}
		case m != nil:
			other = true
		case in == nil:
		case prompt.MatchString(line):
			p := prompt.FindStringSubmatch(line)
			n, _ := strconv.Atoi(p[1])
			in.steps = append(in.steps, &step{line: i + 1, terminal: n, input: p[2]})
		case len(in.steps) == 0:
			return nil, fmt.Errorf("%d: a console block begins with a prompt", i+1)
		default:
			last := in.steps[len(in.steps)-1]
			if s, ok := strings.CutSuffix(last.input, "\\"); ok {
				last.input = s + strings.TrimSpace(line)
			} else {
				last.output = append(last.output, line)
			}
		}
	}
	if in != nil || other {
		err = errors.New("the last fence is not closed")
	}
	return blocks, err
}

// missing names a program that the block needs, if it is not installed.
func (b *block) missing() string {
	for _, program := range b.needs {
		if _, err := exec.LookPath(program); err != nil {
			return program
		}
	}
	return ""
}

func (b *block) run(dir string) error {
	terminals := map[int]*terminal{}
	defer func() {
		for _, t := range terminals {
			t.close()
		}
	}()
	known := map[string]string{} // what <pid> and the like stood for
	for i, s := range b.steps {
		t := terminals[s.terminal]
		if t == nil {
			var err error
			if t, err = openTerminal(dir); err != nil {
				return err
			}
			terminals[s.terminal] = t
		}
		if err := t.enter(s.input); err != nil {
			return fmt.Errorf("%d: %s: %w", s.line, s.input, err)
		}
		// The command must end here if the next input at this terminal is
		// another command, or if there is none.
		over := true
		for _, next := range b.steps[i+1:] {
			if next.terminal == s.terminal {
				over = !slices.Contains([]string{"", "^C", "^D", "↵"}, next.input)
				break
			}
		}
		got, err := t.expect(pattern(s.output, known, b.unordered), over)
		if err == nil {
			err = learn(s.output, got, known, b.unordered)
		}
		if err != nil {
			return fmt.Errorf("%d: $ %s\n%w\n--- the README says:\n%s\n--- it printed:\n%s",
				s.line, s.input, err, strings.Join(s.output, "\n"), elide(got))
		}
	}
	return nil
}

var varying = regexp.MustCompile(`<[a-z]+>|…`)

// linePattern is the regular expression for one line of a README. Spaces at its
// end do not count, because nobody sees them.
func linePattern(line string, known map[string]string) string {
	re := ""
	line = strings.TrimRight(line, " ")
	for {
		at := varying.FindStringIndex(line)
		if at == nil {
			return re + regexp.QuoteMeta(line) + " *"
		}
		word := line[at[0]:at[1]]
		re += regexp.QuoteMeta(line[:at[0]])
		line = line[at[1]:]
		if value, ok := known[word]; ok {
			re += regexp.QuoteMeta(value)
		} else if word == "…" {
			re += `.*?`
		} else {
			re += `([^\s,:()]+)`
		}
	}
}

// A matcher says how many bytes of the output match what the README shows, or -1
// if they do not. If whole is set, nothing may follow.
type matcher func(output string, whole bool) int

func pattern(lines []string, known map[string]string, unordered bool) matcher {
	if unordered {
		return func(output string, whole bool) int {
			if !whole || !sameLines(lines, strings.Split(output, "\n"), known) {
				return -1
			}
			return len(output)
		}
	}
	re := `\A`
	for _, line := range lines {
		if line == "…" {
			re += `(?:.*\n)*?`
		} else {
			re += linePattern(line, known) + `\n`
		}
	}
	open := regexp.MustCompile(re)
	closed := regexp.MustCompile(re + `\z`)
	return func(output string, whole bool) int {
		at := open.FindStringIndex(output)
		if whole {
			at = closed.FindStringIndex(output)
		}
		if at == nil {
			return -1
		}
		return at[1]
	}
}

// sameLines tells whether each line of output is one of want, in any order. A line
// … stands for any other lines.
func sameLines(want, output []string, known map[string]string) bool {
	output = output[:len(output)-1] // after the last newline
	rest := slices.DeleteFunc(slices.Clone(want), func(w string) bool { return w == "…" })
	others := len(rest) < len(want)
	for _, line := range output {
		i := slices.IndexFunc(rest, func(w string) bool {
			return regexp.MustCompile(`\A` + linePattern(w, known) + `\z`).MatchString(line)
		})
		if i < 0 && !others {
			return false
		} else if i < 0 {
			continue
		}
		rest = slices.Delete(rest, i, i+1)
	}
	return len(rest) == 0
}

// learn notes what <pid> and the like stand for. They stand for the same words up
// to the end of the block.
func learn(lines []string, output string, known map[string]string, unordered bool) error {
	if unordered {
		return nil
	}
	for _, line := range lines {
		words := slices.DeleteFunc(varying.FindAllString(line, -1), func(word string) bool {
			return word == "…" || known[word] != ""
		})
		if len(words) == 0 {
			continue
		}
		m := regexp.MustCompile(`(?m)^` + linePattern(line, known) + `$`).FindStringSubmatch(output)
		for i, word := range words {
			if value := known[word]; value != "" && value != m[i+1] {
				return fmt.Errorf("%s is both %s and %s", word, value, m[i+1])
			}
			known[word] = m[i+1]
		}
	}
	return nil
}

// A terminal is a shell, and what it and its programs have printed on standard
// output and standard error.
type terminal struct {
	cmd      *exec.Cmd
	commands io.WriteCloser
	keyboard io.WriteCloser

	mu      sync.Mutex
	output  string // not yet compared
	running bool
}

// The shell reads commands from descriptor 3, and prints a mark after each. What
// is typed while a command runs goes to that command. Ctrl-C ends the command and
// not the shell.
const (
	mark  = "\036"
	shell = `trap : INT
while read -r line <&3; do
	eval "$line" 3<&-
	printf '\036'
done`
)

func openTerminal(dir string) (*terminal, error) {
	t := &terminal{cmd: exec.Command("sh", "-c", shell)}
	t.cmd.Dir = dir
	commandsOut, commands, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	output, outputIn, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	t.commands = commands
	t.cmd.ExtraFiles = []*os.File{commandsOut}
	t.cmd.Stdout, t.cmd.Stderr = outputIn, outputIn
	t.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}
	if t.keyboard, err = t.cmd.StdinPipe(); err == nil {
		err = t.cmd.Start()
	}
	commandsOut.Close()
	outputIn.Close()
	if err != nil {
		return nil, err
	}
	go t.follow(output)
	return t, nil
}

// follow collects what is printed.
func (t *terminal) follow(output io.ReadCloser) {
	defer output.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := output.Read(buffer)
		text, more, done := strings.Cut(string(buffer[:n]), mark)
		t.mu.Lock()
		t.output += text + more
		t.running = t.running && !done
		t.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// enter types a line.
func (t *terminal) enter(input string) (err error) {
	switch input {
	case "": // only looks
	case "^C":
		err = unix.Kill(-t.cmd.Process.Pid, unix.SIGINT)
	case "^D":
		err = t.keyboard.Close()
	case "↵":
		_, err = io.WriteString(t.keyboard, "\n")
	default:
		t.mu.Lock()
		t.running = true
		t.mu.Unlock()
		_, err = io.WriteString(t.commands, input+"\n")
	}
	return err
}

// expect waits until the output matches and, if over is set, the command has
// ended. It returns the output that matched.
func (t *terminal) expect(match matcher, over bool) (string, error) {
	for left := scriptTime; ; left -= tick {
		t.mu.Lock()
		output, running := t.output, t.running
		n := -1
		if !over || !running {
			n = match(output, over)
		}
		if n >= 0 {
			t.output = t.output[n:]
			t.mu.Unlock()
			return output[:n], nil
		}
		t.mu.Unlock()
		if !running {
			return output, errors.New("it has ended, and what it printed differs")
		} else if time.Sleep(tick); left < 0 {
			return output, fmt.Errorf("it did not print the rest within %v", scriptTime)
		}
	}
}

// close ends the shell and all that runs in it.
func (t *terminal) close() {
	unix.Kill(-t.cmd.Process.Pid, unix.SIGKILL)
	t.cmd.Wait()
}

// elide shortens blocks of equal letters: AAAA….
func elide(text string) string {
	var b strings.Builder
	run := 0
	last := rune(-1)
	for _, r := range text {
		if run++; r != last {
			last, run = r, 1
		}
		if run <= 4 || r < 'A' || r > 'Z' {
			b.WriteRune(r)
		} else if run == 5 {
			b.WriteRune('…')
		}
	}
	return b.String()
}
