//go:build linux

package shm_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// Shared memory has no synchronisation of its own: of two that add 1 at the
// same time, one is lost, and a reader sees half an update.
func TestStatement39LostUpdate(t *testing.T) {
	parallel(t)
	id := newSegment(t, 12)
	mem := attach(t, id, 0)
	other := newPeer(t)
	other.attach(id, nil)

	ours := *int32At(mem, 0)    // 0
	theirs := other.load(0)     // 0
	*int32At(mem, 0) = ours + 1 // 1
	other.store(0, theirs+1)    // 1 again
	if got := *int32At(mem, 0); got != 1 {
		t.Errorf("0 and 1 and 1 are %d, want 1: one lost", got)
	}

	// Two fields that are to be equal, and a writer between the two.
	other.store(4, 39)
	if a, b := *int32At(mem, 4), *int32At(mem, 8); a != 39 || b != 0 {
		t.Errorf("a reader sees %d and %d, want half an update", a, b)
	}
	other.store(8, 39)
}

// A System V semaphore lets one process after the other change a counter.
func TestStatement40SemaphoreSerialises(t *testing.T) {
	parallel(t)
	wantCounts(t, "-sync", "sysv", "-semkey", strconv.Itoa(newKey()))
}

// A POSIX named semaphore does.
func TestStatement41NamedSemaphore(t *testing.T) {
	parallel(t)
	name := "/" + filepath.Base(newName())
	wantCounts(t, "-sync", "posix", "-name", name)
}

// Atomics suffice for a counter.
func TestStatement43Atomics(t *testing.T) {
	parallel(t)
	wantCounts(t, "-sync", "atomic")
}

// wantCounts runs three processes of lesson 04 at once. Each must count one
// further than the one before it.
func wantCounts(t *testing.T, args ...string) {
	t.Helper()
	program := filepath.Join(built, "04-semaphore-counter", "04-semaphore-counter")
	args = append(args, "-key", strconv.Itoa(newKey()))
	rm := exec.Command(program, append(slices.Clone(args), "-rm")...)
	defer rm.Run()
	work := append(slices.Clone(args), "-work", "50ms")
	var outputs [3]string
	var all sync.WaitGroup
	for i := range outputs {
		all.Go(func() {
			cmd := exec.Command(program, work...)
			out, err := cmd.CombinedOutput()
			if outputs[i] = string(out); err != nil {
				t.Errorf("%v: %v\n%s", cmd, err, out)
			}
		})
	}
	all.Wait()
	var counts []string
	for _, m := range regexp.MustCompile(`Updated count to (\d+)`).
		FindAllStringSubmatch(fmt.Sprint(outputs), -1) {
		counts = append(counts, m[1])
	}
	slices.Sort(counts)
	if !slices.Equal(counts, []string{"1", "2", "3"}) {
		t.Errorf("the counts are %v, want 1, 2 and 3\n%s", counts, outputs)
	}
}

// A pthread mutex serialises, if it lies in the segment and is made for
// several processes: lesson 05.
func TestStatement42MutexInTheSegment(t *testing.T) {
	parallel(t)
	cmd := exec.Command(filepath.Join(built, "05-pthread-style-mutex", "05-pthread-style-mutex"),
		"-n", "1000", "-procs", "3", "-key", strconv.Itoa(newKey()))
	out, err := cmd.CombinedOutput()
	want(t, cmd.String()+"\n"+string(out), err, nil)
	m := regexp.MustCompile(`(?m)^Final counter = (\d+) \(expected (\d+)\)$`).FindStringSubmatch(string(out))
	if m == nil || m[1] != m[2] || m[1] != "3000" {
		t.Errorf("want 3000\n%s", out)
	}
}

// A signal can say that there is something to read.
func TestStatement44Signal(t *testing.T) {
	parallel(t)
	id := newSegment(t, 4)
	mem := attach(t, id, 0)
	other := newPeer(t)
	other.attach(id, nil)
	if ready := other.try("load-on-signal", 0); ready != "ready" {
		t.Fatal(ready)
	}
	*int32At(mem, 0) = 44
	other.cmd.Process.Signal(unix.SIGUSR1)
	if got := other.answer(); got != "44" {
		t.Errorf("after the signal it reads %s, want 44", got)
	}
}

// "Every process sets the semaphore to 1 at its start": then each frees the
// lock that another holds. Only who makes the set gives it a value.
func TestStatement45NotAtEveryStart(t *testing.T) {
	parallel(t)
	id := newSemaphore(t, newKey(), 1)
	semctl(id, semSetVal, 1)
	want(t, "we lock", semop(id, 0, -1, unix.IPC_NOWAIT), nil)

	other := newPeer(t)
	if answer := other.try("take", id); answer != unix.EAGAIN.Error() {
		t.Errorf("the other locks: %s, want %v", answer, unix.EAGAIN)
	}
	semctl(id, semSetVal, 1) // as at the start of the other
	if answer := other.try("take", id); answer != "0" {
		t.Errorf("after SETVAL: %s, want two that hold the lock", answer)
	}
}
