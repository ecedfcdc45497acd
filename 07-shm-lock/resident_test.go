//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// Each page that a process has touched is in RAM, and no other page is.
func TestResident(t *testing.T) {
	page := os.Getpagesize()
	id, err := unix.SysvShmGet(unix.IPC_PRIVATE, 9*page+1, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	mem, err := unix.SysvShmAttach(id, 0, 0)
	unix.SysvShmCtl(id, unix.IPC_RMID, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.SysvShmDetach(mem)
	for i, touched := range []int{0, 1, 1, 8, 9} {
		if i > 0 {
			mem[touched*page] = 1
		}
		want := map[int]int{0: 0, 1: 1, 2: 1, 3: 2, 4: 3}[i] * page
		if got, err := resident(mem); got != want || err != nil {
			t.Errorf("%d: %d bytes, %v; want %d", i, got, err, want)
		}
	}
}
