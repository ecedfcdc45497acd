//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"encoding/binary"
	"fmt"
	"os"
)

// A page is what stands behind one page of a process's memory.
type page struct {
	present, swapped bool
	frame            uint64 // its number in physical memory; 0 if not told
}

// pages reads what stands behind n pages from address on. /proc/PID/pagemap
// has 8 bytes for each: the frame in bits 0 to 54, where this process has
// CAP_SYS_ADMIN, else zeros; bit 62 for swapped out, bit 63 for present. A
// page that this process never touched is not present, even if another did.
func pages(pid int, address uint64, n int) ([]page, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", pid))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw := make([]byte, 8*n)
	at := int64(address / uint64(os.Getpagesize()) * 8)
	if _, err := f.ReadAt(raw, at); err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	all := make([]page, n)
	for i := range all {
		entry := binary.NativeEndian.Uint64(raw[8*i:])
		all[i] = page{entry>>63 == 1, entry>>62&1 == 1, 0}
		if all[i].present {
			all[i].frame = entry & (1<<55 - 1)
		}
	}
	return all, nil
}
