//go:build linux

// Package semaphores_test shows what the tutorials state about signalling and
// waiting between processes, and about its price, or what is true instead.
// The table at the end of README.md names a test for each statement.
package semaphores_test

import (
	"context"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// More than SHMMAX is EINVAL, and so is more than an existing segment has.
// Size 0 opens any segment, so look at its size then.
func TestStatement07TooLarge(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	key := newKey(t)
	id := createSegment(t, key, 1000)
	_, err := unix.SysvShmGet(key, 1001, 0)
	want(t, "more than exists", err, unix.EINVAL)
	_, err = unix.SysvShmGet(key, 999, 0) // less is no error
	want(t, "less than exists", err, nil)
	opened, err := unix.SysvShmGet(key, 0, 0)
	want(t, "size 0", err, nil)
	var ds unix.SysvShmDesc
	_, err = unix.SysvShmCtl(opened, unix.IPC_STAT, &ds)
	want(t, "IPC_STAT", err, nil)
	if opened != id || ds.Segsz != 1000 {
		t.Errorf("segment %d has %d bytes, want %d with 1000", opened,
			ds.Segsz, id)
	}
	setLimit(t, "shmmax", 8192)
	newSegment(t, 8192)
	_, err = unix.SysvShmGet(unix.IPC_PRIVATE, 8193, unix.IPC_CREAT|0o600)
	want(t, "more than SHMMAX", err, unix.EINVAL)
}

// A signal can tell the other process that there is something to read.
func TestStatement44Signal(t *testing.T) {
	other := newPeer(t, func(test conn) {
		mem := attach(t, test.hear())
		c := make(chan os.Signal, 1)
		signal.Notify(c, unix.SIGUSR1)
		test.say(0)
		<-c
		test.say(int(*firstWord(mem)))
	})
	id := newSegment(t, 4)
	mem := attach(t, id)
	other.say(id)
	other.hear()
	*firstWord(mem) = 44
	other.cmd.Process.Signal(unix.SIGUSR1)
	if got := other.hear(); got != 44 {
		t.Errorf("after the signal it reads %d, want 44", got)
	}
}

// In the second pair of programs cnt = 0 marks the end of the data, and -1 an
// error. This test is the writer.
func TestStatement48EndAndError(t *testing.T) {
	reader := build(t, "reader") + "/reader"
	for _, c := range []struct {
		counts []int32 // one block after the other
		fails  bool
		says   string
	}{
		{[]int32{3, 2, 0}, false, "Reader: 2 transfers, 5 bytes"},
		{[]int32{3, -1}, true, "the writer stopped early"},
	} {
		key, semKey := newKey(t), newKey(t)
		mem := attach(t, createSegment(t, key, 1028))
		sem := createSemaphores(t, semKey, 2)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, reader, "-key", strconv.Itoa(key),
			"-semkey", strconv.Itoa(semKey))
		var stderr strings.Builder
		cmd.Stderr = &stderr
		want(t, "start", cmd.Start(), nil)
		for _, cnt := range c.counts {
			*firstWord(mem) = cnt
			want(t, "let the reader read", tryAdd(sem, 1, 1), nil)
			if cnt != -1 {
				waitForTurn(t, sem)
			}
		}
		err := cmd.Wait()
		said := strings.Contains(stderr.String(), c.says)
		if (err != nil) != c.fails || !said {
			t.Errorf("cnt %d: %v, %s", c.counts, err, &stderr)
		}
	}
}

// waitForTurn takes semaphore 0 once the reader has given it.
func waitForTurn(t *testing.T, sem int) {
	t.Helper()
	err := tryAdd(sem, 0, -1)
	for end := time.Now().Add(patience); (err == unix.EAGAIN ||
		err == unix.EINTR) && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
		err = tryAdd(sem, 0, -1)
	}
	want(t, "wait for the reader", err, nil)
}
