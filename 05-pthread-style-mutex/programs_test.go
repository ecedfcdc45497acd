//go:build linux

package main_test

import (
	"bytes"
	"os/exec"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// The program as a whole, its start included: one process locks and unlocks
// the mutex, or two do at once. They run on one CPU, on two, and where the
// kernel puts them. The benchmarks in bench_test.go measure the mutex alone.
func BenchmarkMutexProcesses(b *testing.B) {
	const rounds = 5_000_000
	program := build(b)
	var all, one, two unix.CPUSet
	must(b, "sched_getaffinity", unix.SchedGetaffinity(0, &all))
	for cpu := 0; two.Count() < min(2, all.Count()); cpu++ {
		if all.IsSet(cpu) {
			if one.Count() == 0 {
				one.Set(cpu)
			}
			two.Set(cpu)
		}
	}
	for _, procs := range []int{1, 2} {
		for _, p := range []struct {
			name string
			cpus *unix.CPUSet
		}{{"one-cpu", &one}, {"two-cpus", &two}, {"scheduler", &all}} {
			name := "procs-" + strconv.Itoa(procs) + "/" + p.name
			b.Run(name, func(b *testing.B) {
				if all.Count() < 2 && p.name != "one-cpu" {
					b.Skip("needs two CPUs")
				}
				runtime.LockOSThread() // for ever: no other goroutine runs here
				// The program and its child inherit the CPUs of this thread.
				err := unix.SchedSetaffinity(0, p.cpus)
				must(b, "sched_setaffinity", err)
				for b.Loop() {
					var stderr bytes.Buffer
					cmd := exec.CommandContext(b.Context(), program,
						"-key", strconv.Itoa(newKey(b)),
						"-n", strconv.Itoa(rounds),
						"-procs", strconv.Itoa(procs))
					cmd.Stderr = &stderr
					if err := cmd.Run(); err != nil {
						b.Fatalf("%v: %v\n%s", cmd, err, &stderr)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/
					float64(b.N*rounds*procs), "ns/lock")
			})
		}
	}
}
