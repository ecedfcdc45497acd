//go:build linux

package shm_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// inputFaults are what a program may be given by mistake: flags that mean
// nothing, an input or an output that is not there.
func inputFaults() (all []fault) {
	all = append(all, fault{name: "flags", room: true, do: wrongFlags})
	for _, p := range pairs() {
		all = append(all, fault{name: "output/" + p.name, do: func(x *experiment) {
			var points []point
			for side, command := range []string{p.a, p.b} {
				for _, c := range outputs(x) {
					if command != "" && (side == 0 || c.name != "stdin closed") {
						points = append(points, point{side: side, name: c.name, change: c.change})
					}
				}
			}
			if !x.job.Long {
				points = slices.DeleteFunc(points, func(at point) bool {
					return at.name != "head -0"
				})
			}
			each(x, 4, points, func(place *place, at point) {
				if err := p.suffer(place, at); err != nil {
					x.errorf("%v", err)
				}
			})
		}})
	}
	return all
}

type change struct {
	name   string
	change func(*exec.Cmd)
}

// outputs are those, and the input, that a program may be given.
func outputs(x *experiment) []change {
	return []change{{"head -0", func(cmd *exec.Cmd) {
		r, w, err := os.Pipe()
		if err != nil {
			x.errorf("%v", err)
			return
		}
		r.Close()
		cmd.Stdout = w
	}}, {"/dev/full", func(cmd *exec.Cmd) {
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			x.errorf("%v", err)
			return
		}
		cmd.Stdout = full
	}},
		{"stdin closed", inShell(`exec "$0" "$@" <&-`)},
		{"stdout closed", inShell(`exec "$0" "$@" >&-`)},
	}
}

// inShell runs a program in a shell that does something to it first.
func inShell(script string) func(*exec.Cmd) {
	return func(cmd *exec.Cmd) {
		args := append([]string{"sh", "-c", script, cmd.Path}, cmd.Args[1:]...)
		cmd.Path, cmd.Args = "/bin/sh", args
	}
}

var (
	flagLine    = regexp.MustCompile(`(?m)^  -(\S+)( \S+)?`)
	commandLine = regexp.MustCompile(`(?m)^  (\w+) +\w`)
)

// wrongFlags gives each program, and each flag that its -h shows, what is none
// of its values. It must end with 2 and its usage, before it makes anything.
func wrongFlags(x *experiment) {
	var usages [][]string // program and command
	for _, file := range x.programs() {
		usages = append(usages, []string{file})
		for _, m := range commandLine.FindAllStringSubmatch(help(file), -1) {
			usages = append(usages, []string{file, m[1]})
		}
	}
	if len(usages) < 20 {
		x.errorf("found only %d programs and commands", len(usages))
	}
	long := "/" + strings.Repeat("x", 255)
	wrong := []string{"", "-1", "99999999999999999999", "9999999999h", "x", "-", "1e9", "0x", "ä"}
	wrongOf := map[string][]string{
		"key": {"0", "0x0", "010", "4294967296"}, "semkey": {"0", "-5"},
		"name": {"/", "//", "/a/b", "/..", "/.", "a", long},
		"mode": {"8", "1000", "rw", "0x1ff"}, "sync": {"sysV", "mutex"},
		"size": {"0", "1k", "18446744073709551615"}, "procs": {"0", "1001"},
	}
	var all [][]string
	for _, usage := range usages {
		all = append(all, append(slices.Clone(usage), "-no-such-flag"),
			append(slices.Clone(usage), "no-such-argument"),
			append(slices.Clone(usage), ""))
		for _, m := range flagLine.FindAllStringSubmatch(help(usage...), -1) {
			values := append(slices.Clone(wrongOf[m[1]]), wrong...)
			if strings.Contains(usage[0], "/01-") { // flag.Int reads it as octal
				values = slices.DeleteFunc(values, func(v string) bool { return v == "010" })
			}
			if !x.job.Long { // another one for each
				values = values[len(all)%len(values):][:1]
			} else if m[2] != "" {
				all = append(all, append(slices.Clone(usage), "-"+m[1]))
			}
			for _, value := range values {
				all = append(all, append(slices.Clone(usage), "-"+m[1]+"="+value))
			}
		}
	}
	each(x, 16, all, func(place *place, args []string) {
		if x.job.Until && x.failed() {
			return
		}
		r := place.startArgs(with{}, args[0], args[1:]...)
		defer r.kill()
		if !r.within(min(patience, 10*time.Second)) {
			x.errorf("hangs: %v", r)
			return
		}
		err := r.is("2", "1")
		if err == nil && r.status() == "2" && !strings.Contains(r.err.String(), "Usage of") {
			err = fmt.Errorf("no usage shown: %v", r)
		}
		if err == nil && r.out.String() != "" {
			err = fmt.Errorf("began to work: %v", r)
		}
		if err != nil {
			x.errorf("%v", err)
		}
	})
	fmt.Printf("%d programs and commands, %d wrong usages\n", len(usages), len(all))
}

// programs are all that have been built, those of the first directory first.
func (x *experiment) programs() (all []string) {
	seen := map[string]bool{}
	for _, dir := range x.job.Path {
		files, _ := filepath.Glob(filepath.Join(dir, "0?-*", "*"))
		for _, file := range files {
			name := strings.TrimPrefix(file, dir)
			if !seen[name] {
				all = append(all, file)
			}
			seen[name] = true
		}
	}
	return all
}

// help is what a program says with -h.
func help(args ...string) string {
	cmd := exec.Command(args[0], append(args[1:], "-h")...)
	cmd.Env = append(os.Environ(), jobVariable+"=")
	text, _ := cmd.CombinedOutput()
	return string(text)
}
