//go:build linux

package main

import (
	"context"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"example.com/shm-by-example/04-semaphore-counter/ipc"
)

// The offsets are the contract with programs in other languages, and with
// the C library.
func TestLayout(t *testing.T) {
	var l layout
	var sem semT
	var ds ipc.SemDesc
	for field, at := range map[string][2]uintptr{
		"data":           {unsafe.Offsetof(l.Data), 0},
		"count":          {unsafe.Offsetof(l.Count), 400},
		"the end":        {unsafe.Sizeof(l), size},
		"sem_t: private": {unsafe.Offsetof(sem.private), 8},
		"sem_t: the end": {unsafe.Sizeof(sem), semSize},
		"sem_perm.uid":   {unsafe.Offsetof(ds.Uid), 4},
		"sem_otime":      {unsafe.Offsetof(ds.Otime), 48},
	} {
		if at[0] != at[1] {
			t.Errorf("%s is at %d, not %d", field, at[0], at[1])
		}
	}
}

// Whatever is in the segment, an update leaves a count that is one higher,
// and its pid in the line before it; or it is an error and changes nothing.
func FuzzAdd(f *testing.F) {
	f.Add(int32(0), int32(0))
	f.Add(int32(slots-1), int32(7))
	f.Add(int32(slots), int32(0))
	f.Add(int32(-1), int32(0))
	shmid, err := unix.SysvShmGet(unix.IPC_PRIVATE, size, 0o600)
	if err != nil {
		f.Skip(err)
	}
	mem, err := ipc.Attach(shmid, 0)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		ipc.Detach(mem)
		ipc.Remove(shmid)
	})
	l := (*layout)(unsafe.Pointer((*[size]byte)(mem)))
	plain := &table{l, shmid, mem}
	f.Fuzz(func(t *testing.T, count, pid int32) {
		for _, m := range []interface {
			add(context.Context, int32, time.Duration) (int32, error)
		}{plain, atomicOnly{plain}} {
			clear(mem)
			l.Count.Store(count)
			got, err := m.add(t.Context(), pid|1, 0)
			switch ok := count >= 0 && count < slots; {
			case ok != (err == nil):
				t.Errorf("%T, count %d: %v", m, count, err)
			case ok && (got != count+1 || l.Count.Load() != got ||
				l.Data[count].Load() != pid|1):
				t.Errorf("%T, count %d: %d", m, count, got)
			case !ok && l.Count.Load() != count:
				t.Errorf("%T, count %d became %d", m, count, l.Count.Load())
			}
		}
	})
}
