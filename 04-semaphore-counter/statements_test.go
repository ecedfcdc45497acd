//go:build linux

package main_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The tests in this file show what the tutorial states about two processes
// that change the same data, or what is true instead. The table at the end of
// README.md names a test for each statement.

// Shared memory has no synchronisation of its own. Of two processes that add
// 1 at the same time, one loses its addition. A reader sees half an update.
func TestStatement39LostUpdate(t *testing.T) {
	other := newPeer(t, func(test conn) {
		mem := attach(t, test.hear())
		count := *int32At(mem, 0)
		test.say(int(count))
		test.hear()
		*int32At(mem, 0) = count + 1
		test.say(0)
		test.hear()
		*int32At(mem, 4) = 39 // it stores 39 at 8 later
		test.say(0)
		test.hear()
		*int32At(mem, 8) = 39
	})
	id := newSegment(t, 12)
	mem := attach(t, id)
	other.say(id)

	ours := *int32At(mem, 0) // 0
	if theirs := other.hear(); theirs != 0 {
		t.Errorf("the other process reads %d, want 0", theirs)
	}
	*int32At(mem, 0) = ours + 1 // 1
	other.say(0)
	other.hear() // the other process has stored 1 again
	if got := *int32At(mem, 0); got != 1 {
		t.Errorf("0 plus 1 plus 1 is %d, want 1: one is lost", got)
	}

	// The two fields at 4 and 8 should be equal at all times.
	other.say(0)
	other.hear()
	if a, b := *int32At(mem, 4), *int32At(mem, 8); a != 39 || b != 0 {
		t.Errorf("a reader sees %d and %d, want half an update", a, b)
	}
	other.say(0)
}

// With a System V semaphore one process after the other changes the counter.
func TestStatement40SemaphoreSerialises(t *testing.T) {
	wantCounts(t, "-sync", "sysv", "-semkey", strconv.Itoa(newKey(t)))
}

// The same with a POSIX named semaphore.
func TestStatement41NamedSemaphore(t *testing.T) {
	name := fmt.Sprintf("shm-by-example-%d", newKey(t))
	if _, err := os.Lstat("/dev/shm/sem." + name); !os.IsNotExist(err) {
		t.Fatalf("/dev/shm/sem.%s: %v: it should not exist", name, err)
	}
	wantCounts(t, "-sync", "posix", "-name", "/"+name)
}

// Atomics suffice for a counter.
func TestStatement43Atomics(t *testing.T) {
	wantCounts(t, "-sync", "atomic")
}

// wantCounts runs the program three times at once. Each process must store a
// count that is one higher than the one before.
func wantCounts(t *testing.T, args ...string) {
	t.Helper()
	program, err := build()
	want(t, "build", err, nil)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	args = append(args, "-key", strconv.Itoa(newKey(t)))
	defer func() {
		rm := exec.Command(program, append(slices.Clone(args), "-rm")...)
		if text, err := rm.CombinedOutput(); err != nil {
			t.Errorf("%v: %v\n%s", rm, err, text)
		}
	}()
	work := append(slices.Clone(args), "-work", "50ms")
	var outputs [3]string
	var all sync.WaitGroup
	for i := range outputs {
		all.Go(func() {
			cmd := exec.CommandContext(ctx, program, work...)
			text, err := cmd.CombinedOutput()
			if outputs[i] = string(text); err != nil {
				t.Errorf("%v: %v\n%s", cmd, err, text)
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

var built string // the directory of the program, "" until a test builds it

// build builds the program of this lesson, once for all tests.
var build = sync.OnceValues(func() (program string, err error) {
	if built, err = os.MkdirTemp("", "semaphore-counter-"); err != nil {
		return "", err
	}
	program = filepath.Join(built, "counter")
	args := []string{"build", "-buildvcs=false", "-o", program}
	race := debug.BuildSetting{Key: "-race", Value: "true"}
	info, _ := debug.ReadBuildInfo()
	if slices.Contains(info.Settings, race) { // as these tests
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, ".")...)
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%v: %w\n%s", cmd, err, text)
	}
	return program, nil
})

func TestMain(m *testing.M) {
	status := m.Run()
	if built != "" {
		os.RemoveAll(built)
	}
	os.Exit(status)
}

// "Every process sets the semaphore to 1 at its start": then each process
// unlocks the lock that another holds. Only the process that creates the set
// may give it a value.
func TestStatement45NotAtEveryStart(t *testing.T) {
	lock := func(id int) syscall.Errno { // it does not wait
		op := [3]int16{0, -1, unix.IPC_NOWAIT}
		_, _, errno := unix.Syscall(unix.SYS_SEMOP, uintptr(id),
			uintptr(unsafe.Pointer(&op)), 1)
		return errno
	}
	other := newPeer(t, func(test conn) {
		for id := test.hear(); ; id = test.hear() {
			test.say(int(lock(id)))
		}
	})
	set, _, errno := unix.Syscall(unix.SYS_SEMGET, unix.IPC_PRIVATE, 1,
		unix.IPC_CREAT|0o600)
	want(t, "semget", errno, unix.Errno(0))
	const setVal = 16 // SETVAL in <linux/sem.h>
	semctl := func(command, value uintptr) {
		unix.Syscall6(unix.SYS_SEMCTL, set, 0, command, value, 0, 0)
	}
	t.Cleanup(func() { semctl(unix.IPC_RMID, 0) })
	semctl(setVal, 1)
	want(t, "we lock", lock(int(set)), unix.Errno(0))

	other.say(int(set))
	want(t, "the other process locks", unix.Errno(other.hear()), unix.EAGAIN)
	semctl(setVal, 1) // as if the other process had just started
	other.say(int(set))
	want(t, "it locks after SETVAL, too", unix.Errno(other.hear()),
		unix.Errno(0))
}
