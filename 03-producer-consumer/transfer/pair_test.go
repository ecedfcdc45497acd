//go:build linux && (amd64 || arm64 || riscv64)

package transfer

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// This file stands in lessons 02, 03 and 05: benchmarks of two processes.

const (
	sharedBytes  = 16 << 10 // of memory that the two processes share
	peerVariable = "SHM_BENCH_PEER"
)

// TestMain also runs as the other process. There it calls the function of
// peers that is named in its environment, until the process is killed.
func TestMain(m *testing.M) {
	name := os.Getenv(peerVariable)
	if name == "" {
		os.Exit(m.Run())
	}
	mem, err := unix.Mmap(3, 0, sharedBytes, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_SHARED)
	if err == nil {
		err = peers[name](mem)
	}
	fmt.Fprintln(os.Stderr, "peer", name, "ended:", err)
	os.Exit(1)
}

// benchmarkPair runs a benchmark while another process runs a function of
// peers: first both on one CPU, then each on a CPU of its own.
func benchmarkPair(b *testing.B, peer string,
	bench func(b *testing.B, mem []byte)) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		b.Fatal(err)
	}
	var cpus []int
	for cpu := range 8 * len(set) * 8 {
		if set.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	b.Run("one-cpu", func(b *testing.B) {
		bench(b, startPeer(b, peer, cpus[0], cpus[0]))
	})
	b.Run("two-cpus", func(b *testing.B) {
		if len(cpus) < 2 {
			b.Skip("needs two CPUs")
		}
		bench(b, startPeer(b, peer, cpus[0], cpus[1]))
	})
}

// startPeer pins this thread to one CPU and the other process to another, and
// returns the memory that they share, all zeros. The memory has no name, so
// the kernel frees it at the end.
func startPeer(b *testing.B, peer string, here, there int) []byte {
	b.Helper()
	runtime.LockOSThread() // for ever: no other goroutine runs here
	fd, err := unix.MemfdCreate("benchmark", unix.MFD_CLOEXEC)
	if err != nil {
		b.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "memfd")
	defer file.Close()
	if err := file.Truncate(sharedBytes); err != nil {
		b.Fatal(err)
	}
	mem, err := unix.Mmap(fd, 0, sharedBytes, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_SHARED)
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), peerVariable+"="+peer)
	cmd.ExtraFiles = []*os.File{file} // descriptor 3 of the other process
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	pin(b, there) // the new process inherits it
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	pin(b, here)
	b.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		unix.Munmap(mem)
	})
	return mem
}

func pin(b *testing.B, cpu int) {
	b.Helper()
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		b.Fatal(err)
	}
}
