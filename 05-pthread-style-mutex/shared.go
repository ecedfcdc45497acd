//go:build linux && (amd64 || arm64 || riscv64)

package main

import "unsafe"

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
