//go:build linux && (amd64 || arm64 || riscv64)

// Package message holds what the producer and the consumer agree on: a message
// in shared memory, its number, and a flag that says that it is ready. Nothing
// tells the producer that the message was read, so a slow consumer misses
// messages. The C programs of the tutorial use the same key and bytes.
package message

import (
	"bytes"
	"encoding/binary"
	"sync/atomic"
	"unsafe"
)

const (
	Key      = 12345 // of the segment, unless -key chooses another
	Size     = 264   // bytes of the segment
	textSize = 256   // bytes of the message in it

	Most = 1<<31 - 1 // messages of one run, since their numbers are int32
)

// Shared is the layout of the segment. Both programs access the text in words.
// Each access is atomic, so the compiler keeps the order of all of them.
type Shared struct {
	Counter atomic.Int32                // offset 0: the first message is 1
	Message [textSize / 4]atomic.Uint32 // offset 4: text, ends with NUL
	Ready   atomic.Int32                // offset 260: 1 = may be read
}

// View lays Shared over an attached segment. It panics if mem is too short.
func View(mem []byte) *Shared {
	return (*Shared)(unsafe.Pointer((*[Size]byte)(mem)))
}

// Put writes a message, up to 255 bytes of text. It leaves Ready 0: the caller
// stores the 1.
func (s *Shared) Put(number int32, text string) {
	var buf [textSize]byte
	copy(buf[:textSize-1], text)
	s.Ready.Store(0)
	s.Counter.Store(number)
	for i := range s.Message {
		s.Message[i].Store(binary.NativeEndian.Uint32(buf[4*i:]))
	}
}

// Get returns the message that is ready. If none is ready, ok is false. The
// producer may begin the next message during the copy. If the flag and the
// number are the same after the copy as before it, the producer has not begun
// another.
func (s *Shared) Get() (number int32, text string, ok bool) {
	var buf [textSize]byte
	number = s.Counter.Load()
	if s.Ready.Load() != 1 {
		return 0, "", false
	}
	for i := range s.Message {
		binary.NativeEndian.PutUint32(buf[4*i:], s.Message[i].Load())
	}
	if s.Ready.Load() != 1 || s.Counter.Load() != number {
		return 0, "", false
	}
	line, _, _ := bytes.Cut(buf[:], []byte{0})
	return number, string(line), true
}
