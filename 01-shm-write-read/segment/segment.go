//go:build linux

// Package segment is what the writer and the reader of lesson 01 agree on:
// the key by which they meet, the layout of the shared memory segment, how
// each begins. The C programs of the tutorial use the same key and bytes.
package segment

import (
	"bytes"
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"example.com/shm-by-example/01-shm-write-read/ipc"
)

const (
	DefaultKey = ipc.Key(0x1234) // where none is chosen with -key
	Size       = 1032            // bytes of the segment
	BlockSize  = 1023            // bytes of a block, all the same letter

	taken = 2 // in Complete: a writer is about to begin
)

// Shared is the layout of the segment, Size bytes.
type Shared struct {
	Cnt      atomic.Int32        // offset 0: bytes in Buf; 0 none yet, -1 error
	Complete atomic.Int32        // offset 4: 1 after the last block
	Buf      [BlockSize + 1]byte // offset 8: a block and its NUL
}

// View lays Shared over an attached segment of Size bytes.
func View(mem []byte) *Shared {
	return (*Shared)(unsafe.Pointer((*[Size]byte)(mem))) // panics if shorter
}

// Fill writes a block of one letter and returns its size in bytes. Cnt is
// stored after it, so that while it is 0 there is no block.
func (s *Shared) Fill(letter byte) int {
	for i := range BlockSize {
		s.Buf[i] = letter
	}
	s.Buf[BlockSize] = 0
	s.Cnt.Store(BlockSize)
	s.Complete.Store(0) // it may have been "taken": see adopt.go
	return BlockSize
}

// Block returns the block that the segment holds, or "" while there is none
// that is whole. The writer may be overwriting Buf just now: a data race, and
// the layout has neither a lock nor a flag against it. The content tells: a
// block is one letter all over, so a mixture is none. A Cnt that cannot be,
// and the writer's -1, are errors.
func (s *Shared) Block() (string, error) {
	cnt := s.Cnt.Load()
	if cnt == -1 {
		return "", errors.New("the writer stopped before the end (cnt is -1)")
	} else if cnt < 0 || cnt > BlockSize {
		return "", fmt.Errorf("cnt is %d, not 0 to %d", cnt, BlockSize)
	}
	block := bytes.Clone(s.Buf[:cnt]) // the writer cannot change the copy
	if cnt == 0 || block[0] < ' ' || block[0] > '~' ||
		bytes.Count(block, block[:1]) != len(block) {
		return "", nil
	}
	return string(block), nil
}

// Blank tells whether nobody has written to the segment yet.
func (s *Shared) Blank() bool {
	return s.Cnt.Load() == 0 && s.Complete.Load() == 0 && s.Buf[0] == 0
}

// Letter is the one that block i is made of: A to Z, then A again.
func Letter(i uint) byte { return byte('A' + i%26) }

// Missed counts the blocks between last, "" at first, and the one read now.
// 26 blocks more look the same.
func Missed(last, now string) int {
	next := int('A')
	if last != "" {
		next = int(last[0]) + 1
	}
	return ((int(now[0])-next)%26 + 26) % 26
}
