//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

const size = int(unsafe.Sizeof(shared{})) // 304 bytes; on arm64 312

// shared is the layout of the segment. On arm64, add 8 to the offsets.
type shared struct {
	mutex   mutex // offset 0
	_       [padding]byte
	counter int32     // offset 40: only for the owner of the mutex
	message [256]byte // offset 44: with a robust mutex, the notes
}

// view lays shared over an attached segment. It panics if mem is too short.
func view(mem []byte) *shared {
	return (*shared)(unsafe.Pointer(&mem[:size][0]))
}

// kindBits returns the value for the field kind that -sync chooses.
func kindBits() uint32 {
	if *kind == "robust" {
		return processShared | robustKind
	}
	return processShared
}

// ftok makes a key of a file and a letter, as ftok(3) does: 8 bits of the
// letter, 8 of the file's device, 16 of its inode. It is -1 if there is no such
// file. Two files may have the same key.
func ftok(path string, letter byte) int {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return -1
	}
	return int(letter)<<24 | int(st.Dev&0xff)<<16 | int(st.Ino&0xffff)
}
