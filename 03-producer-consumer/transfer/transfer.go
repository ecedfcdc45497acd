//go:build linux && (amd64 || arm64 || riscv64)

// Package transfer holds what the writer and the reader agree on: a buffer in
// shared memory, and two semaphores with which they take turns. The C programs
// of the tutorial use the same keys, bytes and semaphores.
package transfer

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"example.com/shm-by-example/03-producer-consumer/segment"
)

const (
	Key     = 0x1234 // of the segment, unless -key chooses another
	SemKey  = 0x5678 // of the semaphores, unless -semkey does
	Size    = 1028   // bytes of the segment
	BufSize = 1024   // bytes of the buffer in it

	Write = 0 // this semaphore is 1 when the writer may fill the buffer
	Read  = 1 // this semaphore is 1 when the reader may empty it
)

// Shared is the layout of the segment.
type Shared struct {
	Cnt atomic.Int32  // offset 0: bytes in Buf; 0 is the end, -1 an error
	Buf [BufSize]byte // offset 4
}

// Block returns what is in the buffer. Another program has stored Cnt, so Block
// checks it. At the end the block is empty.
func (s *Shared) Block() ([]byte, error) {
	cnt := s.Cnt.Load()
	if cnt == -1 {
		return nil, errors.New("the writer stopped early (cnt is -1)")
	} else if cnt < 0 || cnt > BufSize {
		return nil, fmt.Errorf("cnt is %d, not 0 to %d", cnt, BufSize)
	}
	return s.Buf[:cnt], nil
}

// CheckKeys checks the flags -key and -semkey.
func CheckKeys(key, semKey int) error {
	return errors.Join(segment.CheckKey("-key", key),
		segment.CheckKey("-semkey", semKey))
}

// View lays Shared over an attached segment. It panics if mem is too short.
func View(mem []byte) *Shared {
	return (*Shared)(unsafe.Pointer((*[Size]byte)(mem)))
}
