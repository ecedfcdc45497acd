//go:build linux && (amd64 || arm64 || riscv64)

package transfer

import (
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The offsets are the contract with programs in other languages.
func TestLayout(t *testing.T) {
	var b Shared
	for field, at := range map[string][2]uintptr{
		"cnt":     {unsafe.Offsetof(b.Cnt), 0},
		"buf":     {unsafe.Offsetof(b.Buf), 4},
		"the end": {unsafe.Sizeof(b), Size},
	} {
		if at[0] != at[1] {
			t.Errorf("%s is at %d, not %d", field, at[0], at[1])
		}
	}
	if Write != 0 || Read != 1 {
		t.Errorf("semaphores %d and %d", Write, Read)
	}
}

// newSet returns a set of two semaphores that goes away with the test.
func newSet(t *testing.T, key int) (semid int) {
	t.Helper()
	semid, err := Semget(key, 2, unix.IPC_CREAT|unix.IPC_EXCL|0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { Semctl(semid, 0, unix.IPC_RMID, 0) })
	return semid
}

func TestView(t *testing.T) {
	mem := make([]byte, Size)
	View(mem).Cnt.Store(0x01020304)
	View(mem).Buf[BufSize-1] = 'x'
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

var errNobody = errors.New("nobody there")

func TestSemop(t *testing.T) {
	semid := newSet(t, unix.IPC_PRIVATE)
	look := func() error { return errNobody }
	if err := Semop(semid, Read, -1, look); err != errNobody {
		t.Errorf("P of 0: %v", err)
	}
	if err := Semop(semid, Read, +1, look); err != nil {
		t.Errorf("V: %v", err)
	}
	if err := Semop(semid, Read, -1, look); err != nil {
		t.Errorf("P of 1: %v", err)
	}
	// The other process makes V and ends, just before this one looks.
	err := Semop(semid, Read, -1, func() error {
		Semctl(semid, Read, SETVAL, 1)
		return errNobody
	})
	if value, _ := Semctl(semid, Read, GETVAL, 0); err != nil || value != 0 {
		t.Errorf("V just before its end: %v, and the value is %d", err, value)
	}
	if pid, err := Semctl(semid, Read, GETPID, 0); pid != os.Getpid() {
		t.Errorf("used by %d, %v", pid, err)
	}
	Semctl(semid, 0, unix.IPC_RMID, 0)
	if err := Semop(semid, Read, -1, look); !errors.Is(err, unix.EIDRM) {
		t.Errorf("P of a set that is gone: %v", err)
	}
}

// Signals interrupt semop more often than every 200 ms. Semop still calls
// look.
func TestSemopInterrupted(t *testing.T) {
	semid := newSet(t, unix.IPC_PRIVATE)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	thread, done := unix.Gettid(), make(chan bool)
	go func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(time.Millisecond):
				unix.Tgkill(os.Getpid(), thread, unix.SIGURG)
			}
		}
	}()
	end := time.AfterFunc(20*time.Second, func() {
		Semctl(semid, 0, unix.IPC_RMID, 0)
	})
	looks := 0
	err := Semop(semid, Read, -1, func() error {
		if looks++; looks < 3 {
			return nil
		}
		return errNobody
	})
	close(done)
	if end.Stop(); err != errNobody {
		t.Errorf("looked %d times: %v", looks, err)
	}
}

func TestRemoveLeftover(t *testing.T) {
	key := 0x5e700000 + os.Getpid()
	if err := RemoveLeftover(t.Context(), key); err != nil {
		t.Errorf("no set: %v", err)
	}
	semid := newSet(t, key)
	Semctl(semid, Write, SETVAL, 1)
	err := RemoveLeftover(t.Context(), key)
	if err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("this process runs: %v", err)
	}
	if _, err := Semctl(semid, Write, GETVAL, 0); err != nil {
		t.Errorf("it was removed: %v", err)
	}
}
