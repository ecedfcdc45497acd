//go:build linux

package shm_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestLintRefuses shows that lint refuses a script that starts a program in the
// background and never waits for it, or sleeps.
func TestLintRefuses(t *testing.T) {
	for script, want := range map[string]string{
		"exec writer &w&\nwait w\n":                       "use start",
		"exec writer &\n":                                 "use start",
		"[root] exec writer &w&\n":                        "use start",
		"start w writer\n":                                "never waits",
		"[root] start w writer\nstart r reader":           "never waits",
		"start w writer\nfinish writer 0\n":               "never waits",
		"exec sleep 1\n":                                  "use until",
		"start w writer\nfinish w 0\n":                    "",
		"# sleep\n":                                       "",
		"start w writer\nfinish w 0\n-- f --\nexec x &\n": "",
	} {
		err := lint(script)
		if want == "" && err != nil || want != "" &&
			(err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("lint(%q) = %v, want %q", script, err, want)
		}
	}
}

// TestLintLabRefuses shows that lintLab refuses a comment that a student cannot
// understand alone.
func TestLintLabRefuses(t *testing.T) {
	const head = "# points: 1\n# tier: basic\n\n"
	for comment, want := range map[string]string{
		"# The writer ends.":                      "",
		"# The writer ends,\n# and says so.":      "",
		"# The same, with SIGTERM.":               "name what this is about",
		"# It ends.":                              "name what this is about",
		"# So does a second writer.":              "name what this is about",
		"# The lock is free.":                     "name the program",
		"# The writer ends":                       "a whole sentence",
		"# The writer ends.\n\n# Then it prints.": "name what this is about",
	} {
		err := lintLab(head + comment + "\nlikely x\nsee segments = 0\n")
		if want == "" && err != nil || want != "" &&
			(err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("lintLab with %q = %v, want %q", comment, err, want)
		}
	}
}

