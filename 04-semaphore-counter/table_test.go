//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"testing"
	"unsafe"
)

// The offsets are the contract with programs in other languages, and with
// the C library.
func TestLayout(t *testing.T) {
	var l table
	var sem semT
	var ds semidDS
	for field, at := range map[string][2]uintptr{
		"data":           {unsafe.Offsetof(l.Data), 0},
		"count":          {unsafe.Offsetof(l.Count), 400},
		"the end":        {unsafe.Sizeof(l), size},
		"sem_t: private": {unsafe.Offsetof(sem.private), 8},
		"sem_t: the end": {unsafe.Sizeof(sem), semSize},
		"sem_perm.uid":   {unsafe.Offsetof(ds.UID), 4},
		"sem_otime":      {unsafe.Offsetof(ds.Otime), 48},
	} {
		if at[0] != at[1] {
			t.Errorf("%s is at %d, not %d", field, at[0], at[1])
		}
	}
}

// Whatever a segment contains, an update either works or is an error that
// changes nothing. If it works, the count is one higher, and the new line has
// the pid.
func FuzzAdd(f *testing.F) {
	f.Add(int32(0), int32(0))
	f.Add(int32(lines-1), int32(7))
	f.Add(int32(lines), int32(0))
	f.Add(int32(-1), int32(0))
	*work = 0
	f.Fuzz(func(t *testing.T, count, pid int32) {
		for _, sync := range []string{"sysv", "atomic"} {
			l := new(table)
			l.Count.Store(count)
			var m mechanism = &sysv{l, -1}
			if sync == "atomic" {
				m = atomicOnly{l}
			}
			got, err := m.add(t.Context(), pid|1)
			switch ok := count >= 0 && count < lines; {
			case ok != (err == nil):
				t.Errorf("%s, count %d: %v", sync, count, err)
			case ok && (got != count+1 || l.Count.Load() != got ||
				l.Data[count].Load() != pid|1):
				t.Errorf("%s, count %d: %d", sync, count, got)
			case !ok && l.Count.Load() != count:
				t.Errorf("%s, count %d became %d", sync, count, l.Count.Load())
			}
		}
	})
}
