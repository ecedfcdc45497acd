//go:build linux

package main_test

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// The two programs of the ring as a whole, their start included: each item is
// published, taken and verified. They run on one CPU, on two, and where the
// kernel puts them. The benchmarks in ring measure the parts.
func BenchmarkRing(b *testing.B) {
	const items = 20_000_000
	dir := b.TempDir()
	build := exec.Command("go", "build", "-buildvcs=false", "-o", dir+"/",
		"./ring/producer", "./ring/consumer")
	if text, err := build.CombinedOutput(); err != nil {
		b.Fatalf("%v: %v\n%s", build, err, text)
	}
	cpus := usableCPUs(b)
	last := len(cpus) - 1
	for _, p := range []struct {
		name               string
		producer, consumer []int
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
			for b.Loop() {
				name := "/" + filepath.Base(objectName(newKey(b)))
				args := []string{"-name", name, "-n", strconv.Itoa(items)}
				produced := start(b, p.producer, dir+"/producer", args)
				consumed := start(b, p.consumer, dir+"/consumer", args)
				consumed()
				produced()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/
				float64(b.N)/items, "ns/item")
		})
	}
}

// start starts a program on some CPUs: it inherits them from this thread. The
// function that it returns waits until the program has ended.
func start(b *testing.B, cpus []int, program string,
	args []string) (wait func()) {
	b.Helper()
	var set unix.CPUSet
	for _, cpu := range cpus {
		set.Set(cpu)
	}
	want(b, "sched_setaffinity", unix.SchedSetaffinity(0, &set), nil)
	var stderr bytes.Buffer
	cmd := exec.CommandContext(b.Context(), program, args...)
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	return func() {
		b.Helper()
		if err := cmd.Wait(); err != nil {
			b.Fatalf("%s: %v\n%s", filepath.Base(program), err, &stderr)
		}
	}
}
