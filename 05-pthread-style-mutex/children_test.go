//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// When does the parent say that nobody can unlock the mutex? The test plays
// the parent and its child.
func TestStuck(t *testing.T) {
	this, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	child := []*exec.Cmd{{Process: this}}
	pid := uint32(this.Pid)
	defer func(before string) { *kind = before }(*kind)
	for _, c := range []struct {
		what     string
		kind     string
		word     uint32
		children []*exec.Cmd
		attached int
		want     bool
	}{
		{"normal, free", "normal", 0, nil, 1, false},
		{"normal, and nobody could have it", "normal", 2, nil, 1, true},
		{"normal, and a stranger may have it", "normal", 2, nil, 2, false},
		{"normal, and a child works", "normal", 2, child, 2, false},
		{"robust, free", "robust", 0, nil, 1, false},
		{"robust, its owner died", "robust", ownerDied, nil, 1, false},
		{"robust, its owner died, a child lives", "robust",
			ownerDied | waiters, child, 2, false},
		{"robust, and nobody has its number", "robust", pid, nil, 1, true},
		{"robust, and a child has it", "robust",
			pid | waiters, child, 2, false},
		{"robust, and no child has it", "robust", pid + 1, child, 2, true},
		{"robust, and a stranger may have it", "robust", pid, nil, 2, false},
	} {
		t.Run(c.what, func(t *testing.T) {
			shmid, err := unix.SysvShmGet(unix.IPC_PRIVATE, size, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.SysvShmCtl(shmid, unix.IPC_RMID, nil)
			var s *shared
			for range c.attached {
				mem, err := unix.SysvShmAttach(shmid, 0, 0)
				if err != nil {
					t.Fatal(err)
				}
				defer unix.SysvShmDetach(mem)
				s = view(mem)
			}
			*kind = c.kind
			s.mutex.word.Store(c.word)
			f := newFamily(t.Context(), s, shmid)
			defer f.cancel(nil)
			f.told = true // this test need not see that it waits
			f.children = c.children
			if err := f.stuck(); err != nil {
				t.Errorf("at the first look: %v", err)
			}
			f.since = f.since.Add(-time.Minute)
			if err := f.stuck(); err != nil {
				t.Errorf("at the only look after a while: %v", err)
			}
			if err := f.stuck(); (err != nil) != c.want {
				t.Errorf("at the next look: %v", err)
			}
			s.counter++
			if err := f.stuck(); err != nil {
				t.Errorf("after something moved: %v", err)
			}
			f.since = f.since.Add(-time.Minute)
			if err := f.stuck(); err != nil {
				t.Errorf("at the only look after that: %v", err)
			}
		})
	}
}

// The main thread of this process sleeps, and another thread runs this test. So
// the process does not sleep.
func TestSleeps(t *testing.T) {
	if sleeps(os.Getpid()) {
		t.Error("this process is said to sleep")
	}
}

// Where pidfd_open fails, a process that kill finds counts as running.
func TestRuns(t *testing.T) {
	const nobody = 1 << 30 // no pid is so high
	me := int32(os.Getpid())
	if !runs(me) || runs(0) || runs(-1) || runs(nobody) {
		t.Error("this process does not run, or a pid that nobody has does")
	}
	// The pid of a killed process may be the number of a thread by now.
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil || len(threads) < 2 {
		t.Fatalf("%d threads, and %v", len(threads), err)
	}
	for _, thread := range threads {
		tid, _ := strconv.Atoi(thread.Name())
		if tid != os.Getpid() && runs(int32(tid)) {
			t.Errorf("thread %d counts as a process", tid)
		}
	}

	// It leaves no descriptor open, however often it is called.
	before, _ := os.ReadDir("/proc/self/fd")
	for range 10 {
		runs(int32(os.Getpid()))
	}
	after, _ := os.ReadDir("/proc/self/fd")
	if len(after) >= len(before)+10 {
		t.Errorf("%d descriptors, and then %d", len(before), len(after))
	}

	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	none := unix.Rlimit{Max: limit.Max} // so pidfd_open gets no descriptor
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	mine, others := runs(me), runs(nobody)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if !mine || others {
		t.Errorf("without pidfd_open: this process runs: %t, one that is "+
			"gone: %t", mine, others)
	}
}
