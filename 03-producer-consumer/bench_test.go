//go:build linux

package semaphores_test

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// The writer and the reader as a whole, their start included: 64 MiB through
// the buffer of 1 KiB. They run on one CPU, on two, and where the kernel puts
// them. The benchmarks in transfer measure the parts.
func BenchmarkTransfer64MiB(b *testing.B) {
	const size = 64 << 20
	dir := build(b, "writer", "reader")
	file := filepath.Join(dir, "64MiB")
	text := bytes.Repeat([]byte("0123456\n"), size/8)
	want(b, "write", os.WriteFile(file, text, 0o600), nil)
	var set unix.CPUSet
	want(b, "sched_getaffinity", unix.SchedGetaffinity(0, &set), nil)
	var cpus []int
	for cpu := 0; len(cpus) < set.Count(); cpu++ {
		if set.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	last := len(cpus) - 1
	for _, p := range []struct {
		name           string
		writer, reader []int
	}{
		{"one-cpu", cpus[:1], cpus[:1]},
		{"two-cpus", cpus[:1], cpus[last:]},
		{"scheduler", cpus, cpus},
	} {
		b.Run(p.name, func(b *testing.B) {
			if last == 0 && p.name != "one-cpu" {
				b.Skip("needs two CPUs")
			}
			runtime.LockOSThread() // for ever: no other goroutine runs here
			b.SetBytes(size)
			for b.Loop() {
				in, err := os.Open(file)
				want(b, "open", err, nil)
				args := []string{"-key", strconv.Itoa(newKey(b)),
					"-semkey", strconv.Itoa(newKey(b))}
				wrote := start(b, p.writer, in, dir+"/writer", args)
				read := start(b, p.reader, nil, dir+"/reader", args)
				read()
				wrote()
				in.Close()
			}
		})
	}
}

// start starts a program on some CPUs: it inherits them from this thread. The
// function that it returns waits until the program has ended.
func start(b *testing.B, cpus []int, stdin io.Reader, program string,
	args []string) (wait func()) {
	b.Helper()
	var set unix.CPUSet
	for _, cpu := range cpus {
		set.Set(cpu)
	}
	want(b, "sched_setaffinity", unix.SchedSetaffinity(0, &set), nil)
	var stderr bytes.Buffer
	cmd := exec.CommandContext(b.Context(), program, args...)
	cmd.Stdin, cmd.Stderr = stdin, &stderr
	want(b, "start", cmd.Start(), nil)
	return func() {
		b.Helper()
		if err := cmd.Wait(); err != nil {
			b.Fatalf("%s: %v\n%s", filepath.Base(program), err, &stderr)
		}
	}
}
