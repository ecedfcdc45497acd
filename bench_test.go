//go:build linux

package shm_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The benchmarks here run the programs as a whole, their start included; those
// of the parts are beside the code. See "How it is tested" in the README.

// A placement says on which CPUs two processes run.
type placement struct {
	name        string
	first, last []int
}

// placements runs a benchmark with both processes on one CPU; with each on one
// of its own; and where the kernel puts them.
func placements(b *testing.B, bench func(*testing.B, placement)) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		b.Fatal(err)
	}
	var cpus []int
	for cpu := 0; len(cpus) < set.Count(); cpu++ {
		if set.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	last := len(cpus) - 1
	for _, p := range []placement{
		{"one-cpu", cpus[:1], cpus[:1]},
		{"two-cpus", cpus[:1], cpus[last:]},
		{"scheduler", cpus, cpus},
	} {
		b.Run(p.name, func(b *testing.B) {
			if last == 0 && p.name != "one-cpu" {
				b.Skip("needs two CPUs")
			}
			runtime.LockOSThread() // and never unlocks: the thread ends
			bench(b, p)
		})
	}
}

// 64 MiB through the buffer of 1 KiB of lesson 03.
func BenchmarkTransfer64MiB(b *testing.B) {
	const size = 64 << 20
	file := filepath.Join(b.TempDir(), "64MiB")
	if err := os.WriteFile(file, bytes.Repeat([]byte("0123456\n"), size/8), 0o600); err != nil {
		b.Fatal(err)
	}
	placements(b, func(b *testing.B, p placement) {
		b.SetBytes(size)
		for b.Loop() {
			keys := []string{"-key", strconv.Itoa(newKey()), "-semkey", strconv.Itoa(newKey())}
			runPair(b, p, file, keys, "03-producer-consumer/writer", "03-producer-consumer/reader")
		}
	})
}

// Lesson 02's ring: each item is published, taken and verified.
func BenchmarkRing(b *testing.B) {
	const items = 20_000_000
	placements(b, func(b *testing.B, p placement) {
		for b.Loop() {
			args := []string{"-name", "/" + filepath.Base(newName()), "-n", strconv.Itoa(items)}
			runPair(b, p, os.DevNull, args, "02-posix-shm/producer", "02-posix-shm/consumer")
		}
		report(b, items, "ns/item")
	})
}

// Lesson 05's mutex, locked and unlocked by one process, and by two at once.
func BenchmarkMutexProcesses(b *testing.B) {
	const rounds = 5_000_000
	for _, procs := range []int{1, 2} {
		b.Run("procs-"+strconv.Itoa(procs), func(b *testing.B) {
			placements(b, func(b *testing.B, p placement) {
				cpus := append(p.first[:len(p.first):len(p.first)], p.last...)
				for b.Loop() { // the one starts the other, on the same CPUs
					wait := startOn(b, cpus, os.DevNull, "05-pthread-style-mutex/05-pthread-style-mutex",
						"-key", strconv.Itoa(newKey()), "-n", strconv.Itoa(rounds),
						"-procs", strconv.Itoa(procs))
					wait()
				}
				report(b, rounds*procs, "ns/lock")
			})
		})
	}
}

// report reports the time that one of many took.
func report(b *testing.B, many int, unit string) {
	b.ReportMetric(float64(b.Elapsed())/float64(time.Nanosecond)/float64(b.N)/float64(many), unit)
}

// runPair runs two programs side by side and waits for both.
func runPair(b *testing.B, p placement, stdin string, args []string, first, last string) {
	b.Helper()
	waitFirst := startOn(b, p.first, stdin, first, args...)
	waitLast := startOn(b, p.last, os.DevNull, last, args...)
	waitLast()
	waitFirst()
}

// startOn starts a program on some CPUs, which it inherits from this thread.
// What it returns waits for its end.
func startOn(b *testing.B, cpus []int, stdin, program string, args ...string) (wait func()) {
	b.Helper()
	var set unix.CPUSet
	for _, cpu := range cpus {
		set.Set(cpu)
	}
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		b.Fatal(err)
	}
	in, err := os.Open(stdin)
	if err != nil {
		b.Fatal(err)
	}
	defer in.Close()
	stderr := new(bytes.Buffer)
	cmd := exec.CommandContext(b.Context(), filepath.Join(built, program), args...)
	cmd.Stdin, cmd.Stderr = in, stderr // and its output is thrown away
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	return func() {
		b.Helper()
		if err := cmd.Wait(); err != nil {
			b.Fatalf("%v: %v\n%s", cmd, err, stderr)
		}
	}
}