// TestHarness shows that the commands of the scripts can fail. Each of these
// scripts must fail for the reason given. One with an empty reason must pass.
func TestHarness(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ script, reason string }{
		"status":       {"status 3 sh -c 'exit 3'\n", ""},
		"status-wrong": {"status 0 sh -c 'exit 3'\n", "ended with 3, want 0"},
		"panic": {
			"status 2 sh -c 'echo panic >&2; echo goroutine 1 >&2; exit 2'\n",
			"panic or data race",
		},
		"finish":       {"start a sh -c 'exit 3'\nfinish a 3\n", ""},
		"finish-wrong": {"start a sh -c 'exit 3'\nfinish a 0\n", "ended with 3, want 0"},
		"finish-late":  {"start a tail -f /dev/null\nfinish a 0 50ms\n", "still running after 50ms"},
		"signal":       {"start a tail -f /dev/null\nsignal a TERM\nfinish a TERM\n", ""},
		"signal-ended": {"start a true\nuntil a ends\nsignal a KILL\nfinish a 0\n", ""},
		"never-finished": {
			"start a tail -f /dev/null\nstop\nfinish a 0\n",
			"a was started and never waited for",
		},
		"prints":       {"start a sh -c 'echo yes >&2; exec tail -f /dev/null'\nuntil a prints yes\nsignal a KILL\nfinish a KILL\n", ""},
		"prints-never": {"start a echo no\nuntil a prints yes\nfinish a 0\n", "a ended and did not: prints yes"},
		"hold":         {"segment make $KEY 8\nstart h hold $KEY\nuntil segment $KEY attached 1\nsegment remove $KEY\nsignal h KILL\nfinish h KILL\n", ""},
		"futex":        {"segment make $KEY 8\nstart f futex $KEY 4 0\nuntil f waits\nsignal f KILL\nfinish f KILL\nsegment remove $KEY\n", ""},
		"futex-other":  {"segment make $KEY 8\nstart f futex $KEY 4 1\nuntil f prints never\nfinish f 1\n", "the word is 0x0"},
		"waits":        {"start a tail -f /dev/null\nuntil a waits\nsignal a KILL\nfinish a KILL\n", ""},
		"segment":      {"segment make $KEY 8\nuntil segment $KEY exists\nsegment attach $KEY\nuntil segment $KEY attached 1\nsegment detach $KEY\nsegment remove $KEY\nuntil segment $KEY gone\nnothing-left\n", ""},
		"semaphores":   {"semaphores make $KEY 1 0\nuntil semaphores $KEY exists\nsemaphores add $KEY 1 1\nsemaphores remove $KEY\nuntil semaphores $KEY gone\nnothing-left\n", ""},
		"file":         {"until file f exists\nrm f\nuntil file f gone\n-- f --\n", ""},
		"options":      {"[!setuid] skip\nstart a -uid=" + strconv.Itoa(os.Getuid()) + " -stdin=f cat\nfinish a 0\nstdout text\n-- f --\ntext\n", ""},
		"left":         {"segment make $KEY 8\n", "left behind: segment \\d+, key 0x8"},
		"nothing-left": {"segment make $KEY 8\nnothing-left\n", "FAIL: .*: left behind: segment \\d+, key 0x8"},
		"left-name":    {"exec touch /dev/shm/x-$NAME\n", "left behind: /dev/shm/x-shm-by-example-"},
		"mode":         {"segment make $KEY 8\nsegment mode $KEY 640\nsegment remove $KEY\n", "mode 600, want 640"},
		"condition":    {"[no-such-thing] stop\n", "no such condition: no-such-thing"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), name+".txtar")
			if err := os.WriteFile(file, []byte(c.script), 0o644); err != nil {
				t.Fatal(err)
			}
			r := record(file, nil)
			switch printed := r.printed.String(); {
			case r.skipped:
				t.Skip(printed)
			case c.reason == "" && r.failed:
				t.Errorf("failed\n%s", printed)
			case c.reason != "" && !r.failed:
				t.Errorf("did not fail\n%s", printed)
			case !regexp.MustCompile(c.reason).MatchString(printed):
				t.Errorf("did not say %q\n%s", c.reason, printed)
			}
		})
	}
}

