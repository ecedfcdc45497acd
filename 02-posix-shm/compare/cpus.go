//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// placements returns where the two processes run: both on one CPU, and, if this
// process may use two CPUs, each on its own. See sched_setaffinity(2).
func placements() ([]placement, error) {
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return nil, fmt.Errorf("sched_getaffinity: %w", err)
	}
	var cpus []int
	for cpu := 0; len(cpus) < min(2, allowed.Count()); cpu++ {
		if allowed.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	all := []placement{{Name: "one CPU", CPUs: [2]int{cpus[0], cpus[0]},
		OneCore: new(false)}}
	if len(cpus) == 2 {
		all = append(all, placement{Name: "two CPUs", CPUs: [2]int(cpus),
			OneCore: oneCore(siblings(cpus[0]), siblings(cpus[1]))})
	}
	return all, nil
}

// siblings returns the list of the CPUs that are threads of this CPU's core. It
// is empty if that is not known. Virtual machines and containers may lack the
// file.
func siblings(cpu int) string {
	list, _ := os.ReadFile(fmt.Sprintf("/sys/devices/system/cpu/cpu%d/"+
		"topology/thread_siblings_list", cpu))
	return strings.TrimSpace(string(list))
}

// oneCore tells whether two such lists are of the same core. It is nil if that
// is not known.
func oneCore(a, b string) *bool {
	if a == "" || b == "" {
		return nil
	}
	return new(a == b)
}

// onCPU calls start while this thread is on the CPU. A process that start
// starts inherits that, and stays there.
func onCPU(cpu int, start func() error) error {
	var before, only unix.CPUSet
	only.Set(cpu)
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return fmt.Errorf("sched_getaffinity: %w", err)
	}
	if err := unix.SchedSetaffinity(0, &only); err != nil {
		return fmt.Errorf("sched_setaffinity, CPU %d: %w", cpu, err)
	}
	defer unix.SchedSetaffinity(0, &before)
	return start()
}
