//go:build linux

package shm_test

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A pointer means nothing in another process, which has the segment at
// another address. An offset does.
func TestStatement46OffsetsNotPointers(t *testing.T) {
	parallel(t)
	id := newSegment(t, 4096)
	mem := attach(t, id, 0)
	const offset = 46
	pointer := addressOf(mem) + offset
	other := newPeer(t)
	base := other.attach(id, mem)
	if base+offset == pointer {
		t.Errorf("the pointer %#x holds there too", pointer)
	}
	mem[offset] = 'x'
	if got := other.load(offset) & 0xff; got != 'x' {
		t.Errorf("at the offset there is %q, want x", got)
	}
}

// Any part can be changed in place, and the rest stays as it is.
func TestStatement47RandomAccess(t *testing.T) {
	parallel(t)
	id := newSegment(t, 1<<20)
	mem := attach(t, id, 0)
	for i := range mem {
		mem[i] = byte(i)
	}
	before := bytes.Clone(mem)
	other := newPeer(t)
	other.attach(id, nil)
	other.store(500_000, 47)
	*int32At(before, 500_000) = 47
	if !bytes.Equal(mem, before) {
		t.Error("something else has changed")
	}
}

// In lesson 03, cnt = 0 is the end of the data, and -1 an error. The test is
// the writer.
func TestStatement48EndAndError(t *testing.T) {
	parallel(t)
	for _, c := range []struct {
		counts []int32 // one block after the other
		fails  bool
		says   string
	}{
		{[]int32{3, 2, 0}, false, "Reader: 2 transfers, 5 bytes"},
		{[]int32{3, -1}, true, "the writer stopped before the end"},
	} {
		key, semKey := newKey(), newKey()
		mem := attach(t, newSegmentMode(t, key, 1028, 0o600), 0)
		sem := newSemaphore(t, semKey, 2)
		cmd := exec.Command(filepath.Join(built, "03-producer-consumer", "reader"),
			"-key", strconv.Itoa(key), "-semkey", strconv.Itoa(semKey))
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		want(t, "start", cmd.Start(), nil)
		defer cmd.Process.Kill()
		for _, cnt := range c.counts {
			*int32At(mem, 0) = cnt
			want(t, "let it read", semop(sem, 1, 1, 0), nil)
			if cnt != -1 {
				awaitTurn(t, sem)
			}
		}
		err := cmd.Wait()
		if (err != nil) != c.fails || !strings.Contains(stderr.String(), c.says) {
			t.Errorf("%d: %v, %s", c.counts, err, &stderr)
		}
	}
}

// awaitTurn takes semaphore 0, once the reader has given it.
func awaitTurn(t *testing.T, sem int) {
	t.Helper()
	err := semop(sem, 0, -1, unix.IPC_NOWAIT)
	for end := time.Now().Add(untilTime); err == unix.EAGAIN && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
		err = semop(sem, 0, -1, unix.IPC_NOWAIT)
	}
	want(t, "wait for the reader", err, nil)
}

// "atexit is enough to clean up": it is, for a program that ends by itself.
// A signal that nobody catches ends it without.
func TestStatement53CleanUpOnSignal(t *testing.T) {
	parallel(t)
	for _, c := range []struct {
		end  func(*peer)
		left bool
	}{
		{func(p *peer) { p.end() }, false},
		{func(p *peer) { p.kill(unix.SIGTERM) }, true},
	} {
		key := newKey()
		id := newSegmentMode(t, key, 1, 0o600)
		other := newPeer(t)
		other.ask("clean-up-at-the-end", id)
		c.end(other)
		if _, err := unix.SysvShmGet(key, 0, 0); (err == nil) != c.left {
			t.Errorf("the segment is left: %v, want %v", err == nil, c.left)
		}
	}
}
