//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"runtime"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func onOneThread(t testing.TB) {
	t.Helper()
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
}

func noWait() error { return unix.ETIMEDOUT }

// Perhaps unlock has woken only the waiter that gives up. Another waiter may be
// a C program, which sleeps without a time limit. So the first must wake it.
func TestGiveUp(t *testing.T) {
	for name, c := range map[string]struct {
		held uint32
		lock func(*mutex, func() error) error
	}{
		"normal": {2, (*mutex).lock},
		"robust": {1 | waiters, func(m *mutex, stuck func() error) error {
			_, err := robust{m}.lock(stuck)
			return err
		}},
	} {
		var m mutex
		m.word.Store(c.held)
		woken := make(chan unix.Errno)
		err := c.lock(&m, func() error {
			go func() {
				errno := unix.EINTR // signals of the Go runtime
				for errno == unix.EINTR {
					_, _, errno = unix.Syscall6(unix.SYS_FUTEX,
						uintptr(unsafe.Pointer(&m.word)), 0,
						uintptr(c.held), 0, 0, 0)
				}
				woken <- errno
			}()
			for { // until it sleeps: the call wakes none, and counts one
				const cmpRequeue = 4
				n, _, errno := unix.Syscall6(unix.SYS_FUTEX,
					uintptr(unsafe.Pointer(&m.word)), cmpRequeue, 0, 1,
					uintptr(unsafe.Pointer(&m.word)), uintptr(c.held))
				if errno != 0 {
					t.Fatalf("%s: futex: %v", name, errno)
				} else if n == 1 {
					return unix.ETIMEDOUT
				}
			}
		})
		if err != unix.ETIMEDOUT {
			t.Fatalf("%s: %v", name, err)
		}
		select {
		case errno := <-woken:
			if errno != 0 {
				t.Errorf("%s: futex: %v", name, errno)
			}
		case <-time.After(30 * time.Second):
			t.Errorf("%s: the other waiter sleeps for ever", name)
		}
	}
}

// While a mutex is locked, and afterwards, its fields are as in glibc.
func TestMutex(t *testing.T) {
	var m mutex
	if err := m.lock(noWait); err != nil {
		t.Fatal(err)
	}
	if m.word.Load() != 1 || m.owner != self || m.nusers != 1 {
		t.Errorf("locked: %+v", &m)
	}
	if err := m.lock(noWait); err != unix.ETIMEDOUT || m.word.Load() != 2 {
		t.Errorf("locked again: %v, word %d", err, m.word.Load())
	}
	m.unlock()
	if m.word.Load() != 0 || m.owner != 0 || m.nusers != 0 {
		t.Errorf("unlocked: %+v", &m)
	}
}

// The next owner locks a robust mutex whose owner has died. It declares the
// mutex consistent. If it does not, nobody can use the mutex any more.
func TestRobust(t *testing.T) {
	onOneThread(t)
	if err := registerRobust(); err != nil {
		t.Skip(err) // an emulator
	}
	var m mutex
	r := robust{&m}
	if died, err := r.lock(noWait); died || err != nil {
		t.Fatal(died, err)
	}
	if m.word.Load() != uint32(self) || m.owner != self || m.nusers != 1 {
		t.Errorf("locked: %+v", &m)
	}
	if _, err := r.lock(noWait); err != unix.ETIMEDOUT {
		t.Errorf("locked again: %v", err)
	}
	if m.word.Load() != uint32(self)|waiters {
		t.Errorf("waited for: word %#x", m.word.Load())
	}
	m.word.Store(ownerDied | waiters) // the kernel does this
	died, err := r.lock(noWait)
	if !died || err != nil || m.owner != inconsistent {
		t.Errorf("after a death: %v, %v, owner %#x", died, err, m.owner)
	}
	if m.word.Load() != uint32(self)|waiters {
		t.Errorf("the waiters are forgotten: word %#x", m.word.Load())
	}
	r.consistent()
	r.unlock()
	if m.word.Load() != 0 || m.owner != 0 || m.nusers != 0 || m.next != 0 {
		t.Errorf("unlocked: %+v", &m)
	}
	end := uintptr(unsafe.Pointer(&robustList))
	if robustList.head != end || robustList.pending != 0 {
		t.Errorf("the kernel's list: %+v", robustList)
	}

	m.word.Store(ownerDied)
	if died, _ := r.lock(noWait); !died {
		t.Error("a death was not noticed")
	}
	r.unlock() // without consistent
	for range 2 {
		if _, err := r.lock(noWait); err != errNotRecoverable {
			t.Errorf("not recoverable: %v", err)
		}
		if m.word.Load() != 0 {
			t.Errorf("not recoverable, and word %#x", m.word.Load())
		}
	}
}
