//go:build linux && (amd64 || arm64 || riscv64)

package segment

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A zombie has ended, though it still has its pid.
func TestRuns(t *testing.T) {
	if !Runs(int32(os.Getpid())) || Runs(0) || Runs(-1) {
		t.Error("this process does not run, or pid 0 or -1 does")
	}
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	pid := int32(cmd.Process.Pid)
	if !Runs(pid) {
		t.Error("a running program does not run")
	}
	in.Close()
	for Runs(pid) { // if it never ends, go test stops the test
		time.Sleep(time.Millisecond)
	}
	if unix.Kill(int(pid), 0) != nil {
		t.Error("it was no zombie")
	}
	cmd.Wait()
	if Runs(pid) {
		t.Error("a process that is gone runs")
	}

	// The pid of a killed process may be the number of a thread by now.
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil || len(threads) < 2 {
		t.Fatalf("%d threads, and %v", len(threads), err)
	}
	for _, thread := range threads {
		tid, _ := strconv.Atoi(thread.Name())
		if tid != os.Getpid() && Runs(int32(tid)) {
			t.Errorf("thread %d counts as a process", tid)
		}
	}

	// It leaves no descriptor open, however often it is called.
	before, _ := os.ReadDir("/proc/self/fd")
	for range 10 {
		Runs(int32(os.Getpid()))
	}
	after, _ := os.ReadDir("/proc/self/fd")
	if len(after) >= len(before)+10 {
		t.Errorf("%d descriptors, and then %d", len(before), len(after))
	}

	// Where pidfd_open fails, a process that kill finds counts as running.
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	none := unix.Rlimit{Max: limit.Max} // so pidfd_open gets no descriptor
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	me, gone := Runs(int32(os.Getpid())), Runs(pid)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if !me || gone {
		t.Errorf("without pidfd_open: this process runs: %t, one that is "+
			"gone: %t", me, gone)
	}
}

// Without a segment RemoveLeftover has nothing to do. A signal ends each wait.
func TestWaits(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	interrupted := errors.New("interrupted")
	cancel(interrupted)
	const size = 1000
	key := 0x5e600000 + os.Getpid()
	if err := RemoveLeftover(ctx, key, size); err != nil {
		t.Errorf("no segment: %v", err)
	}
	if _, err := WaitForPeer(ctx, key, size, "peer"); err != interrupted {
		t.Errorf("waiting: %v", err)
	}
	shmid, err := unix.SysvShmGet(key, size, unix.IPC_CREAT|unix.IPC_EXCL|0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.SysvShmCtl(shmid, unix.IPC_RMID, nil)
	if err := RemoveLeftover(ctx, key, size); err != interrupted {
		t.Errorf("waiting for its creator to attach it: %v", err)
	}
	if _, err := WaitForPeer(ctx, key, size, "peer"); err != interrupted {
		t.Errorf("waiting until it is attached: %v", err)
	}

	// This process plays all of them. The first attach is the creator's.
	attach := func() {
		mem, err := unix.SysvShmAttach(shmid, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.SysvShmDetach(mem) })
	}
	attach()
	if pid, err := WaitForPeer(ctx, key, size, "peer"); err != nil ||
		pid != int32(os.Getpid()) {
		t.Errorf("peer %d, %v", pid, err)
	}
	if !Gone(shmid, 0) || Gone(shmid, int32(os.Getpid())) {
		t.Error("alone: Gone(0) is false, or Gone of this process is true")
	}
	attach()
	if !OnlyTwo(shmid) || Gone(shmid, 0) {
		t.Error("two are attached: OnlyTwo is false, or Gone(0) is true")
	}
	attach()
	if OnlyTwo(shmid) {
		t.Error("three are attached: OnlyTwo is true")
	}
	_, err = WaitForPeer(t.Context(), key, size, "peer")
	if err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("joined as the second: %v", err)
	}
	err = RemoveLeftover(t.Context(), key, size)
	if err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("in use: %v", err)
	}
	_, _, err = find(key, size+1)
	if err == nil || !strings.Contains(err.Error(), "bytes, not") {
		t.Errorf("another size: %v", err)
	}
}
