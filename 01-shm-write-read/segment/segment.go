//go:build linux && (amd64 || arm64 || riscv64)

// Package segment holds what the writer and the reader agree on: the key, the
// layout of the segment, and what a block is. The C programs of the tutorial
// use the same key and the same bytes.
package segment

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"
)

const (
	Key          = 0x1234                // unless -key chooses another
	Size         = 1032                  // bytes of the segment
	BlockSize    = 1023                  // bytes of a block
	PollInterval = 10 * time.Millisecond // from one look to the next

	letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

// Shared is the layout of the segment. Both processes use Cnt and Complete.
// So these are atomic: the compiler keeps every access, and their order.
type Shared struct {
	Cnt      atomic.Int32        // offset 0: bytes in Buf; 0 none yet, -1 error
	Complete atomic.Int32        // offset 4: 1 after the last block
	Buf      [BlockSize + 1]byte // offset 8: one character throughout, and NUL
}

// View lays Shared over an attached segment. The conversion to an array checks
// the length, and panics if mem is too short.
func View(mem []byte) *Shared {
	return (*Shared)(unsafe.Pointer((*[Size]byte)(mem)))
}

// Claim claims an empty segment for this writer, and tells whether it could.
// It changes Complete from 0 to 2. The first block makes it 0 again. If two
// writers try, only one gets the segment: CompareAndSwap stores the 2 only if
// the old value is 0, and no process can change that value in between.
func (s *Shared) Claim(ctx context.Context, created bool) bool {
	if !created {
		// Its creator may be another writer that is about to write. So the
		// segment must stay empty for 1.5 s. A signal ends this wait.
		for n := 0; n < 150 && s.Cnt.Load() == 0 && ctx.Err() == nil; n++ {
			time.Sleep(PollInterval)
		}
		if ctx.Err() != nil {
			return false
		}
	}
	if !s.Complete.CompareAndSwap(0, 2) {
		return false
	}
	if s.Cnt.Load() == 0 && s.Buf[0] == 0 {
		return true
	}
	s.Complete.CompareAndSwap(2, 0) // another writer uses it: restore the 0
	return false
}

// Fill writes block i and returns its size. Block 0 is all A, block 25 is all
// Z, and block 26 is all A again. Fill stores Cnt last: while Cnt is 0, there
// is no block.
func (s *Shared) Fill(i uint) int {
	for n := range BlockSize {
		s.Buf[n] = letters[i%26]
	}
	s.Buf[BlockSize] = 0
	s.Complete.Store(0)
	s.Cnt.Store(BlockSize)
	return BlockSize
}

// Block returns a copy of what is in Buf, and whether it is a whole block:
// one printable character throughout. Anything else may be a mixture of two
// blocks, because the writer may be writing just now. Only the content shows
// that.
func (s *Shared) Block() (text string, whole bool, err error) {
	cnt := s.Cnt.Load()
	if cnt == -1 {
		return "", false, errors.New("the writer stopped early (cnt is -1)")
	} else if cnt < 0 || cnt > BlockSize {
		return "", false, fmt.Errorf("cnt is %d, not 0 to %d", cnt, BlockSize)
	}
	text = string(s.Buf[:cnt])
	whole = cnt > 0 && text[0] >= ' ' && text[0] <= '~' &&
		strings.Count(text, text[:1]) == len(text)
	return text, whole, nil
}

// Missed returns how many letters lie between the last block's letter and this
// one's. Last is 0 if there was no block before.
func Missed(last, now byte) int {
	i := strings.IndexByte(letters, last) // -1, just before A, if last is 0
	j := strings.IndexByte(letters, now)
	if j < 0 {
		return 0 // another program's character
	}
	return (j - i + 25) % 26
}
