//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"log"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// show prints how much of a segment is resident. If the kernel does not tell,
// show prints that, and the program goes on.
func show(when string, mem []byte) {
	n, err := resident(mem)
	if err != nil {
		log.Printf("resident %s: not known: mincore: %v", when, err)
		return
	}
	log.Printf("resident %s: %d bytes", when, n)
}

// resident counts the bytes of a segment's pages that are in RAM, whichever
// process brought them there. mincore(2) stores one byte for each page. The
// lowest bit of the byte is 1 if the page is in RAM. golang.org/x/sys/unix has
// no function for mincore.
func resident(mem []byte) (bytes int, err error) {
	page := os.Getpagesize()
	pages := make([]byte, (len(mem)+page-1)/page)
	_, _, errno := unix.Syscall(unix.SYS_MINCORE,
		uintptr(unsafe.Pointer(&mem[0])), uintptr(len(mem)),
		uintptr(unsafe.Pointer(&pages[0])))
	if errno != 0 {
		return 0, errno
	}
	for _, p := range pages {
		bytes += int(p&1) * page
	}
	return bytes, nil
}