// TestUsage shows that a command refuses a wrong word, a missing one, and one too
// many. If it ignored the word, a script could pass that checks nothing.
func TestUsage(t *testing.T) {
	const setUp = "segment make $KEY 8\nsegment attach $KEY\nstart a tail -f /dev/null\n"
	for line, want := range map[string]string{
		"until file f exsits":             "usage:",
		"until file f":                    "usage:",
		"until file f gone now":           "usage:",
		"until file prints gon":           "file was not started",
		"until file ends":                 "file was not started",
		"until semaphores $KEY gon":       "usage:",
		"until semaphores $KEY":           "usage:",
		"until semaphores gone":           "usage:",
		"until segment $KEY attached":     "usage:",
		"until segment $KEY attached one": "invalid syntax",
		"until segment here gone":         "invalid syntax",
		"until a":                         "usage:",
		"until a prints":                  "usage:",
		"until a waits long":              "usage:",
		"until a sleeps":                  "usage:",
		"until b waits":                   "b was not started",
		"! until a waits":                 "usage:",
		"segment":                         "usage:",
		"segment make $KEY2":              "usage:",
		"segment make $KEY2 8 0600 more":  "usage:",
		"segment make $KEY2 8 0o9":        "invalid syntax",
		"segment make $KEY2 -1":           "invalid argument",
		"segment mode $KEY":               "usage:",
		"segment give $KEY":               "usage:",
		"segment detach":                  "usage:",
		"segment attach $KEY2":            "no such file",
		"segment fill $KEY 0 8":           "usage:",
		"segment fill $KEY 0 9 A":         "the segment has 8 bytes",
		"segment fill $KEY 4 5 A":         "the segment has 8 bytes",
		"segment fill $KEY -1 1 A":        "the segment has 8 bytes",
		"segment fill $KEY 0 8 AB":        "want one letter",
		"segment int32 $KEY 0":            "usage:",
		"segment int32 $KEY 5 1":          "the segment has 8 bytes",
		"segment int32 $KEY 0 1 b":        "b was not started",
		"segment drop $KEY":               "usage:",
		"semaphores make $KEY2":           "usage:",
		"semaphores add $KEY2 0":          "usage:",
		"semaphores add $KEY2 0 1 2":      "usage:",
		"semaphores remove $KEY2":         "no semaphore set",
		"semaphores remove $KEY2 $KEY3":   "usage:",
		"letters":                         "usage:",
		"letters 3":                       "usage:",
		"letters -1 A":                    "invalid syntax",
		"start":                           "usage:",
		"start b":                         "usage:",
		"start b -stdin=":                 "want .*PROGRAM",
		"start b -uid=0 -stdin=":          "want .*PROGRAM",
		"start b -user=0 true":            "want .*PROGRAM",
		"start a true":                    "a is running already",
		"status 0":                        "usage:",
		"finish a":                        "usage:",
		"finish a 0 1s more":              "usage:",
		"finish a 0 soon":                 "invalid duration",
		"finish b 0":                      "b was not started",
		"enter":                           "usage:",
		"enter a":                         "a has no keyboard",
		"signal a":                        "usage:",
		"signal a INTERRUPT":              "no such signal",
		"signal a INT now":                "usage:",
		"nothing-left at all":             "usage:",
	} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "x.txtar")
			if err := os.WriteFile(file, []byte(setUp+line+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			want = `FAIL: .*:4: (?s:.*)` + want
			if printed := record(file, nil).printed.String(); !regexp.MustCompile(want).MatchString(printed) {
				t.Errorf("did not say %q\n%s", want, printed)
			}
		})
	}
}

// TestBrokenRefuses shows that an archive of a broken program is refused if the
// test could pass without proving anything. The message says how to correct it.
func TestBrokenRefuses(t *testing.T) {
	const head, change = "It is wrong.\nfile: 02-posix-shm/main.go\n", "-- old --\na\n-- new --\nb\n"
	for text, want := range map[string]string{
		head + "script: hello\nreason: no match\n" + change:            "",
		head + "script: lab/segment\nreason: no match\n" + change:      "there is no testdata/02-posix-shm/lab/segment.txtar",
		head + "script: helo\nreason: no match\n" + change:             "there is no testdata/02-posix-shm/helo.txtar",
		head + "script: hello.txtar\nreason: no match\n" + change:      `write "script: NAME"`,
		head + "script: fault killed\nreason: no match\n" + change:     "there is no TestFaults/killed",
		head + "script: fault flags\nreason: lost\n" + change:          "",
		head + "script: hello\nreason: (\n" + change:                   "missing closing )",
		head + "script: hello\nreason: .\n" + change:                   "matches any failure",
		head + "script: hello\nreason: x*\n" + change:                  "matches any failure",
		head + "script: hello\nreason: ^FAIL\n" + change:               "matches any failure",
		head + "script: hello\n" + change:                              "want lines file:, script: and reason:",
		head + "script: hello\nreason: no match\n-- old --\na\n":       "want the files old and new",
		head + "script: hello\nreason: no match\n-- old --\n" + change: "want the files old and new",
	} {
		_, err := parseBroken("testdata/02-posix-shm/broken/x.txtar", []byte(text))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s\ngives %v, want %q", text, err, want)
		}
	}
	b := broken{archive: "x.txtar", file: "main.go", script: "hello", what: "It is wrong.",
		old: "a", reason: regexp.MustCompile("no match")}
	for text, want := range map[string]string{
		"bab": "", "b": "x.txtar: main.go has the text of \"old\" 0 times", "aba": "2 times",
	} {
		if _, err := b.change(text); fmt.Sprint(err) == "<nil>" && want != "" ||
			!strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("change of %q gives %v, want %q", text, err, want)
		}
	}
	const printed = "> exec x\nFAIL: hello.txtar:3: other\n"
	for _, c := range []struct {
		failed        bool
		printed, want string
	}{
		{true, "FAIL: no match\n", "^<nil>$"},
		{false, printed, "hello did not notice: It is wrong"},
		{true, printed, `^FAIL: hello.txtar:3: other\n`},
		{true, "hangs: b\nmore\n", `^hangs: b\n`},
	} {
		if err := b.noticed(c.failed, c.printed); !regexp.MustCompile(c.want).MatchString(fmt.Sprint(err)) {
			t.Errorf("noticed(%v, %q) = %v, want %s", c.failed, c.printed, err, c.want)
		}
	}
}

