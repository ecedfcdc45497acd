//go:build linux

package main

import (
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func onOneThread(t testing.TB) {
	t.Helper()
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
}

func noWait() error { return unix.ETIMEDOUT }

// What a mutex holds while it is locked and afterwards, as glibc has it.
func TestMutex(t *testing.T) {
	var m mutex
	if err := m.lock(noWait); err != nil {
		t.Fatal(err)
	}
	if m.word.Load() != 1 || m.owner != self || m.users != 1 {
		t.Errorf("locked: %+v", &m)
	}
	if err := m.lock(noWait); err != unix.ETIMEDOUT || m.word.Load() != 2 {
		t.Errorf("locked again: %v, word %d", err, m.word.Load())
	}
	m.unlock()
	if m.word.Load() != 0 || m.owner != 0 || m.users != 0 {
		t.Errorf("unlocked: %+v", &m)
	}
}

// A robust mutex whose owner has died is locked by the next, who says that it
// is consistent, or makes it useless for all.
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
	if m.word.Load() != uint32(self) || m.owner != self || m.users != 1 {
		t.Errorf("locked: %+v", &m)
	}
	if _, err := r.lock(noWait); err != unix.ETIMEDOUT {
		t.Errorf("locked again: %v", err)
	}
	if m.word.Load() != uint32(self)|waiters {
		t.Errorf("waited for: word %#x", m.word.Load())
	}
	m.word.Store(ownerDied | waiters) // so does the kernel
	died, err := r.lock(noWait)
	if !died || err != nil || m.owner != inconsistent {
		t.Errorf("after a death: %v, %v, owner %#x", died, err, m.owner)
	}
	r.consistent()
	r.unlock()
	if m.word.Load() != 0 || m.owner != 0 || m.users != 0 || m.next != 0 {
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
