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
	"unsafe"

	"golang.org/x/sys/unix"
)

// The offsets are the contract with programs in other languages.
func TestLayout(t *testing.T) {
	var s Shared
	for field, at := range map[string][2]uintptr{
		"cnt":      {unsafe.Offsetof(s.Cnt), 0},
		"complete": {unsafe.Offsetof(s.Complete), 4},
		"buf":      {unsafe.Offsetof(s.Buf), 8},
		"the end":  {unsafe.Sizeof(s), Size},
	} {
		if at[0] != at[1] {
			t.Errorf("%s is at %d, not %d", field, at[0], at[1])
		}
	}
}

func TestView(t *testing.T) {
	mem := make([]byte, Size)
	View(mem).Cnt.Store(0x01020304)
	View(mem).Buf[BlockSize] = 'x'
	if mem[0] != 4 || mem[3] != 1 || mem[Size-1] != 'x' {
		t.Errorf("% x … %c", mem[:4], mem[Size-1])
	}
	defer func() {
		if recover() == nil {
			t.Error("View takes a segment that is too short")
		}
	}()
	View(mem[:Size-1])
}

func TestBlock(t *testing.T) {
	s := new(Shared)
	want := func(wantText string, wantWhole bool) {
		t.Helper()
		text, whole, err := s.Block()
		if text != wantText || whole != wantWhole || err != nil {
			t.Errorf("block %q, %t, %v, want %q", text, whole, err, wantText)
		}
	}
	want("", false)
	s.Complete.Store(2)
	if n := s.Fill(0); n != BlockSize || s.Complete.Load() != 0 {
		t.Errorf("filled %d bytes, complete %d", n, s.Complete.Load())
	}
	a := strings.Repeat("A", BlockSize)
	want(a, true)
	s.Buf[BlockSize-1] = 'B' // as while the writer fills Buf
	want(a[1:]+"B", false)
	s.Cnt.Store(BlockSize - 1)
	want(a[1:], true)
	s.Cnt.Store(0)
	want("", false)
}

// Of two writers that want the same empty segment, one gets it.
func TestClaim(t *testing.T) {
	s := new(Shared)
	if !s.Claim(t.Context(), true) || s.Claim(t.Context(), true) {
		t.Error("not claimed, or claimed twice")
	}
	// If the segment existed already, its creator may be about to write.
	other := new(Shared)
	time.AfterFunc(300*time.Millisecond, func() { other.Fill(0) })
	if other.Claim(t.Context(), false) {
		t.Error("claimed, although its creator was about to write")
	}
	// A signal ends that wait.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	begun, empty := time.Now(), new(Shared)
	if empty.Claim(ctx, false) || empty.Complete.Load() != 0 ||
		time.Since(begun) > time.Second {
		t.Error("claimed after a signal, or late")
	}
	for name, use := range map[string]func(*Shared){
		"cnt":      func(s *Shared) { s.Cnt.Store(-1) },
		"complete": func(s *Shared) { s.Complete.Store(1) },
		"buf":      func(s *Shared) { s.Buf[0] = 'A' },
	} {
		s := new(Shared)
		use(s)
		before := s.Complete.Load()
		if s.Claim(t.Context(), true) || s.Complete.Load() != before {
			t.Errorf("%s is not 0: the segment was claimed or changed", name)
		}
	}
}

func TestLetters(t *testing.T) {
	s := new(Shared)
	for i, want := range map[uint]byte{0: 'A', 25: 'Z', 26: 'A', 27: 'B'} {
		if s.Fill(i); s.Buf[0] != want || s.Buf[BlockSize] != 0 {
			t.Errorf("block %d is of %c, not %c", i, s.Buf[0], want)
		}
	}
	for _, m := range []struct {
		last, now byte
		want      int
	}{
		{0, 'A', 0}, {0, 'D', 3}, {'A', 'B', 0}, {'A', 'D', 2},
		{'Z', 'A', 0}, {'Y', 'B', 2}, {0, 'x', 0}, {'Z', '[', 0},
	} {
		if got := Missed(m.last, m.now); got != m.want {
			t.Errorf("%q, %q: missed %d, want %d", m.last, m.now, got, m.want)
		}
	}
}

// Whatever a segment contains, Block returns a block, none, or an error.
func FuzzBlock(f *testing.F) {
	f.Add(int32(0), []byte{})
	f.Add(int32(-1), []byte("A"))
	f.Add(int32(BlockSize), []byte(strings.Repeat("Z", BlockSize)))
	f.Add(int32(BlockSize+1), []byte(strings.Repeat("Z", BlockSize+1)))
	f.Add(int32(-1<<31), []byte{0, 255})
	f.Fuzz(func(t *testing.T, cnt int32, buf []byte) {
		s := new(Shared)
		copy(s.Buf[:], buf)
		s.Cnt.Store(cnt)
		text, whole, err := s.Block()
		switch {
		case err != nil:
			if text != "" || whole || cnt >= 0 && cnt <= BlockSize {
				t.Errorf("cnt %d: %q, %t, %v", cnt, text, whole, err)
			}
		case len(text) != int(cnt):
			t.Errorf("cnt %d: %q", cnt, text)
		case whole && strings.Trim(text, text[:1]) != "":
			t.Errorf("not whole: %q", text)
		case whole:
			if n := Missed('A', text[0]); n < 0 || n > 25 {
				t.Errorf("missed %d", n)
			}
		}
	})
}

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
	key := 0x5e600000 + os.Getpid()
	if err := RemoveLeftover(ctx, key); err != nil {
		t.Errorf("no segment: %v", err)
	}
	if _, err := WaitForWriter(ctx, key); err != interrupted {
		t.Errorf("waiting: %v", err)
	}
	shmid, err := unix.SysvShmGet(key, Size, unix.IPC_CREAT|unix.IPC_EXCL|0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.SysvShmCtl(shmid, unix.IPC_RMID, nil)
	if err := RemoveLeftover(ctx, key); err != interrupted {
		t.Errorf("waiting for its creator to attach it: %v", err)
	}
	pid, err := WaitForWriter(ctx, key)
	if pid != int32(os.Getpid()) || err != nil {
		t.Errorf("writer %d, %v", pid, err)
	}
	if Gone(shmid, int32(os.Getpid())) {
		t.Error("this process has gone")
	}
	mem, err := unix.SysvShmAttach(shmid, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.SysvShmDetach(mem)
	if err := RemoveLeftover(t.Context(), key); err != ErrAttached {
		t.Errorf("it is attached: %v", err)
	}
}