// TestREADMERunner does the same for the blocks of a README.
func TestREADMERunner(t *testing.T) {
	t.Parallel()
	const begin, end = "```console", "\n```\n"
	for name, c := range map[string]struct{ block, reason string }{
		"same":          {"\n$ echo a; echo b\na\nb", ""},
		"other":         {"\n$ echo a\nb", "what it printed differs"},
		"less":          {"\n$ echo a\na\nb", "differs"},
		"more":          {"\n$ echo a; echo b\na", "differs"},
		"more-before":   {"\n$ echo a; echo b\n$ true\na\nb", "differs"},
		"stderr":        {"\n$ echo a >&2\na", ""},
		"elided":        {"\n$ echo AAAAAAB\nAA…B", ""},
		"elided-wrong":  {"\n$ echo AAAAAAB\nAA…C", "differs"},
		"lines":         {"\n$ seq 9\n1\n…\n9", ""},
		"lines-wrong":   {"\n$ seq 9\n1\n…\n10", "differs"},
		"varies":        {"\n$ echo pid $$, again $$\npid <pid>, again <pid>\n$ echo $$\n<pid>", ""},
		"varies-wrong":  {"\n$ echo pid 1, again 2\npid <pid>, again <pid>", "<pid> is both 1 and 2"},
		"varies-later":  {"\n$ echo 1\n<pid>\n$ echo 2\n<pid>", "differs"},
		"unordered":     {" unordered\n$ echo b; echo a\na\nb", ""},
		"unordered-two": {" unordered\n$ echo b; echo b\na\nb", "differs"},
		"unordered-few": {" unordered\n$ echo b\na\nb", "differs"},
		"unordered-any": {" unordered\n$ echo b; echo c\nb\n…", ""},
		"two-terminals": {"\n1$ read x; echo got $x\n2$ echo hello\nhello\n1$ ↵\ngot", ""},
		"ctrl-c":        {"\n1$ sh -c 'echo on; exec tail -f /dev/null'\non\n1$ ^C\n1$ echo off\noff", ""},
		"ctrl-d":        {"\n1$ cat; echo end\n1$ ^D\nend", ""},
		"continued":     {"\n$ echo a \\\n   b\na b", ""},
		"state":         {"\n$ x=1\n$ echo $x\n1", ""},
		"no-prompt":     {"\necho a", "begins with a prompt"},
		"no-such-word":  {" unsorted\n$ echo a\na", "console unsorted"},
		"needs":         {" needs=no-such-program\n$ echo a\nb", ""},
	} {
		t.Run(name, func(t *testing.T) {
			blocks, err := parseREADME(begin + c.block + end)
			testInWorld(t, func(*world) {
				for _, b := range blocks {
					if err == nil && b.missing() == "" {
						err = b.run(".")
					}
				}
			})
			switch {
			case c.reason == "" && err != nil:
				t.Error(err)
			case c.reason != "" && (err == nil || !strings.Contains(err.Error(), c.reason)):
				t.Errorf("error %v, want %q", err, c.reason)
			}
		})
	}
	if _, err := parseREADME("```console\n$ echo a\n"); err == nil {
		t.Error("a fence that is not closed")
	}
}
