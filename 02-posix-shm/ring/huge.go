//go:build linux && (amd64 || arm64 || riscv64)

package ring

import (
	"errors"
	"fmt"
	"log"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

const hugePage = 2 << 20 // bytes, on most machines

// MapHuge maps the object in a huge page and returns the memory. If it cannot,
// it returns nil. Either way it says on standard error what has happened.
func MapHuge(fd int) []byte {
	mem, err := mapHuge(fd)
	if err != nil {
		log.Printf("no huge page: %v", err)
	} else {
		log.Printf("the object is in a huge page")
	}
	return mem
}

// mapHuge maps the object in a huge page. MAP_HUGETLB, which the tutorial
// tries, never works for a file in tmpfs. Another way works. It maps the file
// where a huge page may begin, and asks the kernel to gather the file's pages
// into one huge page. The file may be shorter than that. See MADV_COLLAPSE in
// madvise(2), since Linux 6.1.
func mapHuge(fd int) ([]byte, error) {
	base, err := unix.MmapPtr(-1, 0, nil, 2*hugePage, unix.PROT_NONE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("mmap: %w", err)
	}
	at := unsafe.Add(base, hugePage-uintptr(base)%hugePage)
	mem := unsafe.Slice((*byte)(at), hugePage)
	_, err = unix.MmapPtr(fd, 0, at, hugePage,
		unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_FIXED)
	if err != nil {
		err = fmt.Errorf("mmap: %w", err)
	} else if err = unix.Madvise(mem, unix.MADV_COLLAPSE); err != nil {
		err = fmt.Errorf("madvise MADV_COLLAPSE: %w", err)
	} else {
		err = inHugePage(uintptr(at))
	}
	if err != nil {
		unix.MunmapPtr(base, 2*hugePage)
		return nil, err
	}
	return mem, nil
}

// inHugePage returns nil if /proc/self/smaps says that the mapping is in a huge
// page. Some kernels lack the file. Then nobody can tell, and that is an error,
// too. See proc(5).
func inHugePage(at uintptr) error {
	text, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return fmt.Errorf("madvise worked, but this cannot be seen: %w", err)
	}
	_, rest, _ := strings.Cut(string(text), fmt.Sprintf("\n%x-", at))
	_, rest, _ = strings.Cut(rest, "\nShmemPmdMapped:")
	kB := 0
	fmt.Sscan(rest, &kB)
	if kB == 0 {
		return errors.New("madvise worked, but the kernel does not map one")
	}
	return nil
}
