//go:build linux

package main_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// The tests in this file show that two statements of the tutorial are true.
// The table at the end of README.md names them.

// ftok of the same path and id gives every process the same key. Processes
// that know nothing else of each other meet by it.
func TestStatement03StrangersMeetByFtok(t *testing.T) {
	const path = "." // both processes have the same working directory
	other := newPeer(t, func(test conn) {
		key, err := ftok(path, test.hear())
		must(t, "ftok", err)
		test.say(key)
		id, err := unix.SysvShmGet(key, 0, 0)
		must(t, "shmget", err)
		test.say(id)
	})
	projectID, key, id := 0, 0, 0
	err := error(unix.EEXIST)
	for err == unix.EEXIST && projectID < 255 { // find a key that is free
		projectID++
		key, err = ftok(path, projectID)
		must(t, "ftok", err)
		id, err = unix.SysvShmGet(key, 1, unix.IPC_CREAT|unix.IPC_EXCL|0o600)
	}
	must(t, "shmget", err)
	t.Cleanup(func() { unix.SysvShmCtl(id, unix.IPC_RMID, nil) })
	other.say(projectID)
	if theirs := other.hear(); theirs != key {
		t.Errorf("the other process has key %#x, want %#x", theirs, key)
	}
	if found := other.hear(); found != id {
		t.Errorf("the other process finds segment %d, want %d", found, id)
	}
}

// ftok is the function of the C library. It makes a key of the low bits of
// the inode number, of the device number and of id. See ftok(3).
func ftok(path string, id int) (key int, err error) {
	var st unix.Stat_t
	err = unix.Stat(path, &st)
	return int(st.Ino&0xffff) | int(st.Dev&0xff)<<16 | id&0xff<<24, err
}

// A pthread mutex serialises if it lies in the segment and is made for
// several processes: three of them lose none of 3000 additions.
func TestStatement42MutexInTheSegment(t *testing.T) {
	program := build(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "-n", "1000", "-procs", "3",
		"-key", strconv.Itoa(newKey(t)))
	text, err := cmd.CombinedOutput()
	must(t, cmd.String()+"\n"+string(text), err)
	m := regexp.MustCompile(
		`(?m)^Final counter = (\d+) \(expected (\d+)\)$`).FindSubmatch(text)
	if m == nil || string(m[1]) != string(m[2]) || string(m[1]) != "3000" {
		t.Errorf("want 3000\n%s", text)
	}
}

// build builds the program of this lesson.
func build(t testing.TB) (program string) {
	t.Helper()
	program = filepath.Join(t.TempDir(), "mutex")
	args := []string{"build", "-buildvcs=false", "-o", program}
	race := debug.BuildSetting{Key: "-race", Value: "true"}
	info, _ := debug.ReadBuildInfo()
	if slices.Contains(info.Settings, race) { // as these tests
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, ".")...)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, text)
	}
	return program
}

var keysTried = 0

// newKey returns a key that no segment has.
func newKey(t testing.TB) int {
	t.Helper()
	for {
		keysTried++
		key := 1<<30 | os.Getpid()<<8 | keysTried&0xff
		if _, err := unix.SysvShmGet(key, 0, 0); err == unix.ENOENT {
			return key
		} else if keysTried > 0xff {
			t.Fatalf("shmget key %#x: %v: no key is free", key, err)
		}
	}
}
